"""Attempts in a folder that all machines see: stages read and write where artifacts lie."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from momo_platform.files import is_partial, sync
from momo_platform.stages.checkpoints import CHECKPOINTS
from momo_platform.stages.manifest import Manifest, check_files, describe_files
from momo_platform.stages.storage.attempts import PARTS, Workspace, check_made, place_of
from momo_platform.stages.storage.folders import SharedFolders


class InPlace:
    """Below the storage's folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, manifest: Manifest) -> Path:
        return self._root / place_of(manifest)

    def problem(self, manifest: Manifest, *, checksums: bool) -> str | None:
        return check_files(self.path(manifest), manifest.files, checksums=checksums)

    def take_over(self, place: str, attempt: str, new: str) -> str | None:
        with contextlib.suppress(FileNotFoundError):
            (self._root / place / attempt).rename(self._root / place / new)
            sync(self._root / place)
            return new
        return None

    def begin(self, place: str, attempt: str) -> tuple[Path, Path]:
        output, checkpoints = self._root / place / attempt, self._root / place / CHECKPOINTS
        output.mkdir(parents=True, exist_ok=True)
        checkpoints.mkdir(exist_ok=True)
        for path in (*output.rglob(".*"), *(self._root / place / PARTS).rglob(".*")):
            if is_partial(path):  # of dead processes
                path.unlink(missing_ok=True)
        return output, checkpoints

    def worker_folders(self, workspace: Workspace) -> SharedFolders:
        return SharedFolders(workspace.output, workspace.checkpoints)

    def describe(self, workspace: Workspace) -> Mapping[str, Mapping[str, Any]]:
        files = describe_files(workspace.output, workspace.made, workspace.before)
        check_made(workspace, {name: facts["size"] for name, facts in files.items()})
        return files

    def keep(
        self, workspace: Workspace, names: Mapping[str, Any], check: Callable[[], None]
    ) -> None:
        """To the disk: a manifest must not be there after a power failure without its files."""
        files = {workspace.output / name for name in names}
        for path in (*files, *{f.parent for f in files}, workspace.output):
            sync(path)

    def end(self, workspace: Workspace, manifest: Manifest | None) -> None:
        """The next attempt cleans up after one that failed."""
