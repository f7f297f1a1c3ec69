"""The stages that mix a modality's sources by weight, shuffle them and write shards."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from momo_platform.data.prepare import DATA
from momo_platform.data.shards import write_shards
from momo_platform.stages.errors import UserError
from momo_platform.stages.stage import Artifact, Context

SHARDS = "shards"
_BUCKET_BYTES = 256 * 2**20


@dataclass(frozen=True)
class MixConfig:
    """`weights` maps a source's name to how often its rows come in an epoch (default 1).

    `sequence_length` and the special tokens' ids are for text: documents are joined by `[SEP]`
    and cut into sequences that begin with `[CLS]`.
    """

    weights: Mapping[str, float]
    seed: int = 0
    shard_bytes: int = 256 * 2**20
    sequence_length: int = 64
    cls_id: int = 2
    sep_id: int = 3

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not 0.0 <= weight < float("inf"):
                raise UserError(f"weight of source {name}: {weight} must be 0 or more")


def repeats(rows: int, weight: float, generator: np.random.Generator) -> np.ndarray:
    """How often each of `rows` rows comes: the whole part of `weight`, and its rest by chance."""
    whole, rest = divmod(weight, 1.0)
    return int(whole) + (generator.random(rows) < rest).astype(np.int64)


def _weighted(
    path: Path, config: MixConfig, columns: list[str], generator: np.random.Generator
) -> Iterator[pa.Table]:
    """The training rows, repeated by their source's weight, in the file's order."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(1024):
            table = pa.table(batch)
            if "split" in table.column_names:
                table = table.filter(pc.field("split") == "train")
            if not len(table):
                continue
            sources = np.array(table["source"].to_pylist())
            times = np.zeros(len(table), dtype=np.int64)
            for source in np.unique(sources):
                here = sources == source
                weight = float(config.weights.get(str(source), 1.0))
                times[here] = repeats(int(here.sum()), weight, generator)
            rows = np.repeat(np.arange(len(table)), times)
            if len(rows):
                yield table.select(columns).take(pa.array(rows))


