"""Hugging Face data sets: `hf://<path>[:config][@split]`, and folders of `Dataset.save_to_disk`.

`<path>` is what `datasets.load_dataset` takes: a name on the hub, or a local folder
(`hf:///data/x`). Sets of Parquet files and WebDataset tars are read where they lie (hub_files.py).
Others, and shares of a split (`@train[:1%]`), `datasets` loads into its cache first, and rows are
numbers into its Arrow data, which every Ray worker opens for itself (on other machines `datasets`
fetches it again unless the cache is shared). Listing decodes no picture.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from momo_platform.data.columns import CAPTION_NAMES, IMAGE_NAMES, JSON_NAME, TEXT_NAMES
from momo_platform.data.images import LARGEST_FILE, BadImage
from momo_platform.data.listing import SPLITS, FileRef, RowRef, make_row
from momo_platform.data.readers.base import Corpus, Document, Reader, Share, Stored, as_document
from momo_platform.data.readers.hub_files import (
    HubFiles,
    checksums_of,
    documents_of,
    hub_files,
    list_files_of,
    reader_of_file,
    text_columns,
    text_places_of,
)
from momo_platform.data.readers.table_rows import batch_rows
from momo_platform.data.readers.tables import class_names, is_binary, with_class
from momo_platform.stages.errors import UserError

SCHEME = "hf://"
_ROWS = 1024
_PART = re.compile("train|valid|val|dev|test", re.IGNORECASE)
_DOCUMENTS = 16_384  # a Ray task's share of a text data set


@dataclass(frozen=True)
class HubName:
    """The parts of an `hf://` URI; empty `config` or `split`: the only one, or all."""

    path: str
    config: str = ""
    split: str = ""

    @classmethod
    def of(cls, uri: str) -> HubName:
        """Parse; a plain folder of `save_to_disk` is its own path. Raises UserError."""
        if not uri.startswith(SCHEME):
            return cls(str(Path(uri).expanduser().absolute()))
        place, _, split = uri.removeprefix(SCHEME).partition("@")
        path, _, config = place.partition(":")
        if not path.strip("/"):
            raise UserError(f"{uri}: no data set named; write hf://<path>[:config][@split]")
        return cls(path, config, split)

    @property
    def folder(self) -> str | None:
        """The local folder, if it is one."""
        return self.path if self.path.startswith("/") else None


def is_saved(folder: str) -> bool:
    """Whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote a local folder."""
    if "://" in folder:
        return False
    place = Path(folder).expanduser()
    whole = (place / "state.json").is_file() and (place / "dataset_info.json").is_file()
    return whole or (place / "dataset_dict.json").is_file()


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            "an hf:// source or a folder of save_to_disk needs Hugging Face `datasets`: "
            "pip install datasets"
        ) from error
    datasets.disable_progress_bars()
    return datasets


def _failed(uri: str, error: Exception) -> UserError:
    what = " ".join(str(error).split())[:400] or type(error).__name__
    return UserError(
        f"{uri} can't be loaded by `datasets`: {what}; check name, config, split and network (log "
        "in for gated sets; HF_HUB_OFFLINE=1 takes what the cache has)"
    )


@lru_cache(maxsize=8)
def splits_of(uri: str) -> dict[str, Any]:
    """Split name → `datasets.Dataset`, its pictures left encoded. Raises UserError."""
    name, datasets = HubName.of(uri), _library()
    try:
        if name.folder and is_saved(name.folder):
            found = datasets.load_from_disk(name.folder)
            if name.split and isinstance(found, dict):
                found = found[name.split]
        else:
            found = datasets.load_dataset(name.path, name.config or None, split=name.split or None)
    except Exception as error:  # many kinds, by reader and file format
        raise _failed(uri, error) from error
    splits = found if isinstance(found, dict) else {name.split or str(found.split or "all"): found}
    for key, data in splits.items():
        for column, feature in data.features.items():
            if isinstance(feature, datasets.Image):
                data = data.cast_column(column, datasets.Image(decode=False))
        splits[key] = data.with_format("arrow")
    return dict(splits)


def _builder(uri: str) -> Any:
    name, datasets = HubName.of(uri), _library()
    try:
        return datasets.load_dataset_builder(name.path, name.config or None)
    except Exception as error:  # many kinds, by reader and file format
        raise _failed(uri, error) from error


def files_of(uri: str) -> HubFiles | None:
    """The files of a set that is read where it lies; None for another. Raises UserError."""
    name = HubName.of(uri)
    if name.folder:  # whose files may change
        return None if is_saved(name.folder) else _find_files(uri)
    return _remote_files(uri)


def _find_files(uri: str) -> HubFiles | None:
    name = HubName.of(uri)
    builder = _builder(uri)
    try:
        return hub_files(builder, name.split, name.folder)
    except KeyError as error:
        known = ", ".join(map(str, builder.config.data_files))
        raise _failed(uri, ValueError(f"no split {error}, there are {known}")) from error


_remote_files = lru_cache(maxsize=8)(_find_files)


def identify_remote(uri: str) -> str:
    """16 hex digits over a hub data set's revision; asks the hub, or the cache without it."""
    name, builder = HubName.of(uri), _builder(uri)
    parts = [name.path, builder.config_id, name.split, str(builder.info.version), builder.hash]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _columns(data: Any, names: tuple[str, ...]) -> list[str]:
    return [n for n in dict.fromkeys(names) if n in data.column_names]


