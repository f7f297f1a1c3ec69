"""Where an attempt to make an artifact writes, and where a finished one's files are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from momo_platform.stages.manifest import FileState, Manifest
from momo_platform.stages.storage.folders import WorkerFolders

PARTS = "parts"
"""The folder, beside the attempts, of what they leave to each other until there is an artifact."""


@dataclass
class Workspace:
    """Local folders that one attempt writes to. `lease` is None or the token of its driver. `made`
    are the files that others wrote to the attempt's folder in the storage, with size and sha256.
    It `goes_on` where it was interrupted: its parts are there, and in the output what was `before`.
    """

    name: str
    fingerprint: str
    attempt: str
    output: Path
    checkpoints: Path
    lease: str | None = None
    goes_on: bool = False
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    before: Mapping[str, FileState] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The artifact's folder in the storage."""
        return f"{self.name}/{self.fingerprint}"


def place_of(manifest: Manifest) -> str:
    """The folder in the storage of the attempt that a manifest names."""
    return f"{manifest.stage}/{manifest.fingerprint}/{manifest.attempt}"


def check_made(workspace: Workspace, sizes: Mapping[str, int | None]) -> None:
    """Raise RuntimeError for a file of `made` that is not among those in the storage."""
    for name, facts in workspace.made.items():
        if sizes.get(name) != facts["size"]:
            raise RuntimeError(
                f"{workspace.place}/{workspace.attempt}: {name} was to have {facts['size']} bytes; "
                + (f"it has {sizes[name]}" if name in sizes else "it is not there")
            )


class Attempts(Protocol):
    """In place on a folder that all machines see; by copies on an object store."""

    def path(self, manifest: Manifest) -> Path:
        """The files of a finished artifact, as a local folder. Raises UserError where they can't
        be had."""
        ...

    def problem(self, manifest: Manifest, *, checksums: bool) -> str | None:
        """What is wrong with a finished artifact's files, or None."""
        ...

    def take_over(self, place: str, attempt: str, new: str) -> str | None:
        """The name under which an interrupted attempt is gone on with, or None where it is gone: a
        new one where that moves its files. Processes of the driver before, should there be some,
        then write to a folder that nobody reads."""
        ...

    def begin(self, place: str, attempt: str) -> tuple[Path, Path]:
        """Folders for output and checkpoints, with the checkpoints that are there and what the
        attempt has left in the storage."""
        ...

    def worker_folders(self, workspace: Workspace) -> WorkerFolders:
        """The attempt's folders for processes on other machines."""
        ...

    def describe(self, workspace: Workspace) -> Mapping[str, Mapping[str, Any]]:
        """Files of an attempt with size and sha256; with time of change, where that stays. Those
        of `made` are not read; those that were there before and neither told of nor changed are
        left out. Raises RuntimeError where one of `made` is not there."""
        ...

    def keep(
        self, workspace: Workspace, names: Mapping[str, Any], check: Callable[[], None]
    ) -> None:
        """Bring the output's files to where they will be read: before there is a manifest. `check`
        is called before each that is written there: it raises where that is no longer ours."""
        ...

    def end(self, workspace: Workspace, manifest: Manifest | None) -> None:
        """The attempt is over; without a manifest it has failed."""
        ...
