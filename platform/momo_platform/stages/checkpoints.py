"""Which checkpoints of an unfinished artifact are whole. Needs no torch.

A checkpoint is a folder `step-00000400` whose `manifest.json`, its last file, names the others:
`files` with their sizes, `sha256` with their checksums (earlier versions recorded none).
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from momo_platform.stages.manifest import FILE_NAME, sha256_of
from momo_platform.stages.storage.files import Files

CHECKPOINTS = "checkpoints"
"""The folder of an unfinished artifact's checkpoints, beside its attempts."""


@dataclass(frozen=True)
class Checkpoints:
    """The step of the newest whole one, and those of the damaged ones after it, in order."""

    newest: int | None = None
    damaged: tuple[int, ...] = ()


def checkpoint_step(name: str) -> int | None:
    """400 for `step-00000400`; None for another name."""
    digits = name.removeprefix("step-")
    return int(digits) if digits != name and digits.isdigit() else None


def whole_and_damaged(steps: Iterable[int], damage: Callable[[int], str | None]) -> Checkpoints:
    """Sort finished checkpoints by `damage`, which names a step's damaged file."""
    damaged: list[int] = []
    for step in sorted(steps, reverse=True):
        if damage(step) is None:
            return Checkpoints(step, tuple(reversed(damaged)))
        damaged.append(step)
    return Checkpoints(None, tuple(reversed(damaged)))


def damaged_by_size(manifest: bytes, size_of: Callable[[str], int | None]) -> str | None:
    """The first file without the size that the manifest says, the manifest where it is not whole
    itself, or None."""
    try:
        files = json.loads(manifest).get("files", {})
        return next((name for name, size in files.items() if size_of(name) != size), None)
    except (ValueError, AttributeError):
        return FILE_NAME


def checkpoints_below(files: Files, place: str, without: Collection[int] = ()) -> Checkpoints:
    """Of a folder `place` in a bucket, by its listing and the manifests; `without` some steps."""
    sizes: dict[int, dict[str, int | None]] = {}
    for entry in files.below(place):
        folder, _, file = entry.name.partition("/")
        if (step := checkpoint_step(folder)) is not None and step not in without:
            sizes.setdefault(step, {})[file] = entry.size

    def damage(step: int) -> str | None:
        manifest = files.get(f"{place}/step-{step:08d}/{FILE_NAME}") or b""
        return damaged_by_size(manifest, sizes[step].get)

    return whole_and_damaged((s for s, there in sizes.items() if FILE_NAME in there), damage)


def checkpoints_in(folder: Path, without: Collection[int] = ()) -> Checkpoints:
    """As `checkpoints_below`, of a folder on this machine, where links may lead elsewhere."""
    steps = {step: path for step, path in finished(folder) if step not in without}
    return whole_and_damaged(steps, lambda step: damaged_file(steps[step]))


def finished(folder: Path) -> list[tuple[int, Path]]:
    """Step and folder of each checkpoint that has a manifest, newest first."""
    found = [(checkpoint_step(path.name), path) for path in folder.glob("step-*")]
    named = [(step, path) for step, path in found if step is not None]
    return sorted(((s, p) for s, p in named if (p / FILE_NAME).exists()), reverse=True)


def damaged_file(folder: Path) -> str | None:
    """The name of a file that is missing, cut off or unreadable, or None; reads the manifest only.
    A checkpoint that was never finished lacks its manifest."""
    try:
        return damaged_by_size((folder / FILE_NAME).read_bytes(), lambda n: _size(folder / n))
    except OSError:
        return FILE_NAME


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def altered_file(folder: Path, needed: Sequence[str] = ()) -> str | None:
    """As `damaged_file`, and every file is read: by its checksum where the manifest has it.

    `needed`: files that the manifest has to name. Raises OSError where the storage can't be read
    now, other than by a fault of its disk.
    """
    if bad := damaged_file(folder):
        return bad
    document = json.loads((folder / FILE_NAME).read_bytes())
    files, checksums = document.get("files", {}), document.get("sha256", {})
    if not isinstance(checksums, dict) or any(name not in files for name in needed):
        return FILE_NAME
    return next((n for n in files if not _is_sound(folder / n, checksums.get(n))), None)


def _is_sound(path: Path, checksum: str | None) -> bool:
    try:
        return _is_readable(path) if checksum is None else sha256_of(path) == checksum
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return False  # a bad sector stays one


def _is_readable(path: Path) -> bool:
    """Without a checksum: whether a file's structure is whole."""
    if path.suffix == ".json":
        try:
            return isinstance(json.loads(path.read_bytes()), dict)
        except ValueError:
            return False
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy"):
                return True
        except SafetensorError:
            return False
    return True
