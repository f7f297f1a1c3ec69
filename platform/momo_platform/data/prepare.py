"""The stages that make usable rows of raw ones, by Ray Data.

Rows stream through Ray tasks in order (`preserve_order`) into one Parquet file a stage. What
can't be used goes to `quarantine.parquet` with its reason and is counted; `sources.parquet` holds
size and sha256 of every file that was read.

Memory: the stage's own process holds the listing (about 1 kB a picture), one block, and two
digests a kept row (about 250 bytes). A task holds the raw bytes of one block of 512 pictures, or
4,096 documents. Equal sources give equal bytes: rows are sorted and row groups have a fixed size.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from momo_platform.data.digests import (
    DIGEST_SCHEMA,
    FILES,
    blocks_to_hash,
    hash_files,
    in_order,
)
from momo_platform.data.hub import is_hub, text_places
from momo_platform.data.images import ImageConfig
from momo_platform.data.listing import ROW_SCHEMA, Kind
from momo_platform.data.rows import (
    IMAGE_SCHEMA,
    TEXT_SCHEMA,
    PrepareImages,
    PrepareText,
    split_of,
)
from momo_platform.data.sources import SourceConfig, list_rows, list_text_files
from momo_platform.stages.errors import UserError
from momo_platform.stages.stage import Artifact, Context

DATA, QUARANTINE = "data.parquet", "quarantine.parquet"
_BLOCK_ROWS = 512
_HELD_OUT_FIRST = {"test": 0, "valid": 1}
_PLACE_SCHEMA = pa.schema(
    {n: pa.string() for n in ("source", "root", "path")}
    | {n: pa.int64() for n in ("start", "stop")}
)
_REASON_SCHEMA = pa.schema({"source": pa.string(), "key": pa.string(), "reason": pa.string()})


@dataclass(frozen=True)
class PrepareConfig:
    """Sources of one modality. Above `max_bad_fraction` unusable rows the stage fails.

    Rows that name no split: `held_out` of their groups become "test", by hash, the rest "train".
    """

    sources: tuple[SourceConfig, ...]
    image: ImageConfig = ImageConfig()
    max_bad_fraction: float = 0.5
    min_text_length: int = 20
    held_out: float = 0.0


def _resolve(source: SourceConfig, inputs: Mapping[str, Artifact]) -> str:
    if not source.uri.startswith("input:"):
        return source.uri
    role, _, rest = source.uri.removeprefix("input:").partition("/")
    return str(inputs[role].path / rest)


def _blocks(rows: list[dict[str, Any]], schema: pa.Schema) -> list[pa.Table]:
    return [
        pa.Table.from_pylist(rows[i : i + _BLOCK_ROWS], schema=schema)
        for i in range(0, len(rows), _BLOCK_ROWS)
    ]


def _through_ray(blocks: list[pa.Table], function: Any) -> Iterator[pa.Table]:
    """Map blocks by Ray Data, results in the order of the input."""
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    dataset = ray.data.from_arrow(blocks).map_batches(
        function, batch_format="pyarrow", batch_size=None
    )
    yield from dataset.iter_batches(batch_format="pyarrow", batch_size=None)


class _Sink:
    """Writes kept rows and the quarantine; drops exact duplicates and counts everything."""

    def __init__(self, output: Path, schema: pa.Schema, content: str) -> None:
        names = [n for n in schema.names if n not in ("reason", "file", "size", "sha256")]
        kept = pa.schema([schema.field(n) for n in names])
        self.kept_schema, self.content, self.output = kept, content, output
        self.writer = pq.ParquetWriter(output / DATA, kept, compression="zstd")
        self.quarantine = pq.ParquetWriter(output / QUARANTINE, _REASON_SCHEMA)
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.by_source: dict[str, Counter[str]] = {}
        self.seen: dict[bytes, str] = {}
        self.kept: list[dict[str, Any]] = []
        self.bad: list[dict[str, Any]] = []
        self.files: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        if "sha256" in table.column_names:
            hashed = table.filter(table["sha256"].is_valid())
            hashed = hashed.select(["source", "file", "size", "sha256"])
            self.files.append(hashed.rename_columns(DIGEST_SCHEMA.names))
        for row in table.to_pylist():
            tally = self.by_source.setdefault(row["source"], Counter())
            tally["read"] += 1
            if row["reason"]:
                self.bad.append({k: row[k] for k in ("source", "key", "reason")})
                self.reasons[row["reason"].split(":")[0][:80]] += 1
                tally["quarantined"] += 1
            elif self._is_duplicate(row):
                tally["duplicates"] += 1
            else:
                self.kept.append(row)
                tally["kept"] += 1
        self._flush(_BLOCK_ROWS)

    def _flush(self, at_least: int) -> None:
        """Write full row groups; with `at_least` 1 also the last, shorter one."""
        while len(self.kept) >= at_least:
            group, self.kept = self.kept[:_BLOCK_ROWS], self.kept[_BLOCK_ROWS:]
            self.writer.write_table(pa.Table.from_pylist(group, schema=self.kept_schema))
        while len(self.bad) >= at_least:
            group, self.bad = self.bad[:_BLOCK_ROWS], self.bad[_BLOCK_ROWS:]
            self.quarantine.write_table(pa.Table.from_pylist(group, schema=_REASON_SCHEMA))

    def _is_duplicate(self, row: dict[str, Any]) -> bool:
        """Exact repeats go; so does a training row whose picture is held out."""
        value = row[self.content]
        raw = value if isinstance(value, bytes) else value.encode()
        captions = "\0".join(row.get("captions", [])).encode()
        digest = hashlib.sha256(raw).digest()[:16]
        split = row.get("split", "train")
        held_out = self.seen.setdefault(digest, split)
        if split == "train" and held_out != "train":
            return True
        whole = hashlib.sha256(digest + captions + b"pair").digest()[:16]
        if whole in self.seen:
            return True
        self.seen[whole] = split
        return False

    def add_files(self, blocks: list[pa.Table]) -> None:
        """Hash the corpus's tables and text files in Ray tasks."""
        self.files += _through_ray(blocks, hash_files)

    def close(self, kind: Kind, max_bad_fraction: float) -> dict[str, Any]:
        self._flush(1)
        self.writer.close()
        self.quarantine.close()
        pq.write_table(in_order(self.files), self.output / FILES)
        total = sum(self.by_source.values(), Counter())
        metrics: dict[str, Any] = {
            k: total[k] for k in ("read", "kept", "quarantined", "duplicates")
        }
        metrics["reasons"] = dict(self.reasons.most_common(20))
        metrics["sources"] = {name: dict(tally) for name, tally in self.by_source.items()}
        if not total["read"]:
            raise UserError(f"{kind}: the sources hold no rows; check --{kind}.source")
        if not total["kept"] or total["quarantined"] > max_bad_fraction * total["read"]:
            common = "; ".join(f"{n} × {r}" for r, n in self.reasons.most_common(3))
            raise UserError(
                f"{kind}: {total['quarantined']} of {total['read']} rows can't be used ({common}); "
                f"correct the sources {', '.join(self.by_source)} or raise "
                f"--{kind}.max-bad-fraction"
            )
        return metrics


