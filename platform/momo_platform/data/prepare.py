"""The stages that make usable rows of raw ones, by Ray Data.

Rows stream through Ray tasks in order (`preserve_order`) into one Parquet file a stage. What
can't be used goes to `quarantine.parquet` with its reason and is counted; training pictures that
look like held-out ones go to `near_duplicates.parquet`; `sources.parquet` holds size and sha256 of
every file that was read; `card.json` and `card.md` tell what there is.

Memory: the stage's own process holds the listing (about 1 kB a picture), one block, two digests a
kept row (about 250 bytes) and the look of each held-out picture (about 700 bytes). A task holds
the raw bytes of 64 pictures at most and the capped ones of one block of 256, or 4,096 documents.
Equal sources give equal bytes: rows are sorted and row groups have a fixed size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from momo_platform.data.config import DATA, Kind, PrepareConfig, SourceConfig
from momo_platform.data.digests import blocks_to_hash, hash_files
from momo_platform.data.filesystems import filesystem_of
from momo_platform.data.listing import ROW_SCHEMA
from momo_platform.data.readers.base import Ignored
from momo_platform.data.rows import (
    IMAGE_SCHEMA,
    TEXT_SCHEMA,
    PrepareImages,
    PrepareText,
)
from momo_platform.data.sink import QUARANTINE, Sink
from momo_platform.data.sources import list_rows, text_places
from momo_platform.data.splits import divide_rows, estimate_documents, shares
from momo_platform.stages.stage import Artifact, Context

__all__ = ["DATA", "QUARANTINE", "PrepareConfig", "in_blocks", "prepare_rows", "resolve"]
_TASK_ROWS = 256  # fewer are all overhead (docs/experiments.md); more leave the last task alone
# Ray Data's reservation of resources starts a task only a second after the one before and idles
# 0.2 s between tasks (Ray 2.60, docs/experiments.md). It is there to hold tasks back when nobody
# takes what they made: our writer takes what about thirty processors prepare, so it is off below.
_NO_RESERVATION_CPUS = 16
_HELD_OUT_FIRST = {"test": 0, "valid": 1}
_PLACE_SCHEMA = pa.schema(
    {n: pa.string() for n in ("source", "root", "path")}
    | {n: pa.int64() for n in ("start", "stop")}
    | {"alone": pa.bool_()}
)


def resolve(source: SourceConfig, inputs: Mapping[str, Artifact]) -> str:
    """The place of a source, which may lie in an input."""
    if not source.uri.startswith("input:"):
        return source.uri
    role, _, rest = source.uri.removeprefix("input:").partition("/")
    return str(inputs[role].path / rest)


def in_blocks(rows: list[dict[str, Any]], schema: pa.Schema) -> list[pa.Table]:
    """Rows in the order of the list, as many together as a Ray task takes."""
    return [
        pa.Table.from_pylist(rows[i : i + _TASK_ROWS], schema=schema)
        for i in range(0, len(rows), _TASK_ROWS)
    ]


def _through_ray(blocks: list[pa.Table], function: Any) -> Iterator[pa.Table]:
    """Map blocks by Ray Data, results in the order of the input."""
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    many = ray.cluster_resources().get("CPU", 0.0) > _NO_RESERVATION_CPUS
    context.op_resource_reservation_enabled = many
    dataset = ray.data.from_arrow(blocks).map_batches(
        function, batch_format="pyarrow", batch_size=None
    )
    yield from dataset.iter_batches(batch_format="pyarrow", batch_size=None)


def _to_hash(config: PrepareConfig, inputs: Mapping[str, Artifact], kind: Kind) -> list[pa.Table]:
    return [b for s in config.sources for b in blocks_to_hash(s, resolve(s, inputs), kind)]


def prepare_rows(
    blocks: list[pa.Table],
    function: Any,
    sink: Sink,
    config: PrepareConfig,
    inputs: Mapping[str, Artifact],
    context: Context,
    total: int | None = None,
) -> dict[str, Any]:
    """Blocks of raw rows through `function`, in Ray tasks and in order, into the sink, and the
    checksums of the sources' files; returns the metrics. `total`: how many rows there are."""
    for table in _through_ray(blocks, function):
        sink.add(table)
        read = sink.card.total["read"]
        known = {"step": read, "total": total}
        context.progress(known if total is not None else {"message": f"{read} documents"})
    sink.add_files(_through_ray(_to_hash(config, inputs, sink.kind), hash_files))
    metrics = sink.close(config.sources, config.max_bad_fraction)
    if note := "; ".join(filter(None, (sink.left_out(), sink.not_read()))):
        context.progress({"note": note})
    return metrics


def prepare_pictures(
    config: PrepareConfig, inputs: Mapping[str, Artifact], context: Context, kind: Kind
) -> dict[str, Any]:
    """Stage: pictures, with captions where the kind needs them → `data.parquet` by IMAGE_SCHEMA."""
    rows: list[dict[str, Any]] = []
    ignored = {source.name: Ignored() for source in config.sources}
    for source in config.sources:
        context.progress({"message": f"listing {source.name}"})
        place = resolve(source, inputs)
        rows += list_rows(source, place, kind, ignored=ignored[source.name])
    divide_rows(rows, config.held_out, config.valid)
    rows.sort(key=lambda r: (_HELD_OUT_FIRST.get(r["split"], 2), r["source"], r["key"]))
    sink = Sink(context.output, kind, IMAGE_SCHEMA, config.near_duplicate_bits)
    sink.card.ignored = ignored
    schema = ROW_SCHEMA.append(pa.field("reason", pa.string()))
    function = PrepareImages(config.image, kind.needs("caption"))
    blocks = in_blocks(rows, schema)
    return prepare_rows(blocks, function, sink, config, inputs, context, len(rows))


def _count_documents(places: list[dict[str, Any]]) -> int:
    """About how many documents there are; of data sets exactly."""
    files: dict[str, list[str]] = {}
    count = 0
    for place in places:
        if place.get("stop") is not None:
            count += place["stop"] - place["start"]
        else:
            files.setdefault(place["root"], []).append(place["path"])
    return count + sum(estimate_documents(filesystem_of(r), paths) for r, paths in files.items())


def prepare_text(
    config: PrepareConfig, inputs: Mapping[str, Artifact], context: Context, kind: Kind
) -> dict[str, Any]:
    """Stage: text → `data.parquet` with columns source, key, text, split."""
    ignored = {source.name: Ignored() for source in config.sources}
    places = [
        {"source": source.name} | place
        for source in config.sources
        for place in text_places(resolve(source, inputs), kind, ignored[source.name])
    ]
    blocks = [pa.Table.from_pylist([place], schema=_PLACE_SCHEMA) for place in places]
    sink = Sink(context.output, kind, TEXT_SCHEMA)
    sink.card.ignored = ignored
    documents = _count_documents(places) if config.held_out is None else 0
    function = PrepareText(config.min_text_length, shares(documents, config.held_out, config.valid))
    return prepare_rows(blocks, function, sink, config, inputs, context)
