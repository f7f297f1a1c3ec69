"""Row groups of an index, each by one read of its range, from any thread."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from momo_platform.data.artifacts import ShardFile
from momo_platform.data.shards import ENDS, MAGIC
from momo_platform.stages.errors import UserError
from momo_platform.stages.storage.patience import may_pass, patiently
from momo_platform.stages.storage.place import Place

_OPEN_FILES = 64  # of a process, by all readers together
_GROUPS = 16  # row groups whose columns are read at a time


class _OpenFiles:
    """A process's: those that were used last, by their reader and their number."""

    def __init__(self) -> None:
        self._process, self._lock = os.getpid(), threading.Lock()
        self._files: OrderedDict[tuple[object, int], Any] = OrderedDict()
        self._former: list[Any] = []  # of the process that forked this one: not ours to close

    def get(self, reader: object, number: int, make: Callable[[], Any]) -> Any:
        if self._process != os.getpid():
            self._former.append(self._files)
            self._files, self._lock, self._process = OrderedDict(), threading.Lock(), os.getpid()
        key = reader, number
        with self._lock:
            if key in self._files:
                self._files.move_to_end(key)
                return self._files[key]
        opened = make()
        with self._lock:
            self._files[key] = opened
            while len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)  # closed when nobody reads it any more
        return opened

    def forget(self, reader: object) -> None:
        """Close what a reader has open."""
        with self._lock:
            for key in [key for key in self._files if key[0] is reader]:
                del self._files[key]


_open_files = _OpenFiles()


class ShardReader:
    """Files that `write_rows` wrote in `place`, in row groups of `row_group` rows.

    Holds where the row groups end of the files that it has read of, 4 bytes each, and no footer.
    """

    def __init__(self, place: Place, files: Sequence[ShardFile], row_group: int) -> None:
        self.place, self.files, self.row_group = place, files, row_group
        self._ends: dict[int, np.ndarray] = {}
        self._key = object()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_key": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_key": object()})

    def close(self) -> None:
        """Its files; what is read later opens them again."""
        _open_files.forget(self._key)

    def batch(self, file: int, group: int, columns: Sequence[str]) -> pa.RecordBatch:
        """Columns of a row group of a file. Raises UserError where the file is gone or damaged."""
        begin, end = self._range(file, group)
        raw = self._read(file, begin, end - begin)
        try:
            with pq.ParquetFile(pa.py_buffer(raw), page_checksum_verification=True) as one:
                table = one.read(columns=list(columns), use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(file, group, str(error)) from error
        expected = min(self.row_group, self.files[file].rows - group * self.row_group)
        if len(table) != expected:
            raise self._damaged(file, group, f"{len(table)} rows, not {expected}")
        return table.combine_chunks().to_batches()[0]

    def _range(self, file: int, group: int) -> tuple[int, int]:
        ends = self._ends.get(file)
        if ends is None:
            shard = self.files[file]
            groups = -(-shard.rows // self.row_group)
            raw = self._read(file, shard.ends_at, groups * ENDS.itemsize)
            if len(raw) < groups * ENDS.itemsize:
                raise self._damaged(file, group, "it is shorter than when it was written")
            ends = np.frombuffer(raw, ENDS)
            if ends[-1] != shard.ends_at or (np.diff(ends) <= 0).any():
                raise self._damaged(file, group, "the list of its row groups makes no sense")
            ends = self._ends[file] = ends.astype(np.uint32 if shard.size < 2**32 else ENDS)
        return int(ends[group - 1]) - len(MAGIC) if group else 0, int(ends[group])

    def _read(self, file: int, begin: int, size: int) -> bytes:
        try:
            return patiently(lambda: self._opened(file).read_at(size, begin))
        except FileNotFoundError as error:
            raise _gone(self.place, self.files[file]) from error

    def _opened(self, file: int) -> Any:
        return _open_files.get(self._key, file, lambda: self.place.open(self.files[file].file))

    def _damaged(self, file: int, group: int, what: str) -> UserError:
        return _damaged(self.place, self.files[file], f"row group {group}", what)


def _remedy(place: Place) -> str:
    stage = place.path.partition("/")[0]
    return f"make it again with --rerun {stage or 'and the stage that left it'}"


def _gone(place: Place, file: ShardFile) -> UserError:
    return UserError(f"{place}/{file.file} is gone: {_remedy(place)}")


def _damaged(place: Place, file: ShardFile, where: str, what: str) -> UserError:
    return UserError(
        f"{place}/{file.file}, {where}: the file is damaged ({what}): {_remedy(place)}"
    )


def read_columns(
    place: Place,
    file: ShardFile,
    columns: Sequence[str],
    filled: str = "",
    groups: int = _GROUPS,
) -> Iterator[pa.Table]:
    """A file's rows in order, `groups` row groups at a time: these columns, without fetching
    others. `filled`: of row groups that have nothing in this column of strings only it is read, and
    they do not come. Raises UserError where the file is gone or damaged."""
    options = {"pre_buffer": True, "page_checksum_verification": True}
    with ExitStack() as stack:

        def opened() -> pq.ParquetFile:
            raw = stack.enter_context(place.open(file.file))
            return stack.enter_context(pq.ParquetFile(raw, **options))

        with _told(place, file, "footer"):
            parquet = patiently(opened)
        if parquet.metadata.num_rows != file.rows:
            what = f"{parquet.metadata.num_rows} rows, not {file.rows}"
            raise _damaged(place, file, "footer", what)

        def read(numbers: range, wanted: Sequence[str]) -> pa.Table:
            with _told(place, file, f"row groups {numbers.start} to {numbers.stop - 1}"):
                return patiently(
                    lambda: parquet.read_row_groups(list(numbers), list(wanted), use_threads=False)
                )

        for start in range(0, parquet.num_row_groups, groups):
            numbers = range(start, min(start + groups, parquet.num_row_groups))
            if not filled or any(read(numbers, [filled])[filled].to_pylist()):
                yield read(numbers, columns)


@contextmanager
def _told(place: Place, file: ShardFile, where: str) -> Iterator[None]:
    """What goes wrong with a file, as a UserError; a store that is away is no fault of the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise _gone(place, file) from error
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and may_pass(error):
            raise
        raise _damaged(place, file, where, str(error)) from error
