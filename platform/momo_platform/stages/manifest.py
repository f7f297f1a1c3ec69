"""The manifest: written last and atomically; without a valid one an artifact does not exist."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

from momo_platform.files import is_partial
from momo_platform.stages.errors import UserError

FILE_NAME = "manifest.json"
FileState = tuple[int, int, int, int]
_CONTENT_OF_NO_FILES = hashlib.sha256(b"[]").hexdigest()[:12]
_PACKAGES = ("ray", "torch", "timm", "transformers", "tokenizers", "pyarrow", "numpy", "pillow")


@dataclass(frozen=True)
class Manifest:
    """All that is known of a finished artifact.

    `files` maps relative paths to size, sha256 and (on a local storage) mtime_ns, `inputs` a role
    to name, fingerprint and content of the artifact that filled it, `code` a source file to its
    sha256.
    """

    stage: str
    fingerprint: str
    version: int
    attempt: str
    files: Mapping[str, Mapping[str, Any]]
    metrics: Mapping[str, Any]
    config: Any
    inputs: Mapping[str, Mapping[str, str]]
    git_commit: str
    packages: Mapping[str, str]
    code: Mapping[str, str]
    seconds: float
    resources: Mapping[str, Any]
    created: str

    @property
    def content(self) -> str:
        """12 hex digits over the files' names and checksums: equal for equal content. A stage that
        makes no files has said what it found by its metrics alone."""
        facts: Any = sorted((name, facts["sha256"]) for name, facts in self.files.items())
        text = json.dumps(facts or self.metrics, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def is_content(self, recorded: str) -> bool:
        """Whether a content that another manifest recorded is this one's. Manifests of earlier
        versions recorded the same for all stages without files."""
        return recorded == self.content or (not self.files and recorded == _CONTENT_OF_NO_FILES)


_values_of = itemgetter(*(f.name for f in dataclasses.fields(Manifest)))


def check_files(
    folder: Path, files: Mapping[str, Mapping[str, Any]], *, checksums: bool = False
) -> str | None:
    """What is wrong with the files below `folder`, or None. Only files whose time of change
    differs from `files` are hashed, unless `checksums`."""
    for name, facts in files.items():
        path = folder / name
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return f"output file missing: {name}"
        except OSError as error:  # it may be whole: to make it again would delete it
            raise UserError(f"{path}: can't be read ({error.strerror})") from error
        if status.st_size != facts["size"]:
            return (
                f"output file {name} has {status.st_size} bytes, its manifest says {facts['size']}"
            )
        touched = status.st_mtime_ns != facts.get("mtime_ns")
        if (checksums or touched) and sha256_of(path) != facts["sha256"]:
            return f"output file {name} was altered: its checksum differs from the manifest's"
    return None


def sha256_of(path: Path) -> str:
    """Hex digest of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_states(folder: Path) -> dict[str, FileState]:
    """Relative path → what changes when a file is written, of every whole file below `folder`."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not is_partial(path):
            status = path.stat()
            state = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
            found[path.relative_to(folder).as_posix()] = state
    return found


def describe_files(
    folder: Path,
    made: Mapping[str, Mapping[str, Any]] | None = None,
    before: Mapping[str, FileState] | None = None,
) -> dict[str, dict[str, Any]]:
    """Relative path → size, sha256 and mtime_ns of every whole file below `folder`; the sha256 of
    those in `made` is taken from there. Others that are still as they were `before` are left out.
    """
    known = {name: facts["sha256"] for name, facts in (made or {}).items()}
    found = {}
    for name, state in file_states(folder).items():
        if name in known or (before or {}).get(name) != state:
            facts = {"size": state[0], "mtime_ns": state[1]}
            found[name] = facts | {"sha256": known.get(name) or sha256_of(folder / name)}
    return found


def source_hashes(modules: Iterable[str]) -> dict[str, str]:
    """Source file (`package/module.py`) → sha256, for modules and whole packages.

    Imports nothing, not even the parents of a dotted name: a plan must load no torch.
    """
    hashes: dict[str, str] = {}
    for module in modules:
        top, *rest = module.split(".")
        spec = importlib.util.find_spec(top)
        if spec is None or spec.origin is None:
            continue
        origin = Path(spec.origin)
        root = origin.parent.parent if origin.name == "__init__.py" else origin.parent
        target = root.joinpath(top, *rest)
        files = target.rglob("*.py") if target.is_dir() else [target.with_suffix(".py")]
        for file in sorted(files):
            if file.is_file():
                name = file.relative_to(root).as_posix()
                hashes[name] = sha256_of(file)
    return hashes


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names whose hashes differ."""
    return [name for name in sorted({*now, *before}) if now.get(name) != before.get(name)]


def git_commit() -> str:
    """The commit of the code that runs, with '+changes' when the tree differs; '' outside git, also
    where this file is installed below another project's repository.

    Not of the repository that git's own variables name (hooks and `git rebase --exec` set them),
    whoever owns the folder, and without a write to it.
    """
    import subprocess

    file = Path(__file__).resolve()
    known = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", "-c", "safe.directory=*", "-C", str(file.parent)]
        return subprocess.run(
            [*command, *arguments],
            capture_output=True,
            env=known,
            check=True,
            encoding="utf-8",
            errors="replace",
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        dirty = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


@lru_cache(maxsize=1)
def package_versions() -> dict[str, str]:
    """Versions of the packages that decide what a stage computes."""
    import importlib.metadata

    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def parse_manifest(text: str | bytes) -> Manifest | None:
    """A manifest from its JSON; None when it is not whole. Fields that a newer version of this
    code has added are left out."""
    try:
        document = json.loads(text)
        manifest = Manifest(*_values_of(document))
    except (ValueError, KeyError, TypeError):
        return None
    mappings = (manifest.metrics, manifest.packages, manifest.code, manifest.resources)
    is_whole = (
        all(isinstance(m, dict) for m in mappings)
        and _has_each(manifest.files, "size", "sha256")
        and _has_each(manifest.inputs, "name", "fingerprint", "content")
    )
    return manifest if is_whole else None


def _has_each(values: Any, *keys: str) -> bool:
    """Whether it is a dictionary of dictionaries with these keys."""
    return isinstance(values, dict) and all(
        isinstance(v, dict) and all(k in v for k in keys) for v in values.values()
    )


def damage(raw: bytes | None) -> str | None:
    """What is wrong with a manifest that is not whole, in words; None for a whole one or none."""
    if raw is None or parse_manifest(raw) is not None:
        return None
    return f"{FILE_NAME} is empty" if not raw.strip() else f"{FILE_NAME} is damaged or cut off"


def manifest_json(manifest: Manifest) -> str:
    """Inverse of `parse_manifest`."""
    return json.dumps(dataclasses.asdict(manifest), indent=1, sort_keys=True)
