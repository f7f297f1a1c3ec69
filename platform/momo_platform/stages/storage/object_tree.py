"""A storage's objects as such: `tree.Tree` on `pyarrow.fs`."""

from __future__ import annotations

import contextlib
import time
import uuid

import pyarrow.fs as pafs

from momo_platform.stages.storage.patience import patiently
from momo_platform.stages.storage.tree import Entry


class ObjectTree:
    """Below a folder of a store. Folders have no time of change there."""

    def __init__(self, fs: pafs.FileSystem, base: str) -> None:
        self._fs, self._base = fs, base

    def _listed(self, folder: str, *, recursive: bool) -> list[Entry]:
        place = f"{self._base}/{folder}".rstrip("/")
        selector = pafs.FileSelector(place, recursive=recursive, allow_not_found=True)
        found = patiently(lambda: self._fs.get_file_info(selector))
        return [
            Entry(
                info.path.removeprefix(place + "/"),
                info.size if info.type == pafs.FileType.File else None,
                info.mtime.timestamp() if info.mtime else 0.0,
            )
            for info in found
        ]

    def entries(self, folder: str) -> list[Entry]:
        return sorted(self._listed(folder, recursive=False), key=lambda e: e.name)

    def below(self, folder: str) -> list[Entry]:
        return self._listed(folder, recursive=True)

    def get(self, path: str) -> bytes | None:
        def read() -> bytes:
            with self._fs.open_input_stream(f"{self._base}/{path}") as file:
                return file.read()

        try:
            return patiently(read)
        except FileNotFoundError:
            return None

    def put(self, path: str, content: str) -> None:
        def write() -> None:
            with self._fs.open_output_stream(f"{self._base}/{path}") as file:
                file.write(content.encode())

        patiently(write)

    def remove(self, path: str) -> None:
        place = f"{self._base}/{path}"
        info = patiently(lambda: self._fs.get_file_info(place))
        with contextlib.suppress(FileNotFoundError):
            if info.type == pafs.FileType.Directory:
                patiently(lambda: self._fs.delete_dir(place))
            elif info.type == pafs.FileType.File:
                patiently(lambda: self._fs.delete_file(place))

    def now(self) -> float:
        probe = f"{self._base}/.clock-{uuid.uuid4().hex}"

        def ask() -> float:
            with self._fs.open_output_stream(probe) as file:
                file.write(b"")
            written = self._fs.get_file_info(probe).mtime
            return written.timestamp() if written else time.time()

        try:
            return patiently(ask)
        finally:
            with contextlib.suppress(OSError):
                self._fs.delete_file(probe)
