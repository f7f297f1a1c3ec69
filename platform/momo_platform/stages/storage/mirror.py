"""Checkpoints and output of processes on any machine, kept on object storage."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from momo_platform.cache import cache_root
from momo_platform.stages.checkpoints import Checkpoints, altered_file
from momo_platform.stages.liveness import ProcessIdentity
from momo_platform.stages.manifest import FILE_NAME
from momo_platform.stages.storage.artifacts import CHECKPOINTS, open_storage
from momo_platform.stages.storage.folders import Folders

OWNER = "owner.json"
_MIRROR_SECONDS = 1.0


def artifact_cache() -> Path:
    """`artifacts` below the cache's root; safe to delete."""
    return cache_root() / "artifacts"


def scratch_folder(name: str) -> Path:
    """A new folder on this machine, in the cache."""
    artifact_cache().mkdir(parents=True, exist_ok=True)
    return sign(Path(tempfile.mkdtemp(dir=artifact_cache(), prefix=f"work-{name}-")))


def sign(scratch: Path) -> Path:
    """Say which process a scratch folder is of: `gc` frees those of the dead."""
    (scratch / OWNER).write_text(json.dumps(ProcessIdentity.own().asdict()), encoding="utf-8")
    return scratch


class ObjectStore(Protocol):
    """What mirroring asks of the storage."""

    def upload(self, source: Path, target: str) -> None: ...
    def download_tree(self, folder: str, target: Path) -> None: ...
    def delete_tree(self, folder: str) -> None: ...
    def folder(self, name: str, fingerprint: str) -> str: ...
    def checkpoints(
        self, name: str, fingerprint: str, without: Collection[int] = ()
    ) -> Checkpoints: ...


class CheckpointMirror:
    """Uploads whole checkpoints (`step-*` with a manifest) and other files of a folder, in a
    thread; what goes locally goes remotely. A checkpoint's manifest is uploaded last."""

    def __init__(self, storage: ObjectStore, local: Path, remote: str) -> None:
        self._storage, self._local, self._remote = storage, local, remote
        self._stop = threading.Event()
        self._uploaded: dict[str, tuple[int, int]] = {}
        self._thread = threading.Thread(target=self._run, daemon=True, name="checkpoint-mirror")

    def start(self) -> None:
        """Fetch what is there, then mirror."""
        self._storage.download_tree(self._remote, self._local)
        for path in self._local.rglob("*"):
            if path.is_file():
                self._uploaded[path.relative_to(self._local).as_posix()] = _state(path)
        self._thread.start()

    def stop(self, *, final: bool) -> None:
        """End the thread; `final` uploads what is new first."""
        self._stop.set()
        self._thread.join()
        if final:
            self._sync()

    def _run(self) -> None:
        while not self._stop.wait(_MIRROR_SECONDS):
            with contextlib.suppress(OSError):  # a file went meanwhile, or the store is away
                self._sync()

    def _sync(self) -> None:
        steps = [p for p in self._local.glob("step-*") if (p / FILE_NAME).exists()]
        loose = [p for p in self._local.iterdir() if p.is_file()]
        # The records first: those up to a checkpoint are there before it is whole.
        files = loose + [f for step in sorted(steps) for f in step.rglob("*") if f.is_file()]
        files.sort(key=lambda f: f.name == FILE_NAME)
        kept = {}
        for file in files:
            name = file.relative_to(self._local).as_posix()
            kept[name] = _state(file)
            if self._uploaded.get(name) != kept[name]:
                self._storage.upload(file, f"{self._remote}/{name}")
                self._uploaded[name] = kept[name]
        gone = {n.partition("/")[0] for n in self._uploaded if n not in kept and "/" in n}
        for step in gone - {n.partition("/")[0] for n in kept}:
            self._storage.delete_tree(f"{self._remote}/{step}")
            self._uploaded = {
                n: s for n, s in self._uploaded.items() if not n.startswith(step + "/")
            }


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class MirroredFolders:
    """Folders of a worker's own machine, mirrored to object storage; `task_output` is the stage's
    task's own."""

    uri: str
    name: str
    fingerprint: str
    attempt: str
    task_output: Path

    def _storage(self) -> ObjectStore:
        return open_storage(self.uri)  # type: ignore[return-value]

    @contextlib.contextmanager
    def open(self, *, writes: bool) -> Iterator[Folders]:
        """New folders, the newest checkpoint in them (for the process with `writes` all of them).

        The output is uploaded at a good end; after an error the newest checkpoint is, if it can.
        """
        storage = self._storage()
        place = storage.folder(self.name, self.fingerprint)
        scratch = scratch_folder(self.name)
        folders = Folders(scratch / "output", scratch / CHECKPOINTS)
        for folder in folders:
            folder.mkdir()
        try:
            if not writes:
                self._fetch_newest(storage, f"{place}/{CHECKPOINTS}", folders.checkpoints)
                yield folders
                return
            mirror = CheckpointMirror(storage, folders.checkpoints, f"{place}/{CHECKPOINTS}")
            mirror.start()
            try:
                yield folders
            except BaseException:
                with contextlib.suppress(OSError):
                    mirror.stop(final=True)
                raise
            mirror.stop(final=False)
            for file in sorted(f for f in folders.output.rglob("*") if f.is_file()):
                name = file.relative_to(folders.output).as_posix()
                storage.upload(file, f"{place}/{self.attempt}/{name}")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _fetch_newest(self, storage: ObjectStore, remote: str, local: Path) -> None:
        """As the process with `writes` chooses among all of them (`training.resume`): by content,
        so older ones until one is whole."""
        unlike: tuple[int, ...] = ()
        while True:
            step = storage.checkpoints(self.name, self.fingerprint, without=unlike).newest
            if step is None:
                return
            name = f"step-{step:08d}"
            storage.download_tree(f"{remote}/{name}", local / name)
            if altered_file(local / name) is None:
                return
            shutil.rmtree(local / name)
            unlike = (*unlike, step)

    def collect(self) -> None:
        """Fetch the workers' output into the task's folder."""
        storage = self._storage()
        place = storage.folder(self.name, self.fingerprint)
        storage.download_tree(f"{place}/{self.attempt}", self.task_output)
