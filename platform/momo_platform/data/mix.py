"""The stages that mix a modality's sources by weight, shuffle them and write shards."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from momo_platform.data.artifacts import PreparedRows, Shards
from momo_platform.data.config import MixConfig
from momo_platform.data.held_out import HeldOutCaptions, HeldOutPictures
from momo_platform.data.shards import write_shards
from momo_platform.data.valid_part import valid_rows
from momo_platform.stages.errors import UserError
from momo_platform.stages.stage import Context

LEAST_ROWS = 10
"""Of one's own: fewer can't be divided into parts to train on, to measure on and to test on."""
_LEAST_TRAINED = 2
_BUCKET_BYTES = 256 * 2**20
_DOCUMENTS_A_ROW = 4  # held-out documents that are read for each sequence, should they be short


def repeats(rows: int, weight: float, generator: np.random.Generator) -> np.ndarray:
    """How often each of `rows` rows comes: the whole part of `weight`, and its rest by chance."""
    whole, rest = divmod(weight, 1.0)
    return int(whole) + (generator.random(rows) < rest).astype(np.int64)


@dataclass
class Tally:
    """What a mixture takes of each source: rows that there are, rows that it has, tokens of text.

    Counts are whole when the mixture was read to its end.
    """

    config: MixConfig
    available: Counter[str] = field(default_factory=Counter)
    mixed: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)

    def document(self) -> dict[str, dict[str, float]]:
        """By source: `available`, `weight`, `rows`, `tokens` (of text) and `share`.

        `share` is of the mixture's rows; of text, whose documents differ in length, of its tokens.
        """
        sizes = self.tokens or self.mixed
        total = max(1, sum(sizes.values()))
        return {
            name: {
                "available": self.available[name],
                "weight": float(self.config.weights.get(name, 1.0)),
                "rows": self.mixed[name],
                **({"tokens": self.tokens[name]} if self.tokens else {}),
                "share": round(sizes[name] / total, 6),
            }
            for name in sorted(self.available)
        }


def _training(
    path: Path, columns: Sequence[str], keep: Callable[[pa.Table], pa.Table] = lambda t: t
) -> Iterator[pa.Table]:
    """The training rows that `keep` leaves, in the file's order: `columns` and `source`."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(1024):
            table = pa.table(batch)
            if "split" in table.column_names:
                table = table.filter(pc.field("split") == "train")
            table = keep(table).select([*columns, "source"])
            if len(table):
                yield table


def _text_column(path: Path) -> str:
    """What prepared rows have text in: that of pairs is their captions."""
    return "text" if "text" in pq.read_schema(path).names else "captions"


def _documents(table: pa.Table) -> pa.Table:
    """`text` and `source`; of pairs each caption is a document."""
    if "text" in table.column_names:
        return table
    captions = table["captions"].combine_chunks()
    rows = pc.list_parent_indices(captions)  # pyright: ignore[reportAttributeAccessIssue]
    texts = pc.list_flatten(captions)  # pyright: ignore[reportAttributeAccessIssue]
    return pa.table({"text": texts, "source": table["source"].take(rows)})


def _weighted(
    tables: Iterator[pa.Table], tally: Tally, generator: np.random.Generator
) -> Iterator[pa.Table]:
    """Rows repeated by their source's weight."""
    for table in tables:
        sources = np.array(table["source"].to_pylist())
        times = np.zeros(len(table), dtype=np.int64)
        for source in np.unique(sources):
            here, name = sources == source, str(source)
            weight = float(tally.config.weights.get(name, 1.0))
            times[here] = repeats(int(here.sum()), weight, generator)
            tally.available[name] += int(here.sum())
            tally.mixed[name] += int(times[here].sum())
        rows = np.repeat(np.arange(len(table)), times)
        if len(rows):
            yield table.take(pa.array(rows))


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
    rows = write_shards(mixed, Shards(context.output).training, rows_per_shard=rows_per_shard)
    if not rows:
        raise UserError(
            f"{what}: the weights {dict(config.weights)} leave no training rows, or no row has "
            "split train"
        )
    return {"rows": rows}


def _write_valid(table: pa.Table, config: MixConfig, context: Context) -> dict[str, int]:
    if len(table):
        write_shards([table], Shards(context.output).valid, rows_per_shard=len(table))
    return {"valid_rows": len(table)}


def _check_enough(path: Path, config: MixConfig) -> None:
    """Raise UserError for a person's own source that is too small."""
    if not config.own:
        return
    rows = pq.read_table(path, columns=["split", "group"])
    training = rows["split"].to_pylist().count("train")
    pictures = pc.count_distinct(rows["group"]).as_py()  # pyright: ignore[reportAttributeAccessIssue]
    if len(rows) >= LEAST_ROWS and min(training, pictures) >= _LEAST_TRAINED:
        return
    raise UserError(
        f"{config.own}: too few rows to train on: {len(rows)} can be used, of {pictures} pictures; "
        f"{training} are left for training. Give at least {LEAST_ROWS} of several pictures, and "
        "hundreds for a result that says something"
    )