def shuffled(
    tables: Iterator[pa.Table], total_bytes: int, generator: np.random.Generator
) -> Iterator[pa.Table]:
    """All rows in random order. Rows go to random buckets of about 256 MB on disk, each shuffled
    in memory, so memory is that of one bucket."""
    buckets = max(1, -(-total_bytes // _BUCKET_BYTES))
    if buckets == 1:
        rows = pa.concat_tables(list(tables) or [pa.table({})])
        if len(rows):
            yield rows.take(pa.array(generator.permutation(len(rows))))
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.parquet" for i in range(buckets)]
        writers: dict[int, pq.ParquetWriter] = {}
        for table in tables:
            chosen = generator.integers(0, buckets, len(table))
            for bucket in np.unique(chosen):
                part = table.filter(pa.array(chosen == bucket))
                if bucket not in writers:
                    writers[bucket] = pq.ParquetWriter(paths[bucket], table.schema)
                writers[bucket].write_table(part)
        for writer in writers.values():
            writer.close()
        for bucket in sorted(writers):
            rows = pq.read_table(paths[bucket])
            yield rows.take(pa.array(generator.permutation(len(rows))))


def _size(path: Path, config: MixConfig) -> tuple[int, int]:
    """Upper bound of the mixture's bytes in memory, and the mean bytes of a row."""
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    heaviest = max([1.0, *config.weights.values()])
    return int(sum(groups) * heaviest) + 1, sum(groups) // max(1, metadata.num_rows) + 1


def _write(
    tables: Iterator[pa.Table],
    total_bytes: int,
    row_bytes: int,
    config: MixConfig,
    context: Context,
    generator: np.random.Generator,
    what: str,
) -> dict[str, Any]:
    mixed = shuffled(tables, total_bytes, generator)
    rows_per_shard = config.shard_bytes // row_bytes
    rows = write_shards(mixed, context.output / SHARDS, rows_per_shard=rows_per_shard)
    if not rows:
        raise UserError(
            f"{what}: the weights {dict(config.weights)} leave no training rows, or no row has "
            "split train"
        )
    return {"rows": rows}


def _mix_pictures(
    config: MixConfig, inputs: Mapping[str, Artifact], context: Context, columns: list[str]
) -> dict[str, Any]:
    path = inputs["prepared"].path / DATA
    generator = np.random.Generator(np.random.Philox(config.seed))
    tables = _weighted(path, config, columns, generator)
    if held_out := _held_out(inputs.get("pairs")):
        tables = _without(tables, held_out)
    return _write(tables, *_size(path, config), config, context, generator, "pictures")


def run_mix_images(
    config: MixConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: prepared pictures → shards with the column `image`.

    Pictures that the input `pairs`, where given, holds out for evaluation are left out.
    """
    return _mix_pictures(config, inputs, context, ["image"])


def _held_out(pairs: Artifact | None) -> set[bytes]:
    """Digests of the pictures in pairs that are not for training."""
    if pairs is None:
        return set()
    digests: set[bytes] = set()
    with pq.ParquetFile(pairs.path / DATA) as file:
        for batch in file.iter_batches(256, columns=["image", "split"]):
            held = pa.table(batch).filter(pc.field("split") != "train")
            digests |= {hashlib.sha256(raw).digest() for raw in held["image"].to_pylist()}
    return digests


def _without(tables: Iterator[pa.Table], held_out: set[bytes]) -> Iterator[pa.Table]:
    for table in tables:
        raw = table["image"].to_pylist()
        keep = [hashlib.sha256(r).digest() not in held_out for r in raw]
        yield table.filter(pa.array(keep))


def run_mix_pairs(
    config: MixConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: prepared pairs → shards with the columns `image`, `captions` and `group`."""
    return _mix_pictures(config, inputs, context, ["image", "captions", "group"])


def _slices(tables: Iterator[pa.Table], rows: int = 1024) -> Iterator[pa.Table]:
    for table in tables:
        for start in range(0, len(table), rows):
            yield table.slice(start, rows)


def _packed(documents: Iterator[pa.Table], tokenizer: Any, config: MixConfig) -> Iterator[pa.Table]:
    """Documents joined by `[SEP]`, cut into `[CLS]` and `sequence_length` - 1 tokens each."""
    length = config.sequence_length - 1
    rest = np.zeros(0, dtype=np.int32)
    kind = pa.list_(pa.int32(), config.sequence_length)
    for table in documents:
        encoded = tokenizer.encode_batch(table["text"].to_pylist(), add_special_tokens=False)
        pieces = [np.array([*e.ids, config.sep_id], dtype=np.int32) for e in encoded]
        flat = np.concatenate([rest, *pieces])
        count = len(flat) // length
        rest = flat[count * length :]
        if count:
            body = flat[: count * length].reshape(count, length)
            rows = np.concatenate([np.full((count, 1), config.cls_id, np.int32), body], axis=1)
            yield pa.table(
                {"ids": pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), type=kind)}
            )
    if len(rest) > 1:
        row = np.zeros(config.sequence_length, dtype=np.int32)
        row[0], row[1 : 1 + len(rest)] = config.cls_id, rest
        yield pa.table({"ids": pa.FixedSizeListArray.from_arrays(pa.array(row), type=kind)})


def run_mix_text(
    config: MixConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: prepared text and `tokenizer.json` → shards with the column `ids`."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(inputs["tokenizer"].path / "tokenizer.json"))
    path = inputs["prepared"].path / DATA
    generator = np.random.Generator(np.random.Philox(config.seed))
    documents = _weighted(path, config, ["text"], generator)
    # A token is four bytes and stands for about as many characters.
    size, _ = _size(path, config)
    # Shuffled before they are packed: copies of a weighted document must not stand side by side.
    mixed_documents = _slices(shuffled(documents, size, generator))
    packed = _packed(mixed_documents, tokenizer, config)
    row_bytes = 4 * config.sequence_length
    metrics = _write(packed, size, row_bytes, config, context, generator, "text")
    return metrics | {"tokens": metrics["rows"] * config.sequence_length}