def _image_column(data: Any) -> str | None:
    schema = data.features.arrow_schema
    return next(
        (n for n in IMAGE_NAMES if n in schema.names and is_binary(schema.field(n).type)), None
    )


def _iterate(data: Any, columns: list[str]) -> Iterator[dict[str, Any] | str]:
    if not columns:
        yield from ({} for _ in range(len(data)))
        return
    for batch in data.select_columns(columns).iter(_ROWS):
        yield from batch_rows(batch)


def _split(key: str, splits: Mapping[str, Any]) -> str:
    """A data set's only split is divided by hash like any other source; of several each stays."""
    return SPLITS.get(key.lower(), "") if len(splits) > 1 else ""


def _check_splits(corpus: Corpus, splits: Mapping[str, Any]) -> None:
    """Raise UserError for a split beside others of which it can't be told what it is for."""
    unknown = [key for key in splits if key.lower() not in SPLITS]
    told = [key for key in splits if _PART.match(key)]
    if len(splits) > 1 and unknown and told:
        raise UserError(
            f"{corpus.kind.option} {corpus.uri}: split {unknown[0]} is neither train nor valid nor "
            f"test; there are {', '.join(splits)}. Choose with @ (two of them: "
            f"@{'+'.join([*splits][:2])}), or rename it"
        )


