"""The stage that mixes texts: each prepared shard is tokenized and packed in a task of its own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from momo_platform.data.artifacts import PreparedRows, RowIndex, ShardFile, write_index
from momo_platform.data.config import MixConfig
from momo_platform.data.held_out import held_out_captions
from momo_platform.data.mix import mixed, rows_by_source, tally
from momo_platform.data.parts import read_record, write_record
from momo_platform.data.shard_reader import read_columns
from momo_platform.data.shards import TOKEN_GROUP, write_rows
from momo_platform.data.tasks import Task, run_tasks
from momo_platform.data.valid_part import valid_rows, write_valid
from momo_platform.stages.stage import Context
from momo_platform.stages.storage.place import Place

_DOCUMENTS_A_ROW = 4  # held-out documents that are read for each sequence, should they be short


def text_column(columns: Sequence[str]) -> str:
    """What prepared rows have text in: that of pairs is their captions."""
    return "text" if "text" in columns else "captions"


def documents(table: pa.Table) -> list[str]:
    """Of a column with text; of captions each is a document."""
    (column,) = table.columns
    texts = column.to_pylist()
    return list(chain.from_iterable(texts)) if pa.types.is_list(column.type) else texts


@contextmanager
def _on_one_core() -> Iterator[None]:
    """Else `encode_batch` starts a thread for every core of the machine, in each of the tasks that
    have one core."""
    name, before = "TOKENIZERS_PARALLELISM", os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ[name] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


class Packer:
    """Documents joined by `[SEP]`, cut into `[CLS]` and `sequence_length` - 1 tokens each. Counts
    documents and tokens."""

    def __init__(self, tokenizer: Any, config: MixConfig) -> None:
        self._tokenizer, self._config = tokenizer, config
        self._kind = pa.list_(pa.int32(), config.sequence_length)
        self.documents = self.tokens = 0

    def pack(self, texts: Iterable[list[str]]) -> Iterator[pa.Table]:
        """Tables with the column `ids`; the last sequence is filled with 0."""
        config, length = self._config, self._config.sequence_length - 1
        rest = np.zeros(0, dtype=np.int32)
        for some in texts:
            with _on_one_core():
                encoded = self._tokenizer.encode_batch(some, add_special_tokens=False)
            pieces = [np.array([*e.ids, config.sep_id], dtype=np.int32) for e in encoded]
            self.documents += len(pieces)
            self.tokens += sum(map(len, pieces))
            flat = np.concatenate([rest, *pieces])
            count = len(flat) // length
            rest = flat[count * length :]
            if count:
                body = flat[: count * length].reshape(count, length)
                begin = np.full((count, 1), config.cls_id, np.int32)
                yield self._table(np.concatenate([begin, body], axis=1))
        if len(rest) > 1:
            row = np.zeros(config.sequence_length, dtype=np.int32)
            row[0], row[1 : 1 + len(rest)] = config.cls_id, rest
            yield self._table(row)

    def _table(self, rows: np.ndarray) -> pa.Table:
        flat = pa.array(rows.reshape(-1))
        return pa.table({"ids": pa.FixedSizeListArray.from_arrays(flat, type=self._kind)})


@dataclass(frozen=True)
class _Job:
    """What each task is given."""

    config: MixConfig
    tokenizer_json: str
    prepared: PreparedRows
    column: str
    others: PreparedRows | None
    parts: Place
    output: Place


@lru_cache(maxsize=1)
def _tokenizer(json: str) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(json)
    tokenizer.no_truncation()  # a file may keep those of the library that wrote it
    tokenizer.no_padding()
    return tokenizer


def _pack_shard(job: _Job, task: Task) -> Iterator[Task]:
    """In a Ray task: a prepared shard → one of token ids; yields its record, or that of one that is
    there."""
    name, shard = f"pack-{task['number']:05d}", ShardFile(**task["shard"])
    record = read_record(job.parts, name)
    made = record and record["shard"]
    if record and (not made or job.output.size(made["file"]) == made["size"]):
        yield record
        return
    held_out = held_out_captions(job.others) if job.others else frozenset()
    gone = 0

    def texts() -> Iterator[list[str]]:
        nonlocal gone
        for table in read_columns(job.prepared.place, shard, [job.column]):
            found = documents(table)
            kept = [text for text in found if text.casefold() not in held_out]
            gone += len(found) - len(kept)
            yield kept

    packer = Packer(_tokenizer(job.tokenizer_json), job.config)
    packed = packer.pack(texts())
    made = None
    if (first := next(packed, None)) is not None:
        tables = chain([first], packed)
        made = vars(write_rows(job.output, shard.file, tables, TOKEN_GROUP, shard.source))
    record = {"number": task["number"], "source": shard.source, "shard": made, "gone": gone}
    record |= {"documents": packer.documents, "tokens": packer.tokens}
    write_record(job.parts, name, record)
    yield record


def _valid_text(prepared: PreparedRows, column: str, tokenizer: Any, config: MixConfig) -> pa.Table:
    """At most `valid_rows` sequences, packed as those for training are."""
    most = _DOCUMENTS_A_ROW * config.valid_rows
    rows = valid_rows(prepared, [column], config.weights, most, config.seed)
    found = documents(rows)
    slices = (found[start : start + 64] for start in range(0, len(found), 64))
    packed: list[pa.Table] = []
    for table in Packer(tokenizer, config).pack(slices):
        packed.append(table)
        if sum(map(len, packed)) >= config.valid_rows:
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
    that are captions which `others`, where given, hold out are left out. Shards that an attempt
    before has made are not made again."""
    index, tokenizer = prepared.index(), tokenizer_file.read_text(encoding="utf-8")
    column = text_column(index.columns)
    output = Place.of(context.output)
    places = others, context.parts, context.output_place
    job = _Job(config, tokenizer, prepared, column, *places)
    tasks: list[Task] = [
        {"number": number, "shard": vars(shard)}
        for number, shard in enumerate(index.shards)
        if config.weights.get(shard.source, 1.0) > 0
    ]
    records: list[Task] = []
    for record in run_tasks(tasks, partial(_pack_shard, job)):
        records.append(record)
        context.progress({"step": len(records), "total": len(tasks)})
    shards = []
    available, tokens = (dict.fromkeys(rows_by_source(index.shards), 0) for _ in range(2))
    for record in sorted(records, key=lambda one: one["number"]):
        available[record["source"]] += record["documents"]
        tokens[record["source"]] += record["tokens"]
        if record["shard"]:
            shards.append(shard := ShardFile(**record["shard"]))
            context.made(shard.file, size=shard.size, sha256=shard.sha256)
    rows = mixed(config, ["ids"], rows_by_source(shards), output, "text")
    valid = _valid_text(prepared, column, _tokenizer(tokenizer), config)
    metrics: dict[str, Any] = write_valid(output, valid, TOKEN_GROUP)
    write_index(output, RowIndex(TOKEN_GROUP, ("ids",), tuple(shards)))
    metrics |= {"rows": rows, "sources": tally(config, available, tokens)}
    gone = sum(record["gone"] for record in records)
    return metrics | {"held_out": {"captions": gone}, "tokens": rows * config.sequence_length}
