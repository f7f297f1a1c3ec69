"""Checksums of a corpus's own files, so that a model leads back to what it was trained on."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from momo_platform.data.config import Kind, SourceConfig
from momo_platform.data.filesystems import filesystem_of, is_hidden, list_files, open_uri
from momo_platform.data.readers import hashed_endings, reader_of

FILES = "sources.parquet"
_DIGESTED = 2**14  # rows at a time
DIGEST_SCHEMA = pa.schema(
    {"source": pa.string(), "path": pa.string(), "size": pa.int64(), "sha256": pa.string()}
)
_PLACE_SCHEMA = pa.schema(
    {n: pa.string() for n in ("source", "root", "path", "shown")} | {"size": pa.int64()}
)


def shown_path(root: str, path: str) -> str:
    """`path` relative to the corpus, so that a moved corpus has the same rows; as it is outside."""
    base = open_uri(root)[1]
    for folder in (base, posixpath.dirname(base)):
        if path != folder and path.startswith(folder.rstrip("/") + "/"):
            return posixpath.relpath(path, folder)
    return path


def blocks_to_hash(source: SourceConfig, uri: str, kind: Kind) -> list[pa.Table]:
    """A block for each table and text file of a source; pictures are hashed when they are read."""
    whole = reader_of(uri)
    folder = whole.folder(uri) if whole else uri
    if whole and folder is None:
        files = whole.checksums(uri)
        rows = [{"root": path, "path": path, "shown": shown} for path, shown in files]
    else:
        folder = folder or uri
        root = open_uri(folder)[1]
        rows = [
            {"root": folder, "path": file.path, "size": file.size}
            for file in list_files(folder, kind.option, kind.hint)
            if file.path.lower().endswith(hashed_endings()) and not is_hidden(file.path, root)
        ]
    return [
        pa.Table.from_pylist([{"source": source.name} | row], schema=_PLACE_SCHEMA) for row in rows
    ]


def hash_files(block: pa.Table) -> pa.Table:
    """In a Ray task: files of a block → rows by DIGEST_SCHEMA."""
    rows = []
    for place in block.to_pylist():
        digest, size = hashlib.sha256(), 0
        try:
            with filesystem_of(place["root"]).open_input_stream(place["path"]) as file:
                while chunk := file.read(2**22):
                    digest.update(chunk)
                    size += len(chunk)
        except PermissionError:
            continue  # nothing of it is in the corpus: reading it gave a reason
        rows.append(
            {
                "source": place["source"],
                "path": place["shown"] or shown_path(place["root"], place["path"]),
                "size": size,
                "sha256": digest.hexdigest(),
            }
        )
    return pa.Table.from_pylist(rows, schema=DIGEST_SCHEMA)


def files_in_order(tables: Iterable[pa.Table]) -> pa.Table:
    """One table, sorted, each file once."""
    whole = pa.concat_tables([DIGEST_SCHEMA.empty_table(), *tables])
    names = ["source", "path", "sha256"]
    whole = whole.sort_by([(name, "ascending") for name in names]).combine_chunks()
    new = [
        pc.not_equal(whole[name].slice(1), whole[name].slice(0, max(0, len(whole) - 1)))
        for name in names
    ]
    differs = pc.or_(pc.or_(new[0], new[1]), new[2]).to_pylist()
    return whole.filter(pa.array([True, *differs][: len(whole)], pa.bool_()))


def listing_digest(listing: pa.Table) -> str:
    """sha256 over a listing's rows, fields joined by a zero byte, a line feed after each."""
    digest = hashlib.sha256()
    for batch in listing.to_batches(_DIGESTED):
        for row in batch.to_pylist():
            digest.update("\0".join(str(row[n]) for n in DIGEST_SCHEMA.names).encode() + b"\n")
    return digest.hexdigest()
