"""The stage that keeps some of a corpus's prepared training rows.

Four passes, each over files side by side: *look* judges every row by itself and makes the bands of
its text; *join* finds texts that agree in a band; *score* gives the rows that are left a score, in
actors that hold a model; *write* writes the rows that are kept. What passes leave is below the
stage's parts, a file for each file of rows, so that an interrupted attempt goes on. A file of which
no row goes is taken as it is, by a hard link where that can be.

Memory of the stage's own process: a record a file, and about 100 bytes for each pair of texts that
agree in a band.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from momo_platform.data.artifacts import PreparedRows, RowIndex, ShardFile, write_index
from momo_platform.data.parts import read_tables
from momo_platform.data.quality import near_texts
from momo_platform.data.quality.config import QualityConfig
from momo_platform.data.quality.filters import RowFilter
from momo_platform.data.quality.parts import (
    FORMAT,
    LOOK,
    NEAR,
    NEAR_TEXT,
    SCORE,
    Gone,
    Selection,
    part_of,
)
from momo_platform.data.quality.passes import (
    STEPS_OF_SCORE,
    Scorer,
    ScoreRows,
    join_band,
    look_at_rows,
    write_kept,
)
from momo_platform.data.quality.selected_card import write_selected_card
from momo_platform.data.tasks import Actors, Task, run_on_actors, run_tasks
from momo_platform.stages.errors import UserError
from momo_platform.stages.stage import Context
from momo_platform.stages.storage.place import Place, copy_file


def select_rows(
    config: QualityConfig,
    prepared: PreparedRows,
    context: Context,
    filters: Sequence[RowFilter],
    scorer: Callable[[], Scorer] | None = None,
    actors: Actors | None = None,
) -> dict[str, Any]:
    """Stage: prepared rows → those that are kept; returns the metrics. `scorer` is made in each of
    the `actors`. Raises UserError where no row is left."""
    index = prepared.index()
    job = Selection(
        config,
        prepared.place,
        index.columns,
        index.row_group,
        context.output_place,
        context.parts / FORMAT,
        (*filters,),
    )
    card = prepared.card()
    steps = [one.step for one in filters]
    if filters or config.near_duplicates:
        _look(job, index, context)
    if config.near_duplicates:
        _join(job, index, context)
        steps.append(NEAR_TEXT)
    if scorer is not None:
        counts = _score(job, index, context, scorer, actors or Actors())
        job = replace(job, least=_least_score(config.keep, counts))
        steps.append(SCORE)
    job = replace(job, samples=frozenset((s["source"], s["key"]) for s in card["samples"]))
    records: dict[int, Task] = {}
    for record in run_tasks(_tasks(index.shards), partial(write_kept, job)):
        records[record["number"]] = record
        context.progress({"message": f"wrote file {len(records)} of {len(index.shards)}"})
    return _finish(job, prepared, context, [records[n] for n in sorted(records)], steps)


def _tasks(files: Sequence[ShardFile]) -> list[Task]:
    return [{"file": vars(file), "number": number} for number, file in enumerate(files)]


def _held_out(job: Selection, index: RowIndex) -> Sequence[ShardFile]:
    """Files whose texts are compared with those of training; they are numbered behind these."""
    return index.held_out if job.config.near_duplicates else ()


def _look(job: Selection, index: RowIndex, context: Context) -> None:
    tasks = _tasks([*index.shards, *_held_out(job, index)])
    for task in tasks:
        task["held_out"] = task["number"] >= len(index.shards)
    found: Counter[str] = Counter()
    for record in run_tasks(tasks, partial(look_at_rows, job)):
        found.update(files=1, gone=record["gone"])
        told = f"looked at file {found['files']} of {len(tasks)}: {found['gone']} rows go"
        context.progress({"message": told})


def _join(job: Selection, index: RowIndex, context: Context) -> None:
    """Tell each file of training rows which texts go: those that are nearly another, held-out ones
    counted as the first."""
    training = len(index.shards)
    files, first = [], 0
    for number in (*range(training, training + len(index.held_out)), *range(training)):
        files.append((f"{part_of(LOOK, number)}.bands", first))
        first += (*index.shards, *index.held_out)[number].rows
    pieces = near_texts.pieces_of(first)
    bands = near_texts.bands_of(job.config.near_duplicates)[0]
    tasks = [{"band": band, "piece": piece} for band in range(bands) for piece in range(pieces)]
    names = []
    for record in run_tasks(tasks, partial(join_band, job, files, pieces)):
        names.append(record["agree"])
        context.progress({"message": f"compared texts, {len(names)} of {len(tasks)}"})
    pairs = [
        np.stack([table["one"].to_numpy(), table["other"].to_numpy()], axis=1)
        for table in read_tables(job.parts, sorted(names))
    ]
    rows, heads = near_texts.repeats_among(np.unique(np.concatenate(pairs), axis=0))
    begins = np.array([begin for _, begin in files[len(index.held_out) :]], np.int64)
    ends = begins + [shard.rows for shard in index.shards]
    for number, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
        low, high = np.searchsorted(rows, [begin, end])
        tested = heads[low:high] < begins[0]
        told = ["like a held-out text" if one else "like another text" for one in tested.tolist()]
        gone = Gone()
        gone.add(rows[low:high] - begin, NEAR_TEXT, told)
        gone.write(job.parts, part_of(NEAR, number))


def _score(
    job: Selection,
    index: RowIndex,
    context: Context,
    scorer: Callable[[], Scorer],
    actors: Actors,
) -> Counter[int]:
    """How many rows have which score, in steps."""
    counts: Counter[int] = Counter()
    found = run_on_actors(_tasks(index.shards), partial(ScoreRows, job, scorer), actors)
    for done, record in enumerate(found, start=1):
        counts.update(dict(zip(record["steps"], record["counts"], strict=True)))
        context.progress({"message": f"scored file {done} of {len(index.shards)}"})
    return counts


def _least_score(keep: float, counts: Mapping[int, int]) -> int | None:
    """The lowest of the scores of the best `keep`, in steps; None where there are none. Rows with
    that score are all kept."""
    wanted, found = keep * sum(counts.values()), 0
    for step in sorted(counts, reverse=True):
        found += counts[step]
        if found >= wanted:
            return step
    return None


def _finish(
    job: Selection,
    prepared: PreparedRows,
    context: Context,
    records: Sequence[Mapping[str, Any]],
    steps: Sequence[str],
) -> dict[str, Any]:
    """Write what is not there yet: held-out files as they are, the index, the card."""
    index = prepared.index()
    shards = tuple(ShardFile(**record["file"]) for record in records if record["file"])
    if not shards:
        reasons = sum((Counter(record["steps"]) for record in records), Counter[str]())
        told = ", ".join(f"{count} × {step}" for step, count in reasons.most_common())
        raise UserError(f"quality: no training row is left ({told}); let more of them stay")
    for file in index.held_out:
        copy_file(job.rows, job.output, file.file)
    for file in (*shards, *index.held_out):
        context.made(file.file, size=file.size, sha256=file.sha256)
    threshold = None if job.least is None else job.least / STEPS_OF_SCORE
    metrics = write_selected_card(prepared, context.output, records, steps, job.config, threshold)
    write_index(Place.of(context.output), replace(index, shards=shards))
    return metrics