def _to_hash(config: PrepareConfig, inputs: Mapping[str, Artifact], kind: Kind) -> list[pa.Table]:
    return [b for s in config.sources for b in blocks_to_hash(s, _resolve(s, inputs), kind)]


def _run_pictures(
    config: PrepareConfig, inputs: Mapping[str, Artifact], context: Context, kind: Kind
) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for source in config.sources:
        context.progress({"message": f"listing {source.name}"})
        rows += list_rows(source, _resolve(source, inputs), kind)
    for row in rows:
        row["split"] = row["split"] or split_of(row["group"], config.held_out)
    rows.sort(key=lambda r: (_HELD_OUT_FIRST.get(r["split"], 2), r["source"], r["key"]))
    sink = _Sink(context.output, IMAGE_SCHEMA, "image")
    schema = ROW_SCHEMA.append(pa.field("reason", pa.string()))
    function = PrepareImages(config.image, kind == "pairs")
    done = 0
    for table in _through_ray(_blocks(rows, schema), function):
        sink.add(table)
        done += len(table)
        context.progress({"step": done, "total": len(rows)})
    sink.add_files(_to_hash(config, inputs, kind))
    return sink.close(kind, config.max_bad_fraction)


def _text_places(uri: str) -> list[dict[str, Any]]:
    """What a Ray task reads at a time: a file, or a share of a data set."""
    if is_hub(uri):
        return text_places(uri)
    return [{"root": uri, "path": path} for path in list_text_files(uri)]


def run_prepare_images(
    config: PrepareConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: pictures → `data.parquet` by IMAGE_SCHEMA."""
    return _run_pictures(config, inputs, context, "images")


def run_prepare_pairs(
    config: PrepareConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: pictures with captions → `data.parquet` by IMAGE_SCHEMA."""
    return _run_pictures(config, inputs, context, "pairs")


def run_prepare_text(
    config: PrepareConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: text → `data.parquet` with columns source, key, text, split."""
    places = [
        {"source": source.name} | place
        for source in config.sources
        for place in _text_places(_resolve(source, inputs))
    ]
    blocks = [pa.Table.from_pylist([place], schema=_PLACE_SCHEMA) for place in places]
    sink = _Sink(context.output, TEXT_SCHEMA, "text")
    function = PrepareText(config.min_text_length, config.held_out)
    for table in _through_ray(blocks, function):
        sink.add(table)
        context.progress(
            {"message": f"{sum(t['read'] for t in sink.by_source.values())} documents"}
        )
    sink.add_files(_to_hash(config, inputs, "text"))
    return sink.close("text", config.max_bad_fraction)