def _stored(value: Any) -> Stored:
    """A picture's bytes out of its column, the file that it names, or why there are none."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if not isinstance(value, str) or not value:
        return value or None
    if "://" in value and "::" not in value:
        return FileRef(value)
    import fsspec

    try:
        with fsspec.open(value, "rb") as file:  # also a member of a zip in the cache
            return file.read(LARGEST_FILE + 1)  # type: ignore[union-attr]
    except (OSError, ValueError, ImportError) as error:
        return BadImage(f"the picture can't be opened: {error}")


class Hub(Reader):
    """Whole places: `hf://` URIs, and folders of `save_to_disk`."""

    hashed = (".arrow",)

    def takes(self, uri: str) -> bool:
        return uri.startswith(SCHEME) or is_saved(uri)

    def folder(self, uri: str) -> str | None:
        return HubName.of(uri).folder

    def revision(self, uri: str) -> str:
        name = HubName.of(uri)
        return f"{name.config}@{name.split}\n" if name.folder else identify_remote(uri)

    def checksums(self, uri: str) -> Sequence[Mapping[str, Any]]:
        if found := files_of(uri):
            return checksums_of(found)
        paths = {f["filename"] for data in splits_of(uri).values() for f in data.cache_files}
        return [
            {"root": path, "path": path, "shown": f"{uri}#{Path(path).name}"}
            for path in sorted(paths)
        ]

    def units(self, corpus: Corpus, paths: Sequence[str] = ()) -> Sequence[Share]:
        if found := files_of(corpus.uri):
            return [Share([path], size) for path, size in found.sizes.items()]
        return [Share((), None, sum(map(len, splits_of(corpus.uri).values())))]

    def list(self, corpus: Corpus, paths: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
        if found := files_of(corpus.uri):
            _check_splits(corpus, found.splits)
            for path in paths or found.sizes:
                split = _split(found.split_of(path), found.splits)
                for row in list_files_of(found, corpus, [path]):
                    yield row | {"split": row["split"] or split}
            return
        uri, kind, splits = corpus.uri, corpus.kind, splits_of(corpus.uri)
        folder = self.folder(uri) or ""
        _check_splits(corpus, splits)
        for split, data in splits.items():
            image, classes = _image_column(data), class_names(data.features.arrow_schema)
            names = (*CAPTION_NAMES, JSON_NAME, "group", "split", "label")
            names += () if image else IMAGE_NAMES
            columns = _columns(data, names)
            for what, names in kind.columns:
                if not {*names, "" if what == "picture" else JSON_NAME} & {*columns, image}:
                    raise _lacks(corpus, split, data.column_names, what, names[0])
            for number, values in enumerate(_iterate(data, columns)):
                key, picture = f"{split}:{number:09d}", RowRef(uri, split, number)
                known = {} if isinstance(values, str) else with_class(values, classes)
                place = (uri, picture) if image else (folder or uri, None)
                row = make_row(corpus.name, key, known, place[0], folder, place[1])
                row["split"] = row["split"] or _split(split, splits)
                yield row | {"reason": values if isinstance(values, str) else row["reason"]}

    def read(self, root: str, path: str, rows: Sequence[int]) -> Mapping[int, Stored]:
        if reader := reader_of_file(path):
            return reader.read(root, path, rows)
        data, found = splits_of(root)[path], {}
        data = data.select_columns([_image_column(data)])
        rows = sorted(set(rows))
        for i in range(0, len(rows), 64):
            part = rows[i : i + 64]
            values = data[part].column(0)
            found |= {r: _stored(v.as_py()) for r, v in zip(part, values, strict=True)}
        return found

    def places(self, corpus: Corpus, paths: Sequence[str] = ()) -> Sequence[dict[str, Any]]:
        if files := files_of(corpus.uri):
            _check_splits(corpus, files.splits)
            for split, names in text_columns(files):
                if not {*TEXT_NAMES} & {*names}:
                    raise _lacks(corpus, split, names, "text", TEXT_NAMES[0])
            return [
                place | {"split": _split(place["split"], files.splits)}
                for place in text_places_of(files, corpus)
            ]
        places, splits = [], splits_of(corpus.uri)
        _check_splits(corpus, splits)
        for split, data in splits.items():
            if not _columns(data, TEXT_NAMES):
                raise _lacks(corpus, split, data.column_names, "text", TEXT_NAMES[0])
            mean = data.data.nbytes // max(1, data.data.num_rows)
            for i in range(0, len(data), _DOCUMENTS):
                stop = min(i + _DOCUMENTS, len(data))
                place = {"root": corpus.uri, "path": split, "start": i, "stop": stop}
                places.append(place | {"size": mean * (stop - i)})
        return places

    def documents(self, place: Mapping[str, Any]) -> Iterator[Document]:
        if reader_of_file(place["path"]):
            for document in documents_of(place):
                yield document._replace(split=document.split or place.get("split") or "")
            return
        start, split, splits = place["start"], place["path"], splits_of(place["root"])
        data = splits[split].select(range(start, place["stop"]))
        columns = _columns(data, (*TEXT_NAMES, "split", "group"))
        for number, row in enumerate(_iterate(data, columns), start + 1):
            if isinstance(row, dict):
                row = row | {"split": row.get("split") or _split(split, splits)}
            yield as_document(number, row)


def _lacks(corpus: Corpus, split: str, columns: Sequence[str], what: str, name: str) -> UserError:
    return UserError(
        f"{corpus.kind.option} {corpus.uri}: no column with the {what} in split {split}; it has "
        f"{', '.join(columns)!r}, rename one to {name}"
    )


READER = Hub()
