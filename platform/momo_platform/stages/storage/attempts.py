"""Where an attempt to make an artifact writes, and where a finished one's files are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from momo_platform.stages.manifest import Manifest
from momo_platform.stages.storage.folders import WorkerFolders


@dataclass
class Workspace:
    """Local folders that one attempt writes to. `lease` is None or the token of its driver."""

    name: str
    fingerprint: str
    attempt: str
    output: Path
    checkpoints: Path
    lease: str | None = None

    @property
    def place(self) -> str:
        """The artifact's folder in the storage."""
        return f"{self.name}/{self.fingerprint}"


def place_of(manifest: Manifest) -> str:
    """The folder in the storage of the attempt that a manifest names."""
    return f"{manifest.stage}/{manifest.fingerprint}/{manifest.attempt}"


class Attempts(Protocol):
    """In place on a folder that all machines see; by copies on an object store."""

    def path(self, manifest: Manifest) -> Path:
        """The files of a finished artifact, as a local folder. Raises UserError where they can't
        be had."""
        ...

    def problem(self, manifest: Manifest, *, checksums: bool) -> str | None:
        """What is wrong with a finished artifact's files, or None."""
        ...

    def begin(self, place: str, attempt: str) -> tuple[Path, Path]:
        """New folders for output and checkpoints; with the checkpoints that are there."""
        ...

    def worker_folders(self, workspace: Workspace) -> WorkerFolders:
        """The attempt's folders for processes on other machines."""
        ...

    def describe(self, workspace: Workspace) -> Mapping[str, Mapping[str, Any]]:
        """Files of an attempt with size and sha256; with time of change, where that stays."""
        ...

    def keep(self, workspace: Workspace, names: Mapping[str, Any]) -> None:
        """Bring the output's files to where they will be read: before there is a manifest."""
        ...

    def end(self, workspace: Workspace, manifest: Manifest | None) -> None:
        """The attempt is over; without a manifest it has failed."""
        ...
