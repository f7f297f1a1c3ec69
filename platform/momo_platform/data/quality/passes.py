"""The passes of a selection, as tasks: look, join, score, write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from momo_platform.data.artifacts import ShardFile
from momo_platform.data.parts import read_record, read_table, write_record, write_table
from momo_platform.data.quality import near_texts
from momo_platform.data.quality.filters import texts_of
from momo_platform.data.quality.parts import LOOK, NEAR, SCORE, SCORES, Gone, Selection, part_of
from momo_platform.data.shard_reader import read_columns
from momo_platform.data.shards import write_rows
from momo_platform.data.tasks import Task
from momo_platform.stages.errors import UserError
from momo_platform.stages.storage.place import copy_file

STEPS_OF_SCORE = 4096
"""Scores are compared in steps of one in so many."""
EXAMPLES = 5


class Scorer(Protocol):
    """Of rows with `columns`: float32 [rows], higher is better. Made once a process."""

    @property
    def columns(self) -> Sequence[str]: ...

    def __call__(self, table: pa.Table) -> np.ndarray: ...


def look_at_rows(job: Selection, task: Task) -> Iterator[Task]:
    """Which rows of a file go by what they are, and the bands of its texts; of held-out rows these
    alone."""
    name = part_of(LOOK, task["number"])
    record = read_record(job.parts, name)
    if record is None:
        record = _looked_at(job, ShardFile(**task["file"]), name, task["held_out"])
        write_record(job.parts, name, record)
    yield record | {"number": task["number"]}


def _looked_at(job: Selection, file: ShardFile, name: str, held_out: bool) -> dict[str, Any]:
    filters = () if held_out else job.filters
    near, text = job.config.near_duplicates, job.config.text
    columns = {c for f in filters for c in f.columns} | ({text} if near else set())
    first, gone = 0, Gone()
    rows, made = [np.zeros(0, np.int64)], list[np.ndarray]()
    for table in read_columns(job.rows, file, sorted(columns)):
        left = np.ones(len(table), bool)
        for one in filters:
            told = one.reasons(table)
            goes = np.flatnonzero(left & np.array([bool(reason) for reason in told]))
            gone.add(first + goes, one.step, [told[n] for n in goes])
            left[goes] = False
        if near:
            here = np.flatnonzero(left)
            rows.append(first + here)
            made.append(near_texts.signatures_of(texts_of(table[text].take(pa.array(here)))))
        first += len(table)
    if near:
        parts = np.concatenate(rows), np.concatenate(made)
        near_texts.write_bands(job.parts, f"{name}.bands", *parts, near)
    gone.write(job.parts, name)
    return {"gone": len(gone.rows)}


def join_band(
    job: Selection, files: Sequence[tuple[str, int]], pieces: int, task: Task
) -> Iterator[Task]:
    """Pairs of texts that agree in a piece of a band, as a file."""
    name = f"join/{task['band']:04d}-{task['piece']:08d}"
    record = read_record(job.parts, name)
    if record is None:
        where = task["band"], task["piece"], pieces
        pairs = near_texts.pairs_in(job.parts, files, *where, job.config.near_duplicates)
        one, other = pairs.T
        write_table(job.parts, f"{name}.arrow", pa.table({"one": one, "other": other}))
        record = {"agree": f"{name}.arrow"}
        write_record(job.parts, name, record)
    yield record


def _gone(job: Selection, number: int) -> Gone:
    """What goes of a file before scores are looked at."""
    found = Gone.read(job.parts, part_of(LOOK, number))
    found.join(Gone.read(job.parts, part_of(NEAR, number)))
    return found


class ScoreRows:
    """Scores of the rows that are left. Made once a process; the scorer for the first file that has
    no scores yet."""

    def __init__(self, job: Selection, make: Callable[[], Scorer]) -> None:
        self._job, self._make = job, make
        self._scorer: Scorer | None = None

    def __call__(self, task: Task) -> Iterator[Task]:
        name = part_of(SCORES, task["number"])
        record = read_record(self._job.parts, name)
        if record is None:
            record = self._scored(ShardFile(**task["file"]), task["number"], name)
            write_record(self._job.parts, name, record)
        yield record | {"number": task["number"]}

    def _scored(self, file: ShardFile, number: int, name: str) -> dict[str, Any]:
        if self._scorer is None:
            self._scorer = self._make()
        job, first = self._job, 0
        gone = np.array(_gone(job, number).rows, np.int64)
        rows, scores = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        for table in read_columns(job.rows, file, self._scorer.columns):
            here = np.setdiff1d(np.arange(first, first + len(table)), gone, assume_unique=True)
            first += len(table)
            if len(here):
                left = table.take(pa.array(here - first + len(table)))
                rows.append(here)
                scores.append(self._scorer(left).astype(np.float32))
        columns = {"row": np.concatenate(rows), "score": np.concatenate(scores)}
        if not np.isfinite(columns["score"]).all():
            raise UserError(
                f"quality: the score of some rows of {file.file} is no number: the model's weights "
                "may be damaged; give another one"
            )
        write_table(job.parts, f"{name}.arrow", pa.table(columns))
        steps, counts = np.unique(in_steps(columns["score"]), return_counts=True)
        return {"steps": steps.tolist(), "counts": counts.tolist()}


def in_steps(scores: np.ndarray) -> np.ndarray:
    """int64, one in STEPS_OF_SCORE each."""
    return np.floor(scores.astype(np.float64) * STEPS_OF_SCORE).astype(np.int64)


def write_kept(job: Selection, task: Task) -> Iterator[Task]:
    """A file of the rows that are kept of one; yields what became of them."""
    name = part_of("kept", task["number"])
    record = read_record(job.parts, name)
    made = record and record["file"]
    if record is None or (made and job.output.size(made["file"]) != made["size"]):
        record = _kept(job, ShardFile(**task["file"]), task["number"])
        write_record(job.parts, name, record)
    yield record | {"number": task["number"]}


def _kept(job: Selection, file: ShardFile, number: int) -> dict[str, Any]:
    gone = _gone(job, number)
    if job.least is not None:
        scores = read_table(job.parts, f"{part_of(SCORES, number)}.arrow")
        low = np.flatnonzero(in_steps(scores["score"].to_numpy()) < job.least)
        values = scores["score"].to_numpy()[low]
        told = [f"score {value:.3f}" for value in values.tolist()]
        gone.add(scores["row"].to_numpy()[low], SCORE, told)
    record: dict[str, Any] = {
        "source": file.source,
        "rows": file.rows,
        "steps": Counter(gone.steps),
        "reasons": Counter(
            reason.partition(":")[0]
            for reason, step in zip(gone.reasons, gone.steps, strict=True)
            if step != SCORE
        ),
        "examples": [],
        "samples": [],
        "file": None,
    }
    if not gone.rows:
        copy_file(job.rows, job.output, file.file)
        return record | {"file": vars(file)}
    tables = _rest(job, file, gone, record)
    if len(gone.rows) == file.rows:
        for _ in tables:  # there is none, but it tells of the examples
            pass
        return record
    shard = write_rows(job.output, file.file, tables, job.row_group, file.source)
    return record | {"file": vars(shard)}


def _rest(
    job: Selection, file: ShardFile, gone: Gone, record: dict[str, Any]
) -> Iterator[pa.Table]:
    """The rows that are kept; notes in `record` some that are not, and samples among them."""
    why = {row: (s, r) for row, s, r in zip(gone.rows, gone.steps, gone.reasons, strict=True)}
    named: Counter[str] = Counter()
    first = 0
    for table in read_columns(job.rows, file, job.columns):
        goes = np.array([row in why for row in range(first, first + len(table))])
        keys = table["key"].to_pylist()
        for place in np.flatnonzero(goes).tolist():
            step, reason = why[first + place]
            if named[step] < EXAMPLES:
                named[step] += 1
                record["examples"].append([step, file.source, keys[place], reason])
            if (file.source, keys[place]) in job.samples:
                record["samples"].append([file.source, keys[place]])
        first += len(table)
        if not goes.all():
            yield table.filter(pa.array(~goes))
