"""Data sets of Parquet files and tars, on the hub or in a folder: read where they lie, by ranges.

`datasets` says which files a configuration and its splits have (of the hub at one revision, which
the place then names); it loads nothing. On the hub files are read through `huggingface_hub`, with
its token: `HF_TOKEN` or that of `hf auth login`.
"""

from __future__ import annotations

import posixpath
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from momo_platform.data.columns import TEXT_NAMES, DamagedTable
from momo_platform.data.filesystems import filesystem_of, open_place
from momo_platform.data.readers import tables, tar
from momo_platform.data.readers.base import Corpus, Document, Reader, as_document
from momo_platform.data.readers.table_rows import batch_rows, open_parquet, why_unreadable

_READERS: Mapping[str, Reader] = {".parquet": tables.READER, ".tar": tar.READER}
_REVISION = re.compile(r"hf://datasets/[^@]+@[^/]+")
_DOCUMENTS = 16_384  # a task's share of a text data set: whole row groups
_THREADS = 8


@dataclass(frozen=True)
class HubFiles:
    """`root`: an `hf://` URI of one revision, or of a folder (`hf:///folder`). By split the paths
    of its files, with the bytes of each in `sizes`. `classes`: names of the labels' numbers."""

    root: str
    splits: Mapping[str, tuple[str, ...]]
    sizes: Mapping[str, int]
    classes: tuple[str, ...] = ()

    def corpus(self, corpus: Corpus) -> Corpus:
        """The same as the readers of its files see it."""
        return replace(corpus, uri=self.root, files=[*self.sizes], sizes=self.sizes)

    def split_of(self, path: str) -> str:
        return next(split for split, paths in self.splits.items() if path in paths)


def hub_files(builder: Any, split: str, folder: str | None) -> HubFiles | None:
    """The files of a data set's builder and of `split` (`a+b`; all without one); None for what only
    `datasets` itself can read: other formats, shares of a split, columns chosen by the set. Raises
    KeyError for a split that it hasn't.
    """
    of, config = builder.config.data_files or {}, builder.config
    known = {str(name): [str(file) for file in files] for name, files in of.items()}
    files = [file for some in known.values() for file in some]
    endings = {posixpath.splitext(file)[1] for file in files}
    module = type(builder).__module__.rpartition(".")[2]
    its_own = any(getattr(config, name, None) for name in ("columns", "filters"))
    plain = (module, *endings) in (("parquet", ".parquet"), ("webdataset", ".tar"))
    if "[" in split or its_own or not plain:
        return None
    root = f"hf://{folder}" if folder else ""
    if match := None if folder else _REVISION.match(files[0]):
        root = match[0]
    paths = {file: file.removeprefix("hf://") for file in files}
    inside = root.removeprefix("hf://").rstrip("/") + "/"
    if not root or not all(path.startswith(inside) for path in paths.values()):
        return None
    splits = {name: tuple(paths[file] for file in some) for name, some in known.items()}
    if split:
        splits = {split: tuple(path for one in split.split("+") for path in splits[one])}
    chosen = [path for some in splits.values() for path in some]
    label = (builder.info.features or {}).get("label")
    classes = tuple(getattr(label, "names", None) or ())
    return HubFiles(root, splits, _sizes(root, chosen), classes)


def _sizes(root: str, paths: Sequence[str]) -> dict[str, int]:
    """By path in their order; each folder is listed once."""
    found: dict[str, int] = {}
    for folder in dict.fromkeys(map(posixpath.dirname, paths)):
        infos = filesystem_of(root).get_file_info(pafs.FileSelector(folder))
        found |= {info.path: info.size or 0 for info in infos}
    return {path: found.get(path, 0) for path in paths}


def reader_of_file(path: str) -> Reader | None:
    """The reader of one of its files; None for a split, by which `datasets` counts rows."""
    return _READERS.get(posixpath.splitext(path)[1]) if "/" in path else None


def list_files_of(found: HubFiles, corpus: Corpus, paths: Sequence[str]) -> Iterator[dict]:
    """Rows by ROW_SCHEMA of some of its files, or of all; splits as they are written."""
    inner = replace(found.corpus(corpus), divided=len(found.sizes) > 1)
    for path in paths or found.sizes:
        for row in _READERS[posixpath.splitext(path)[1]].list(inner, [path]):
            yield row | {"label": _named(row["label"], found.classes)}


