"""The stages that mix a modality's prepared sources by weight: no picture is copied for it.

A mixture of pictures or pairs says how often each source's rows come and which rows never do; the
order (order.py) does the rest. One of texts has rows of its own (packing.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from momo_platform.data.artifacts import (
    LEFT_OUT,
    MixedSource,
    MixtureIndex,
    PreparedRows,
    ShardFile,
    write_mixture,
)
from momo_platform.data.config import MixConfig
from momo_platform.data.held_out import DUPLICATE, NEAR, HeldOutPictures
from momo_platform.data.parts import DIGEST
from momo_platform.data.shard_reader import read_columns
from momo_platform.data.tasks import Task, run_tasks
from momo_platform.data.valid_part import valid_rows, write_valid
from momo_platform.stages.errors import UserError
from momo_platform.stages.stage import Context
from momo_platform.stages.storage.place import Place

LEAST_ROWS = 10
"""Of one's own: fewer can't be divided into parts to train on, to measure on and to test on."""
_LEAST_TRAINED = 2


def mixed(
    config: MixConfig,
    columns: Sequence[str],
    rows: Mapping[str, int],
    output: Place,
    what: str,
) -> int:
    """Write what a mixture says of its sources, of which there are `rows`; returns how many rows
    an epoch has. Raises UserError where it has none."""
    weights = {name: float(config.weights.get(name, 1.0)) for name in rows}
    total = round(sum(weights[name] * count for name, count in rows.items()))
    if not total:
        raise UserError(
            f"{what}: the weights {dict(config.weights)} leave no training rows, or no row has "
            "split train"
        )
    sources = tuple(MixedSource(name, weights[name], count) for name, count in rows.items())
    write_mixture(output, MixtureIndex(tuple(columns), sources))
    return total


def tally(
    config: MixConfig, available: Mapping[str, int], tokens: Mapping[str, int] | None = None
) -> dict[str, dict[str, float]]:
    """By source: `available`, `weight`, and of an epoch `rows`, `tokens` (of text) and `share`.

    `share` is of the mixture's rows; of text, whose documents differ in length, of its tokens.
    """
    weights = {name: float(config.weights.get(name, 1.0)) for name in available}
    sizes = available if tokens is None else tokens
    total = sum(weights[name] * size for name, size in sizes.items()) or 1
    return {
        name: {
            "available": available[name],
            "weight": weights[name],
            "rows": round(weights[name] * available[name]),
            **({} if tokens is None else {"tokens": round(weights[name] * tokens[name])}),
            "share": round(weights[name] * sizes[name] / total, 6),
        }
        for name in sorted(available)
    }


def rows_by_source(shards: Sequence[ShardFile]) -> dict[str, int]:
    """In the order of the sources."""
    found = dict.fromkeys((shard.source for shard in shards), 0)
    for shard in shards:
        found[shard.source] += shard.rows
    return found


def _check_enough(prepared: PreparedRows, config: MixConfig) -> None:
    """Raise UserError for a person's own source that is too small."""
    if not config.own:
        return
    index = prepared.index()
    rows = index.rows + sum(file.rows for file in index.held_out)
    pictures: set[str] = set()
    for file in (*index.shards, *index.held_out):
        if len(pictures) < _LEAST_TRAINED or rows < LEAST_ROWS or index.rows < _LEAST_TRAINED:
            for table in read_columns(prepared.place, file, ["group"]):
                pictures |= set(table["group"].to_pylist())
    if rows >= LEAST_ROWS and min(index.rows, len(pictures)) >= _LEAST_TRAINED:
        return
    raise UserError(
        f"{config.own}: too few rows to train on: {rows} can be used, of {len(pictures)} pictures; "
        f"{index.rows} are left for training. Give at least {LEAST_ROWS} of several pictures, and "
        "hundreds for a result that says something"
    )


def _find_left_out(place: Place, held_out: HeldOutPictures, task: Task) -> Iterator[Task]:
    """In a Ray task: which rows of a shard the other corpus holds out, and why."""
    shard, number = ShardFile(**task["shard"]), task["first"]
    columns = [name for name in (DIGEST, "look") if name in task["columns"]]
    for table in read_columns(place, shard, columns):
        fates = held_out.fates(table)
        places = np.flatnonzero(fates)
        yield {"rows": (number + places).tolist(), "fates": fates[places].tolist()}
        number += len(table)


def _left_out(
    prepared: PreparedRows, held_out: HeldOutPictures | None, context: Context
) -> tuple[np.ndarray, dict[str, int]]:
    """Numbers of the training rows that are held out elsewhere, sorted, and how many go why."""
    index, first = prepared.index(), 0
    rows: list[int] = []
    fates: list[int] = []
    tasks: list[Task] = []
    for shard in index.shards if held_out else ():
        tasks.append({"shard": vars(shard), "first": first, "columns": index.columns})
        first += shard.rows
    if held_out:
        for found in run_tasks(tasks, partial(_find_left_out, prepared.place, held_out)):
            rows += found["rows"]
            fates += found["fates"]
            context.progress({"message": f"{len(rows)} rows are held out elsewhere"})
    gone = {"duplicates": fates.count(DUPLICATE), "near_duplicates": fates.count(NEAR)}
    return np.sort(np.array(rows, dtype=np.int64)), gone


def mix_rows(
    config: MixConfig,
    prepared: PreparedRows,
    context: Context,
    columns: Sequence[str],
    what: str,
    held_out: HeldOutPictures | None = None,
    tested: HeldOutPictures | None = None,
) -> dict[str, Any]:
    """Stage: prepared rows → a mixture of their training rows but those of `held_out`, of which
    training reads `columns`; and its valid part, without those of `tested`. `what` the rows are is
    for messages."""
    output, index = Place.of(context.output), prepared.index()
    left, gone = _left_out(prepared, held_out, context)
    available = rows_by_source(index.shards)
    first = 0
    for name, count in available.items():
        available[name] -= int(np.diff(np.searchsorted(left, [first, first + count]))[0])
        first += count
    rows = mixed(config, columns, available, output, what)
    if len(left):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"row": left}), sink, compression="zstd")
        output.write(LEFT_OUT, sink.getvalue().to_pybytes())
    looked_at = [n for n in (DIGEST, "look") if n in index.columns and tested]
    chosen = config.weights, config.valid_rows, config.seed
    valid = valid_rows(prepared, [*columns, *looked_at], *chosen)
    if tested and len(valid):
        valid = valid.filter(pa.array(tested.fates(valid) == 0))
    metrics = write_valid(output, valid.select(list(columns)), index.row_group)
    metrics |= {"rows": rows, "sources": tally(config, available)}
    return metrics if held_out is None else metrics | {"held_out": gone}


def mix_pictures(
    config: MixConfig,
    prepared: PreparedRows,
    context: Context,
    columns: Sequence[str],
    others: PreparedRows | None,
    split: str = "",
) -> dict[str, Any]:
    """Stage: prepared pictures → a mixture with `columns`, the `image` and perhaps more.

    Pictures that `others`, where given, hold out (in `split`, or at all) are left out, and so are
    those that look like them.
    """
    _check_enough(prepared, config)
    none = {"held_out": {"duplicates": 0, "near_duplicates": 0}}
    held_out = tested = None
    if others is not None:
        held_out = HeldOutPictures(others, config.near_duplicate_bits, split)
        # What the others hold out for testing is not looked at while training either.
        tested = HeldOutPictures(others, config.near_duplicate_bits, "test")
    return none | mix_rows(config, prepared, context, columns, "pictures", held_out, tested)
