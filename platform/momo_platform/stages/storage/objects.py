"""A storage's files on an object store (`s3://…`, `gs://…`) by `pyarrow.fs`.

A store that does not answer is waited for (`patience.py`).
"""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from momo_platform.stages.errors import UserError
from momo_platform.stages.storage.files import Entry
from momo_platform.stages.storage.patience import patiently
from momo_platform.stages.storage.scratch import scratch_folder


class ObjectFiles:
    """Below a `pyarrow.fs` URI; credentials and endpoint by the usual environment. Folders have no
    time of change there. Raises UserError for an unknown scheme."""

    root = None

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        try:
            self.fs, base = pafs.FileSystem.from_uri(self.uri)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise UserError(
                f"storage {uri}: {error}; give a folder, or a URI such as s3://bucket/runs"
            ) from error
        self._base = base.rstrip("/")

    def place(self, path: str) -> str:
        return f"{self._base}/{path}"

    def create(self) -> None:
        """Check that the place can be written."""
        probe = f"{self._base}/.writable-{uuid.uuid4().hex}"
        try:
            with self.fs.open_output_stream(probe) as file:  # a wrong address is told at once
                file.write(b"")
            self._delete_file(probe)
        except OSError as error:
            raise UserError(
                f"storage {self.uri}: can't be written ({error}); check the bucket's name, the "
                "credentials and, for another server than AWS, AWS_ENDPOINT_URL"
            ) from error

    def _listed(self, folder: str, *, recursive: bool) -> list[Entry]:
        place = self.place(folder).rstrip("/")
        selector = pafs.FileSelector(place, recursive=recursive, allow_not_found=True)
        found = patiently(lambda: self.fs.get_file_info(selector))
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

    def size(self, path: str) -> int | None:
        info = patiently(lambda: self.fs.get_file_info(self.place(path)))
        return info.size if info.type == pafs.FileType.File else None

    def get(self, path: str) -> bytes | None:
        def read() -> bytes:
            with self.fs.open_input_file(self.place(path)) as file:
                return file.read_at(file.size(), 0)  # one request: never of two versions

        try:
            return patiently(read)
        except FileNotFoundError:
            return None

    def put(self, path: str, content: str, *, durably: bool = False) -> None:
        def write() -> None:
            with self.fs.open_output_stream(self.place(path)) as file:
                file.write(content.encode())

        patiently(write)

    def remove(self, path: str, *, strictly: bool = False) -> None:
        place = self.place(path)
        info = patiently(lambda: self.fs.get_file_info(place))
        if info.type == pafs.FileType.Directory:
            with contextlib.suppress(FileNotFoundError):
                patiently(lambda: self.fs.delete_dir(place))
        elif info.type == pafs.FileType.File:
            self._delete_file(place)

    def _delete_file(self, place: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            patiently(lambda: self.fs.delete_file(place))

    def now(self) -> float:
        probe = f"{self._base}/.clock-{uuid.uuid4().hex}"

        def ask() -> float:
            with self.fs.open_output_stream(probe) as file:
                file.write(b"")
            written = self.fs.get_file_info(probe).mtime
            return written.timestamp() if written else time.time()

        try:
            return patiently(ask)
        finally:
            with contextlib.suppress(OSError):
                self.fs.delete_file(probe)

    def unreadable(self, path: str, error: OSError) -> str:
        return f"{self.uri}/{path}: can't be read ({error})"

    # -- files of any size ---------------------------------------------------------------------

    def upload(self, source: Path, path: str) -> None:
        """One file, streamed."""

        def send() -> None:
            with source.open("rb") as file, self.fs.open_output_stream(self.place(path)) as stream:
                shutil.copyfileobj(file, stream, 2**22)

        patiently(send)

    @contextlib.contextmanager
    def writing(self, path: str) -> Iterator[Path]:
        scratch = scratch_folder("write")
        try:
            yield scratch / "file"

            def send() -> None:
                # By one call: a stream that is left between two is closed as if all had come.
                with pa.memory_map(str(scratch / "file")) as file:
                    content = file.read_buffer()
                    with self.fs.open_output_stream(self.place(path)) as stream:
                        stream.write(content)

            patiently(send)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def download(self, path: str, target: Path) -> None:
        """One file, streamed. Raises FileNotFoundError."""
        target.parent.mkdir(parents=True, exist_ok=True)

        def fetch() -> None:
            with self.fs.open_input_stream(self.place(path)) as stream, target.open("wb") as file:
                shutil.copyfileobj(stream, file, 2**22)

        patiently(fetch)

    def download_tree(self, folder: str, target: Path) -> None:
        """Every object below a folder."""
        for entry in self.below(folder):
            if entry.size is not None:
                self.download(f"{folder}/{entry.name}", target / entry.name)