def _named(label: str, classes: Sequence[str]) -> str:
    """A class's name for its number, where it is one."""
    known = label.isdigit() and label not in classes and int(label) < len(classes)
    return classes[int(label)] if known else label


def checksums_of(found: HubFiles) -> list[dict[str, Any]]:
    """For each file its place, and the sha256 that the hub knows of those that it keeps apart."""
    _, base = open_place(found.root)
    rows = []
    for path, size in found.sizes.items():
        row = {"root": found.root, "path": path, "shown": posixpath.relpath(path, base)}
        rows.append(row | {"size": size, "sha256": _known_checksum(path)})
    return rows


def _known_checksum(path: str) -> str | None:
    if path.startswith("/"):
        return None
    from huggingface_hub import HfFileSystem

    apart = HfFileSystem().info(path).get("lfs")
    return apart and apart["sha256"]


def text_places_of(found: HubFiles, corpus: Corpus) -> Iterator[dict[str, Any]]:
    """What tasks read documents of: of Parquet row groups that follow each other, else files."""
    inner = found.corpus(corpus)
    with ThreadPoolExecutor(_THREADS) as pool:
        groups = pool.map(partial(_groups, found.root), found.sizes)
        for (path, size), (starts, sizes) in zip(found.sizes.items(), groups, strict=True):
            place = {"root": inner.uri, "path": path, "split": found.split_of(path)}
            if starts is None:
                yield place | {"size": size}
                continue
            start, held = 0, 0
            for stop, more in zip(starts[1:], sizes, strict=True):
                held += more
                if stop - start >= _DOCUMENTS or (stop == starts[-1] and stop > start):
                    yield place | {"start": start, "stop": stop, "size": held}
                    start, held = stop, 0


def _groups(root: str, path: str) -> tuple[list[int] | None, list[int]]:
    """Of a Parquet file where its row groups begin (at last the end) and their bytes; None for a
    tar and for a file that can't be read, of which a task will say so."""
    if not path.endswith(".parquet"):
        return None, []
    try:
        with filesystem_of(root).open_input_file(path) as opened, open_parquet(opened) as file:
            meta = file.metadata
    except pa.ArrowInvalid:
        return None, []
    sizes = [meta.row_group(number).total_byte_size for number in range(meta.num_row_groups)]
    return _starts(meta), sizes


def _starts(meta: pq.FileMetaData) -> list[int]:
    counts = (meta.row_group(number).num_rows for number in range(meta.num_row_groups))
    return [0, *accumulate(counts)]


def text_columns(found: HubFiles) -> Iterator[tuple[str, list[str]]]:
    """Of the first Parquet file of each split, the names of its columns."""
    for split, paths in found.splits.items():
        path = next((path for path in paths if path.endswith(".parquet")), None)
        if path is not None:
            with filesystem_of(found.root).open_input_file(path) as opened:
                yield split, open_parquet(opened).schema_arrow.names


def documents_of(place: Mapping[str, Any]) -> Iterator[Document]:
    """In a task: the documents of one of `text_places_of`, with its split."""
    if place.get("stop") is None:
        yield from _READERS[posixpath.splitext(place["path"])[1]].documents(place)
        return
    root, path = place["root"], place["path"]
    number, filesystem = place["start"], filesystem_of(root)
    try:
        with filesystem.open_input_file(path) as opened, open_parquet(opened) as file:
            wanted = {*TEXT_NAMES, "split", "group"} & {*file.schema_arrow.names}
            starts = _starts(file.metadata)
            groups = [*range(*(bisect_left(starts, place[name]) for name in ("start", "stop")))]
            for batch in file.iter_batches(1024, row_groups=groups, columns=sorted(wanted)):
                for row in batch_rows(batch):
                    number += 1
                    yield as_document(number, row)
    except (pa.ArrowInvalid, OSError) as error:
        reason = why_unreadable(error, filesystem, path)
        if not isinstance(reason, DamagedTable):
            raise reason from error
        yield Document(f"{number}", None, reason=str(reason))
