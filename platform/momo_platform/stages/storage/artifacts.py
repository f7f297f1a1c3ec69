"""Artifacts: `<storage>/<name>/<12 hex digits>/`, whatever the storage is.

An artifact's folder holds `manifest.json`, which names the attempt that made it, the attempt
folders, `checkpoints/` and `parts/` while it is being made, and a lease while somebody works on it.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from momo_platform.stages.checkpoints import (
    CHECKPOINTS,
    Checkpoints,
    checkpoints_below,
    checkpoints_in,
)
from momo_platform.stages.errors import UserError, unreadable
from momo_platform.stages.fingerprint import is_fingerprint
from momo_platform.stages.manifest import (
    FILE_NAME,
    Manifest,
    damage,
    file_states,
    manifest_json,
    parse_manifest,
)
from momo_platform.stages.stage import Artifact
from momo_platform.stages.storage.attempts import PARTS, Attempts, Workspace, place_of
from momo_platform.stages.storage.files import Entry, Files
from momo_platform.stages.storage.folders import WorkerFolders, check_seen
from momo_platform.stages.storage.leases import LeaseKind, Leases
from momo_platform.stages.storage.place import Place

FAILURE_FILE = "failure.txt"
_ATTEMPT = ".attempt"
"""Among the parts: which attempt they are of."""
_NOT_OURS = ("lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information")


class LeaseLost(RuntimeError):
    """Another driver has taken this artifact over; the attempt must not publish."""


def read_manifest(files: Files, path: str) -> Manifest | None:
    """The manifest at `path`; None when there is none or it is not whole.

    Raises UserError for one that is there and can't be read: taken for absent, its artifact would
    be made again and its files deleted.
    """
    raw = _read(files, path)
    return None if raw is None else parse_manifest(raw)


def _read(files: Files, path: str) -> bytes | None:
    try:
        return files.get(path)
    except OSError as error:
        raise UserError(files.unreadable(path, error)) from error


class Storage:
    """The artifacts of one place; `open_storage` makes it. `files` are all that lies there."""

    def __init__(self, files: Files, attempts: Attempts, lease_kind: LeaseKind) -> None:
        self.files, self._attempts, self._lease_kind = files, attempts, lease_kind

    @property
    def uri(self) -> str:
        """What `open_storage` takes to open it in another process."""
        return self.files.uri

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine, or one that machines share."""
        return self.files.root is not None

    @property
    def local_root(self) -> Path:
        """Where what is no artifact lies (logs, sweeps, the link to the newest report): the storage
        itself where it is a folder, else `runs` here."""
        return self.files.root or Path("runs").absolute()

    def create(self) -> None:
        """Where a run is to write. Raises UserError for a place that can't be made or written."""
        self.files.create()

    def folder(self, name: str, fingerprint: str) -> Any:
        """The place of an artifact, existing or not: a Path here, a URI on object storage."""
        return self.files.place(f"{name}/{fingerprint}")

    def now(self) -> float:
        """The time by the storage's own clock; by ours where it can't be written."""
        try:
            return self.files.now()
        except OSError:
            return time.time()

    # -- what is there -------------------------------------------------------------------------

    def manifest(self, name: str, fingerprint: str) -> Manifest | None:
        """The artifact's manifest, or None when the artifact does not exist. A copy in another
        folder is none."""
        found = read_manifest(self.files, f"{name}/{fingerprint}/{FILE_NAME}")
        own = found is not None and (found.stage, found.fingerprint) == (name, fingerprint)
        return found if own else None

    def artifact(self, name: str, fingerprint: str) -> Artifact | None:
        """The finished artifact, or None."""
        manifest = self.manifest(name, fingerprint)
        return None if manifest is None else self.artifact_of(manifest)

    def artifact_of(self, manifest: Manifest) -> Artifact:
        """The artifact that a manifest is of. Its files are read where they lie."""
        place = Place(self.uri, place_of(manifest), shared=self.is_local)
        return Artifact(manifest.stage, manifest.fingerprint, place, manifest)

    def attempt_path(self, manifest: Manifest) -> Path:
        """The files of a finished artifact, as a local folder. Raises UserError where they had to
        be fetched and are not what the manifest says."""
        return self._attempts.path(manifest)

    def damage(self, name: str, fingerprint: str) -> str | None:
        """What is wrong with a manifest that is there and not whole, or None. Raises UserError for
        one that can't be read."""
        return damage(_read(self.files, f"{name}/{fingerprint}/{FILE_NAME}"))

    def problem(self, manifest: Manifest, *, checksums: bool = False) -> str | None:
        """What is wrong with an artifact's files, or None.

        Sizes are always compared. In a folder, a file whose time of change is no longer the
        manifest's is hashed, so an altered one is found; `checksums` hashes every file.
        """
        return self._attempts.problem(manifest, checksums=checksums)

    def names(self) -> list[str]:
        """Folders that may hold a stage's artifacts: not hidden ones, which others keep there."""
        found = [e.name for e in self.files.entries("") if e.size is None]
        return [n for n in found if not n.startswith(".") and n not in _NOT_OURS]

    def entries_of(self, name: str) -> list[Entry]:
        """What lies in a name's folder. Raises UserError for one that can't be read."""
        try:
            return self.files.entries(name)
        except OSError as error:
            told = unreadable(error, f"{self.uri}/{name}")
            raise UserError(f"{told}; make it readable, or move it out of the storage") from error

    def others(self, name: str) -> list[Manifest]:
        """All manifests of a stage's name, newest first; those that can't be read are left out."""
        return self._manifests(name, [])

    def all_manifests(self, problems: list[str] | None = None) -> list[Manifest]:
        """Every artifact of the storage, by name, newest first.

        What can't be read is left out and told in `problems`; without that it is a UserError.
        """
        told: list[str] = []
        found = [m for name in self.names() for m in self._manifests(name, told)]
        if told and problems is None:
            raise UserError(told[0])
        if problems is not None:
            problems += told
        return found

    def _manifests(self, name: str, problems: list[str]) -> list[Manifest]:
        found = []
        try:
            for entry in self.entries_of(name):
                try:
                    if entry.size is None and (one := self.manifest(name, entry.name)) is not None:
                        found.append(one)
                except UserError as error:
                    if is_fingerprint(entry.name):
                        problems.append(str(error))
        except UserError as error:
            problems.append(str(error))
        return sorted(found, key=lambda m: m.created, reverse=True)

    # -- leases --------------------------------------------------------------------------------

    def leases(self) -> Leases:
        """A driver's leases on this storage."""
        return self._lease_kind.leases()

    def lease_holder(self, name: str, fingerprint: str) -> str | None:
        """Who holds a live lease on an artifact ('host, process 123'), or None."""
        return self._lease_kind.holder(self.folder(name, fingerprint), self.now())

    def lease_token(self, folder: Any) -> str | None:
        """The token of whoever holds the lease on an artifact's folder now, or None."""
        return self._lease_kind.token(folder)

    def _check_lease(self, name: str, fingerprint: str, lease: str | None) -> None:
        if lease is None:
            return
        folder = self.folder(name, fingerprint)
        if self.is_local:
            check_seen(folder)  # the driver made it with its lease
        if self.lease_token(folder) != lease:
            raise LeaseLost(f"{name}: the lease went to another driver")

    # -- making one ----------------------------------------------------------------------------

    def newest_checkpoint(self, name: str, fingerprint: str) -> int | None:
        """The step of the newest whole `step-XXXXXXXX` checkpoint of an unfinished artifact."""
        return self.checkpoints(name, fingerprint).newest

    def checkpoints(
        self, name: str, fingerprint: str, without: Collection[int] = ()
    ) -> Checkpoints:
        """Of an unfinished artifact, by their manifests and their files' sizes; `without` some
        steps."""
        place = f"{name}/{fingerprint}/{CHECKPOINTS}"
        if self.is_local:
            return checkpoints_in(self.local_root / place, without)
        return checkpoints_below(self.files, place, without)

    def drop_checkpoints(self, name: str, fingerprint: str) -> None:
        """Forget what an unfinished artifact could be resumed from: an attempt that nothing names
        is not gone on with."""
        for folder in (CHECKPOINTS, PARTS):
            self.files.remove(f"{name}/{fingerprint}/{folder}")

    def place(self, name: str, fingerprint: str) -> Place:
        """Where an artifact is made, for processes on any machine. There a folder that the driver
        made must be seen."""
        place = Place(self.uri, f"{name}/{fingerprint}")
        return place if (folder := place.folder) is None else Place(str(folder), shared=True)

    def unfinished_attempt(self, name: str, fingerprint: str) -> str | None:
        """The attempt that `begin` would go on with, or None."""
        attempt = (self.files.get(f"{name}/{fingerprint}/{PARTS}/{_ATTEMPT}") or b"").decode()
        manifest = self.manifest(name, fingerprint)
        # A finished one's parts are left where its driver was killed before they were deleted.
        is_finished = manifest is not None and manifest.attempt == attempt
        return None if is_finished or not attempt else attempt

    def begin(
        self,
        name: str,
        fingerprint: str,
        lease: str | None = None,
        *,
        continues: bool = False,
    ) -> Workspace:
        """Folders for one attempt; those of dead attempts go. They are fresh unless it `continues`
        an interrupted one that was begun so, whose output and parts are there.

        Only a lease's holder may do so: raises LeaseLost when `lease` is no longer the holder's.
        """
        self._check_lease(name, fingerprint, lease)
        place, manifest = f"{name}/{fingerprint}", self.manifest(name, fingerprint)
        unfinished = self.unfinished_attempt(name, fingerprint) if continues else None
        attempt = f"attempt-{uuid.uuid4().hex[:8]}"
        taken = unfinished and self._attempts.take_over(place, unfinished, attempt)
        if taken:
            attempt = taken
            self._note_attempt(place, attempt)
        elif continues:  # parts tell of files that are not in the new one
            self.files.remove(f"{place}/{PARTS}")
        # Files whose manifest was cut off may be all that is left of hours: they stay till the end.
        if self.damage(name, fingerprint) is None:
            kept = (attempt, "" if manifest is None else manifest.attempt)
            self._clear(place, lambda n: n.startswith("attempt-") and n not in kept)
        folders = self._attempts.begin(place, attempt)
        if continues and not taken:
            self._note_attempt(place, attempt)
        before = file_states(folders[0])
        return Workspace(
            name, fingerprint, attempt, *folders, lease, goes_on=bool(taken), before=before
        )

    def _note_attempt(self, place: str, attempt: str) -> None:
        self.files.put(f"{place}/{PARTS}/{_ATTEMPT}", attempt, durably=True)

    def worker_folders(self, workspace: Workspace) -> WorkerFolders:
        """The attempt's folders for processes on other machines."""
        return self._attempts.worker_folders(workspace)

    def describe(self, workspace: Workspace) -> Mapping[str, Mapping[str, Any]]:
        """Files of an attempt with size, sha256 and, in a folder, time of change."""
        return self._attempts.describe(workspace)

    def publish(self, workspace: Workspace, manifest: Manifest) -> None:
        """Write the manifest, the last step; then delete checkpoints, parts and other
        attempts. What an interrupted attempt left and this one's manifest does not name goes first.

        Raises LeaseLost when another driver has taken the artifact over meanwhile.
        """
        check = partial(self._check_lease, workspace.name, workspace.fingerprint, workspace.lease)
        check()
        self._attempts.keep(workspace, manifest.files, check)
        folder = f"{workspace.place}/{workspace.attempt}"
        for entry in self.files.below(folder) if workspace.goes_on else ():
            if entry.size is not None and entry.name not in manifest.files:
                check()
                self.files.remove(f"{folder}/{entry.name}")
        check()
        path = f"{workspace.place}/{FILE_NAME}"
        self.files.put(path, manifest_json(manifest), durably=True)
        self._clear(workspace.place, lambda n: n != workspace.attempt and "lease" not in n)
        self._attempts.end(workspace, manifest)

    def _clear(self, place: str, goes: Callable[[str], bool]) -> None:
        """Delete folders of an artifact, by their names."""
        for entry in self.files.entries(place):
            if entry.size is None and goes(entry.name):
                self.files.remove(f"{place}/{entry.name}")

    def abandon(self, workspace: Workspace) -> None:
        """After a failure: what the next attempt can go on from is kept."""
        self._attempts.end(workspace, None)

    def write_failure(self, name: str, fingerprint: str, text: str) -> str | None:
        """Keep a traceback beside the artifact; returns where, None when that failed too."""
        path = f"{name}/{fingerprint}/{FAILURE_FILE}"
        with contextlib.suppress(OSError):  # the disk may be what failed
            self.files.put(path, text)
            return f"{self.uri}/{path}"
        return None

    def clear_failure(self, name: str, fingerprint: str) -> None:
        """Forget the last failure."""
        self.files.remove(f"{name}/{fingerprint}/{FAILURE_FILE}")

    def delete(self, name: str, fingerprint: str) -> None:
        """Delete an artifact, its manifest first, so that nobody sees half of it."""
        self.files.remove(f"{name}/{fingerprint}/{FILE_NAME}")
        self.files.remove(f"{name}/{fingerprint}", strictly=True)
