"""Attempts on an object store: stages read and write copies on their machine.

A stage writes to a scratch folder; its files are uploaded when it has ended, but for those that its
tasks wrote to the store themselves. An input that is asked for as a folder is fetched into a cache
by content and checked against the manifest's sha256 before it is used. Whole checkpoints are
uploaded while the stage runs, by the process that writes them (`mirror.py`).
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from momo_platform.stages.checkpoints import CHECKPOINTS
from momo_platform.stages.errors import UserError
from momo_platform.stages.manifest import Manifest, check_files, describe_files
from momo_platform.stages.storage.attempts import Workspace, check_made, place_of
from momo_platform.stages.storage.mirror import CheckpointMirror, MirroredFolders
from momo_platform.stages.storage.objects import ObjectFiles
from momo_platform.stages.storage.scratch import artifact_cache, scratch_folder, sign


def _cached(manifest: Manifest) -> Path:
    return artifact_cache() / f"{manifest.stage}-{manifest.content}"


def _into_cache(folder: Path, target: Path) -> None:
    """Another process may have put the same content there first, which is as good."""
    with contextlib.suppress(OSError):
        if target.is_dir():  # it was found damaged
            target.rename(target.with_name(f"fetch-old-{uuid.uuid4().hex}"))
    try:
        folder.rename(target)
    except OSError:
        if not target.is_dir():
            raise


class Copies:
    """Of the files of one store."""

    def __init__(self, files: ObjectFiles) -> None:
        self._files = files
        self._mirrors: dict[str, CheckpointMirror] = {}

    def path(self, manifest: Manifest) -> Path:
        """In the cache, fetched and checked when they aren't there. Raises UserError for an object
        that is missing or does not have the manifest's checksum."""
        target = _cached(manifest)
        if target.is_dir() and check_files(target, manifest.files) is None:
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetch-") as scratch:
            sign(Path(scratch))
            folder = Path(scratch) / "files"
            folder.mkdir()
            for name in manifest.files:
                with contextlib.suppress(FileNotFoundError):  # check_files names it
                    self._files.download(f"{place_of(manifest)}/{name}", folder / name)
            if problem := check_files(folder, manifest.files, checksums=True):
                raise UserError(
                    f"{self._files.uri}: {manifest.stage}/{manifest.fingerprint}: {problem}; run "
                    f"again with --rerun {manifest.stage}"
                )
            _into_cache(folder, target)
        return target

    def problem(self, manifest: Manifest, *, checksums: bool) -> str | None:
        place = place_of(manifest)
        sizes = {entry.name: entry.size for entry in self._files.below(place)}
        for name, facts in manifest.files.items():
            size = sizes.get(name)
            if size is None:
                return f"output file missing: {name}"
            if size != facts["size"]:
                return f"output file {name} has {size} bytes, its manifest says {facts['size']}"
        if checksums:
            with tempfile.TemporaryDirectory() as scratch:
                for name, facts in manifest.files.items():
                    self._files.download(f"{place}/{name}", Path(scratch) / "file")
                    if check_files(Path(scratch), {"file": facts}, checksums=True):
                        return (
                            f"output file {name} was altered: its checksum differs from the "
                            "manifest's"
                        )
        return None

    def take_over(self, place: str, attempt: str, new: str) -> str | None:
        """Under its own name: to move it, a store would copy all that it holds."""
        return attempt

    def begin(self, place: str, attempt: str) -> tuple[Path, Path]:
        scratch = scratch_folder(place.partition("/")[0])
        output, checkpoints = scratch / "output", scratch / CHECKPOINTS
        output.mkdir()
        checkpoints.mkdir()
        mirror = CheckpointMirror(self._files, checkpoints, f"{place}/{CHECKPOINTS}")
        mirror.start()
        self._mirrors[attempt] = mirror
        return output, checkpoints

    def worker_folders(self, workspace: Workspace) -> MirroredFolders:
        return MirroredFolders(
            self._files.uri, workspace.place, workspace.attempt, workspace.output
        )

    def describe(self, workspace: Workspace) -> Mapping[str, Mapping[str, Any]]:
        files = describe_files(workspace.output, workspace.made, workspace.before)
        if workspace.made:
            there = self._files.below(f"{workspace.place}/{workspace.attempt}")
            check_made(workspace, {entry.name: entry.size for entry in there})
        found = {n: {k: v for k, v in f.items() if k != "mtime_ns"} for n, f in files.items()}
        return found | workspace.made

    def keep(
        self, workspace: Workspace, names: Mapping[str, Any], check: Callable[[], None]
    ) -> None:
        self._mirrors.pop(workspace.attempt).stop(final=False)
        for name in (n for n in names if n not in workspace.made):
            check()
            target = f"{workspace.place}/{workspace.attempt}/{name}"
            self._files.upload(workspace.output / name, target)

    def end(self, workspace: Workspace, manifest: Manifest | None) -> None:
        """After a failure the newest checkpoint is kept for the next attempt."""
        mirror = self._mirrors.pop(workspace.attempt, None)
        if mirror is not None:
            with contextlib.suppress(OSError):
                mirror.stop(final=True)
        if manifest is not None and not workspace.made:
            _into_cache(workspace.output, _cached(manifest))
        shutil.rmtree(workspace.output.parent, ignore_errors=True)
