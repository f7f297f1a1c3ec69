"""Checkpoints and output of processes on any machine, kept on object storage."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from momo_platform.stages.checkpoints import CHECKPOINTS, altered_file, checkpoints_below
from momo_platform.stages.manifest import FILE_NAME
from momo_platform.stages.storage.folders import Folders
from momo_platform.stages.storage.objects import ObjectFiles
from momo_platform.stages.storage.scratch import scratch_folder

_MIRROR_SECONDS = 1.0


class CheckpointMirror:
    """Uploads whole checkpoints (`step-*` with a manifest) and other files of a folder, in a
    thread; what goes locally goes remotely. A checkpoint's manifest is uploaded last."""

    def __init__(self, files: ObjectFiles, local: Path, remote: str) -> None:
        self._files, self._local, self._remote = files, local, remote
        self._stop = threading.Event()
        self._uploaded: dict[str, tuple[int, int]] = {}
        self._thread = threading.Thread(target=self._run, daemon=True, name="checkpoint-mirror")

    def start(self) -> None:
        """Fetch what is there, then mirror."""
        self._files.download_tree(self._remote, self._local)
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
                self._files.upload(file, f"{self._remote}/{name}")
                self._uploaded[name] = kept[name]
        gone = {n.partition("/")[0] for n in self._uploaded if n not in kept and "/" in n}
        for step in gone - {n.partition("/")[0] for n in kept}:
            self._files.remove(f"{self._remote}/{step}")
            self._uploaded = {
                n: s for n, s in self._uploaded.items() if not n.startswith(step + "/")
            }


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class MirroredFolders:
    """Folders of a worker's own machine, mirrored to object storage: the artifact's at `place`.
    `task_output` is the stage's task's own."""

    uri: str
    place: str
    attempt: str
    task_output: Path

    @contextlib.contextmanager
    def open(self, *, writes: bool) -> Iterator[Folders]:
        """New folders, the newest checkpoint in them (for the process with `writes` all of them).

        The output is uploaded at a good end; after an error the newest checkpoint is, if it can.
        """
        files = ObjectFiles(self.uri)
        scratch = scratch_folder(self.place.partition("/")[0])
        remote = f"{self.place}/{CHECKPOINTS}"
        folders = Folders(scratch / "output", scratch / CHECKPOINTS)
        for folder in folders:
            folder.mkdir()
        try:
            if not writes:
                _fetch_newest(files, remote, folders.checkpoints)
                yield folders
                return
            mirror = CheckpointMirror(files, folders.checkpoints, remote)
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
                files.upload(file, f"{self.place}/{self.attempt}/{name}")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def collect(self) -> None:
        """Fetch the workers' output into the task's folder."""
        ObjectFiles(self.uri).download_tree(f"{self.place}/{self.attempt}", self.task_output)


def _fetch_newest(files: ObjectFiles, remote: str, local: Path) -> None:
    """As the process with `writes` chooses among all of them (`training.resume`): by content, so
    older ones until one is whole."""
    unlike: tuple[int, ...] = ()
    while True:
        step = checkpoints_below(files, remote, without=unlike).newest
        if step is None:
            return
        name = f"step-{step:08d}"
        files.download_tree(f"{remote}/{name}", local / name)
        if altered_file(local / name) is None:
            return
        shutil.rmtree(local / name)
        unlike = (*unlike, step)
