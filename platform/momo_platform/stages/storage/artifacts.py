"""Where artifacts lie: `<storage>/<name>/<12 hex digits>/`.

An artifact's folder holds `manifest.json`, which names the attempt that made it, the attempt
folders, `checkpoints/` while it is being made, and a lease while somebody works on it.

`Storage` is a local or shared folder, used in place; `ObjectStorage` (`object_storage.py`) keeps
the same layout below a `pyarrow.fs` URI. `open_storage` chooses by the URI.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momo_platform.stages.checkpoints import (
    Checkpoints,
    damaged_file,
    finished,
    whole_and_damaged,
)
from momo_platform.stages.errors import UserError, unreadable
from momo_platform.stages.fingerprint import is_fingerprint
from momo_platform.stages.manifest import (
    FILE_NAME,
    Manifest,
    check_files,
    damage,
    describe_files,
    read_manifest,
    write_manifest,
)
from momo_platform.stages.stage import Artifact
from momo_platform.stages.storage.folders import SharedFolders, WorkerFolders, check_seen
from momo_platform.stages.storage.local_leases import Leases, holder
from momo_platform.stages.storage.tree import Entry, LocalTree, Tree

FAILURE_FILE = "failure.txt"
CHECKPOINTS = "checkpoints"
_NOT_OURS = ("lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information")


@dataclass
class Workspace:
    """Local folders that one attempt writes to. `lease` is None or the token of its driver."""

    name: str
    fingerprint: str
    attempt: str
    output: Path
    checkpoints: Path
    lease: str | None = None


class LeaseLost(RuntimeError):
    """Another driver has taken this artifact over; the attempt must not publish."""


def own(manifest: Manifest | None, name: str, fingerprint: str) -> Manifest | None:
    """A manifest where it belongs; a copy in another folder is no artifact."""
    found = manifest is not None and (manifest.stage, manifest.fingerprint) == (name, fingerprint)
    return manifest if found else None


class Storage:
    """A local folder of artifacts. Raises UserError for a folder that can't be made."""

    def __init__(self, uri: str | os.PathLike[str]) -> None:
        text = os.fspath(uri).removeprefix("file://")
        if "://" in text:
            raise UserError(f"storage {text} is no local folder; use open_storage")
        try:
            self.root = Path(text).expanduser().resolve()
        except RuntimeError as error:  # a user without a home, or unknown
            raise UserError(f"storage {text}: {error} Give the folder without ~") from error
        self.tree: Tree = LocalTree(self.root)

    @property
    def uri(self) -> str:
        """What `open_storage` takes to open it in another process."""
        return str(self.root)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine, or one that machines share."""
        return "://" not in self.uri

    @property
    def local_root(self) -> Path:
        """Where what is no artifact lies (logs, sweeps, the link to the newest report): the storage
        itself where it is a folder, else `runs` here."""
        return Path(self.uri) if self.is_local else Path("runs").absolute()

    def create(self) -> None:
        """Make the root folder, where a run is to write."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not os.access(self.root, os.W_OK | os.X_OK):
                sealed = os.statvfs(self.root).f_flag & os.ST_RDONLY
                code = errno.EROFS if sealed else errno.EACCES
                raise OSError(code, os.strerror(code))
        except OSError as error:
            raise self._unfit(error.strerror) from error

    def check_place(self) -> None:
        """Raises UserError, as `create` would, where a file is in the way of the root folder."""
        try:
            in_the_way = not stat.S_ISDIR(self.root.stat().st_mode)
            code = errno.EEXIST
        except NotADirectoryError:
            in_the_way, code = True, errno.ENOTDIR
        except OSError:  # not there yet, or told by what reads it
            return
        if in_the_way:
            raise self._unfit(os.strerror(code))

    def _unfit(self, why: str | None) -> UserError:
        return UserError(f"storage {self.root}: {why}; choose another folder with --storage")

    def leases(self) -> Leases:
        """A driver's leases on this storage."""
        return Leases()

    def folder(self, name: str, fingerprint: str) -> Any:
        """The place of an artifact, existing or not: a Path here, a URI on object storage."""
        return self.root / name / fingerprint

    def manifest(self, name: str, fingerprint: str) -> Manifest | None:
        """The artifact's manifest, or None when the artifact does not exist."""
        return own(read_manifest(self.folder(name, fingerprint)), name, fingerprint)

    def artifact(self, name: str, fingerprint: str) -> Artifact | None:
        """The finished artifact, or None."""
        manifest = self.manifest(name, fingerprint)
        if manifest is None:
            return None
        return Artifact(name, fingerprint, self.attempt_path(manifest), manifest)

    def attempt_path(self, manifest: Manifest) -> Path:
        """The files of a finished artifact, as a local folder."""
        return self.folder(manifest.stage, manifest.fingerprint) / manifest.attempt

    def damage(self, name: str, fingerprint: str) -> str | None:
        """What is wrong with a manifest that is there and not whole, or None. Raises UserError for
        one that can't be read."""
        try:
            return damage(self.tree.get(f"{name}/{fingerprint}/{FILE_NAME}"))
        except OSError:
            if self.manifest(name, fingerprint) is not None:  # past a stale handle
                return None
            raise

    def names(self) -> list[str]:
        """Folders that may hold a stage's artifacts: not hidden ones, which others keep there."""
        found = [e.name for e in self.tree.entries("") if e.size is None]
        return [n for n in found if not n.startswith(".") and n not in _NOT_OURS]

    def entries_of(self, name: str) -> list[Entry]:
        """What lies in a name's folder. Raises UserError for one that can't be read."""
        try:
            return self.tree.entries(name)
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

    def lease_holder(self, name: str, fingerprint: str) -> str | None:
        """Who holds a live lease on an artifact ('host, process 123'), or None."""
        return holder(self.folder(name, fingerprint), now=self.now())

    def now(self) -> float:
        """The time by the storage's own clock; by ours where it can't be written."""
        try:
            return self.tree.now()
        except OSError:
            return time.time()

    def problem(self, manifest: Manifest, *, checksums: bool = False) -> str | None:
        """What is wrong with an artifact's files, or None.

        Sizes are always compared. A file whose time of change is no longer the manifest's is
        hashed, so an altered one is found; `checksums` hashes every file.
        """
        return check_files(self.attempt_path(manifest), manifest.files, checksums=checksums)

    def newest_checkpoint(self, name: str, fingerprint: str) -> int | None:
        """The step of the newest whole `step-XXXXXXXX` checkpoint of an unfinished artifact."""
        return self.checkpoints(name, fingerprint).newest

    def checkpoints(
        self, name: str, fingerprint: str, without: Collection[int] = ()
    ) -> Checkpoints:
        """Of an unfinished artifact, by their manifests and their files' sizes; `without` some
        steps."""
        folder = self.folder(name, fingerprint) / CHECKPOINTS
        if not os.path.isdir(folder):
            return Checkpoints()
        paths = {step: path for step, path in finished(folder) if step not in without}
        return whole_and_damaged(paths, lambda step: damaged_file(paths[step]))

    def drop_checkpoints(self, name: str, fingerprint: str) -> None:
        """Forget what an unfinished artifact could be resumed from."""
        shutil.rmtree(self.folder(name, fingerprint) / CHECKPOINTS, ignore_errors=True)

    def begin(self, name: str, fingerprint: str, lease: str | None = None) -> Workspace:
        """Fresh folders for one attempt; those of dead attempts go.

        Only a lease's holder may do so: raises LeaseLost when `lease` is no longer the holder's.
        """
        folder = self.folder(name, fingerprint)
        self._check_lease(name, folder, lease)
        manifest = self.manifest(name, fingerprint)
        # Files whose manifest was cut off may be all that is left of hours: they stay till the end.
        if self.damage(name, fingerprint) is None:
            for path in folder.glob("attempt-*"):
                if manifest is None or path.name != manifest.attempt:
                    shutil.rmtree(path, ignore_errors=True)
        attempt = f"attempt-{uuid.uuid4().hex[:8]}"
        output, checkpoints = folder / attempt, folder / CHECKPOINTS
        output.mkdir(parents=True)
        checkpoints.mkdir(exist_ok=True)
        return Workspace(name, fingerprint, attempt, output, checkpoints, lease)

    def worker_folders(self, workspace: Workspace) -> WorkerFolders:
        """The attempt's folders for processes on other machines."""
        return SharedFolders(workspace.output, workspace.checkpoints)

    def lease_token(self, folder: Any) -> str | None:
        """The token of whoever holds the lease on an artifact's folder now, or None."""
        return Leases.token(folder)

    def _check_lease(self, name: str, folder: Any, lease: str | None) -> None:
        if lease is None:
            return
        check_seen(folder)  # the driver made it with its lease
        if self.lease_token(folder) != lease:
            raise LeaseLost(f"{name}: the lease went to another driver")

    def describe(self, workspace: Workspace) -> Mapping[str, Mapping[str, Any]]:
        """Files of an attempt with size, sha256 and time of change."""
        return describe_files(workspace.output)

    def publish(self, workspace: Workspace, manifest: Manifest) -> None:
        """Write the manifest, the last step; then delete checkpoints and other attempts.

        Raises LeaseLost when another driver has taken the artifact over meanwhile.
        """
        folder = self.folder(workspace.name, workspace.fingerprint)
        self._check_lease(workspace.name, folder, workspace.lease)
        write_manifest(manifest, folder)
        for path in folder.iterdir():
            if path.is_dir() and path.name != workspace.attempt and "lease" not in path.name:
                shutil.rmtree(path, ignore_errors=True)

    def abandon(self, workspace: Workspace) -> None:
        """After a failure: nothing to do here, the next attempt cleans up."""

    def write_failure(self, name: str, fingerprint: str, text: str) -> str | None:
        """Keep a traceback beside the artifact; returns where, None when that failed too."""
        path = self.folder(name, fingerprint) / FAILURE_FILE
        with contextlib.suppress(OSError):  # the disk may be what failed
            path.write_text(text, encoding="utf-8")
            return str(path)
        return None

    def clear_failure(self, name: str, fingerprint: str) -> None:
        """Forget the last failure."""
        (self.folder(name, fingerprint) / FAILURE_FILE).unlink(missing_ok=True)

    def delete(self, name: str, fingerprint: str) -> None:
        """Delete an artifact, its manifest first, so that nobody sees half of it."""
        folder = self.folder(name, fingerprint)
        (folder / FILE_NAME).unlink(missing_ok=True)
        shutil.rmtree(folder)


def open_storage(uri: str | os.PathLike[str]) -> Storage:
    """The storage at a local path or a `pyarrow.fs` URI (`s3://bucket/folder`, `gs://…`).

    Raises UserError for none at all (an unset variable), a URI of an unknown scheme, and a file.
    """
    text = os.fspath(uri)
    if not text.removeprefix("file://").strip():
        raise UserError("--storage is empty: give a folder or a URI")
    if "://" in text and not text.startswith("file://"):
        from momo_platform.stages.storage.object_storage import ObjectStorage

        return ObjectStorage(text)
    storage = Storage(text)
    storage.check_place()
    return storage