def mix_rows(
    config: MixConfig,
    prepared: PreparedRows,
    context: Context,
    columns: Sequence[str],
    what: str,
    keep: Callable[[pa.Table], pa.Table] = lambda table: table,
    keep_valid: Callable[[pa.Table], pa.Table] = lambda table: table,
) -> dict[str, Any]:
    """Stage: prepared rows → shards with `columns`, of the training rows that `keep` leaves and the
    rows of split `valid` that `keep_valid` leaves. `what` the rows are is for messages."""
    path = prepared.file
    generator, tally = np.random.Generator(np.random.Philox(config.seed)), Tally(config)
    weighted = _weighted(_training(path, columns, keep), tally, generator)
    tables = (table.drop_columns("source") for table in weighted)
    metrics = _write(tables, *_size(path, config), config, context, generator, what)
    chosen = config.weights, config.valid_rows, config.seed
    metrics |= _write_valid(valid_rows(path, columns, *chosen, keep_valid), config, context)
    return metrics | {"sources": tally.document()}


def mix_pictures(
    config: MixConfig,
    prepared: PreparedRows,
    context: Context,
    columns: Sequence[str],
    others: PreparedRows | None,
    split: str | None = None,
) -> dict[str, Any]:
    """Stage: prepared pictures → shards with `columns`, the `image` and perhaps more.

    Pictures that `others`, where given, hold out (in `split`, or at all) are left out, and so are
    those that look like them.
    """
    _check_enough(prepared.file, config)
    path = None if others is None else others.file
    held_out = HeldOutPictures(path, config.near_duplicate_bits, split)
    # What the others hold out for testing is not looked at while training either.
    tested = HeldOutPictures(path, config.near_duplicate_bits, "test")
    keep = held_out.without, tested.without
    metrics = mix_rows(config, prepared, context, columns, "pictures", *keep)
    return metrics | {"held_out": held_out.gone}


def _slices(tables: Iterator[pa.Table], rows: int = 1024) -> Iterator[pa.Table]:
    for table in tables:
        for start in range(0, len(table), rows):
            yield table.slice(start, rows)


def _packed(documents: Iterator[pa.Table], tokenizer: Any, tally: Tally) -> Iterator[pa.Table]:
    """Documents joined by `[SEP]`, cut into `[CLS]` and `sequence_length` - 1 tokens each."""
    config = tally.config
    length = config.sequence_length - 1
    rest = np.zeros(0, dtype=np.int32)
    kind = pa.list_(pa.int32(), config.sequence_length)
    for table in documents:
        encoded = tokenizer.encode_batch(table["text"].to_pylist(), add_special_tokens=False)
        pieces = [np.array([*e.ids, config.sep_id], dtype=np.int32) for e in encoded]
        for source, piece in zip(table["source"].to_pylist(), pieces, strict=True):
            tally.tokens[source] += len(piece)
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


def _valid_text(path: Path, tokenizer: Any, config: MixConfig) -> pa.Table:
    """At most `valid_rows` sequences, packed as those for training are."""
    most = _DOCUMENTS_A_ROW * config.valid_rows
    columns = [_text_column(path), "source"]
    documents = valid_rows(path, columns, config.weights, most, config.seed)
    packed: list[pa.Table] = []
    rows = 0
    for table in _packed(_slices(iter([_documents(documents)]), 64), tokenizer, Tally(config)):
        packed.append(table)
        rows += len(table)
        if rows >= config.valid_rows:
            break
    return pa.concat_tables(packed).slice(0, config.valid_rows) if packed else pa.table({"ids": []})


def mix_text(
    config: MixConfig,
    prepared: PreparedRows,
    tokenizer_file: Path,
    context: Context,
    others: PreparedRows | None,
) -> dict[str, Any]:
    """Stage: prepared text, or pairs for their captions → shards with the column `ids`. Documents
    that are captions which `others`, where given, hold out are left out."""
    from tokenizers import Tokenizer

    tokenizer, path = Tokenizer.from_file(str(tokenizer_file)), prepared.file
    generator, tally = np.random.Generator(np.random.Philox(config.seed)), Tally(config)
    held_out = HeldOutCaptions(None if others is None else others.file)
    training = _training(path, [_text_column(path)])
    texts = (held_out.without(_documents(table)) for table in training)
    documents = _weighted(texts, tally, generator)
    # A token is four bytes and stands for about as many characters.
    size, _ = _size(path, config)
    # Shuffled before they are packed: copies of a weighted document must not stand side by side.
    mixed_documents = _slices(shuffled(documents, size, generator))
    packed = _packed(mixed_documents, tokenizer, tally)
    row_bytes = 4 * config.sequence_length
    metrics = _write(packed, size, row_bytes, config, context, generator, "text")
    metrics |= {"sources": tally.document(), "held_out": {"captions": held_out.gone}}
    metrics |= _write_valid(_valid_text(path, tokenizer, config), config, context)
    return metrics | {"tokens": metrics["rows"] * config.sequence_length}
