"""The first look at a preparation's sources, in one task: how the work is divided.

It lists `Job.surveyed` rows at most. Where the sources end before, held-out parts have their exact
size, and nothing is listed again. Else the number of rows is estimated, for each source by itself:
from what its reader knows, or from the bytes that its first rows take.
What follows from it (parts, buckets, splits) depends on the sources alone, never on the workers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pyarrow as pa

from momo_platform.data.parts import (
    Job,
    may_change,
    part_name,
    read_record,
    start_over,
    unit_name,
    write_record,
    write_table,
)
from momo_platform.data.readers.base import Ignored
from momo_platform.data.sources import Unit
from momo_platform.data.splits import Division

_LEAST_ROWS, _MOST_ROWS = 256, 8192  # of a part: fewer are all overhead (docs/experiments.md)
_PARTS = 64  # of a corpus, so that many tasks share even a small one
_PART_BYTES, _LEAST_BYTES = 2**26, 2**23  # that a task reads for a part; less is slow to ask for
_MORE_ROWS = 4  # times as many, until they have so many bytes
_HASH_BYTES = 2**28  # that a task reads for checksums
_ROW_BYTES = 50_000  # of a row of which nothing is known
_SAMPLED_ROWS = 256  # of a source that the survey does not reach
_GROWS = 8  # times as many bytes has a small JPEG as PNG, at most
_MOST_FINE, _LEAST_FINE, _FEW_BUCKETS = 16, 4, 64

_Seen = tuple[Unit, Sequence[dict[str, Any]], bool]  # some of its rows, and whether these are all


@dataclass(frozen=True)
class WorkPlan:
    """`listed`: how many parts the first units have, which need not be listed again. `rows`: about
    how many there are. `fine_buckets`: what the map divides rows into (buckets.py). `ignored`: by
    source, what is known not to be read, of the folders and of these units. `places` are those of
    the sources; `again`: as a record says it (parts.py)."""

    units: tuple[Unit, ...]
    listed: tuple[int, ...]
    hashes: int
    rows: int
    part_rows: int
    part_bytes: int
    fine_buckets: int
    division: Division
    ignored: Mapping[str, Ignored]
    places: Mapping[str, str]
    again: bool = False

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        known = {name: one.document() for name, one in self.ignored.items()}
        return dataclasses.asdict(replace(self, ignored={})) | {"ignored": known}

    @staticmethod
    def of(document: dict[str, Any]) -> WorkPlan:
        """Inverse of `document`."""
        units = [u | {"paths": u["paths"] and tuple(u["paths"])} for u in document["units"]]
        ignored = {name: Ignored.of(one) for name, one in document["ignored"].items()}
        division = Division(**document["division"])
        known = {"units": tuple(Unit(**u) for u in units), "listed": tuple(document["listed"])}
        return WorkPlan(**document | known | {"division": division, "ignored": ignored})


def survey(job: Job) -> WorkPlan:
    """Make the plan, and list what is listed on the way; where there is one already, return it.
    What was made of sources in other places is forgotten: they are not there any more."""
    if (document := read_record(job.parts, "plan")) is not None:
        if document["places"] == job.places and not document["again"]:
            return WorkPlan.of(document)
        start_over(job.parts)
    ignored = {source.name: Ignored() for source in job.config.sources}
    units = [
        unit
        for source in job.config.sources
        for unit in job.lister.units(
            source, job.places[source.name], job.kind, ignored[source.name]
        )
    ]
    rows, unread = _first_rows(job, units)
    whole = len(unread)  # units that were listed to their ends
    for unit, of_unit in zip(units, unread, strict=False):
        ignored[unit.source].merge(of_unit)
    counts = _row_counts(job, units, rows, whole)
    surveyed = [row for some in rows for row in some]
    more = 1.0 if whole == len(units) else sum(counts) / max(1, len(surveyed))
    read = sum(unit.size or 0 for unit in units)
    plan = WorkPlan(
        units=tuple(units),
        listed=(),
        hashes=_write_hashes(job),
        rows=sum(counts),
        part_rows=min(_MOST_ROWS, max(_LEAST_ROWS, 2 ** int(math.log2(1 + sum(counts) // 128)))),
        part_bytes=min(_PART_BYTES, max(_LEAST_BYTES, read // _PARTS)),
        fine_buckets=_fine_buckets(job, units, counts),
        division=job.lister.division(surveyed, job.config, more),
        ignored=ignored,
        places=job.places,
        again=any(may_change(row.get("reason")) for row in surveyed),
    )
    parts = [_write_listing(job, plan, n, rows[n], unread[n]) for n in range(whole)]
    plan = replace(plan, listed=tuple(sum(1 for _ in some) for some in parts))
    write_record(job.parts, "plan", plan.document())
    return plan


def _first_rows(
    job: Job, units: Sequence[Unit]
) -> tuple[list[list[dict[str, Any]]], list[Ignored]]:
    """The first rows by unit, and of units that end before it what is not read of them."""
    rows: list[list[dict[str, Any]]] = []
    unread: list[Ignored] = []
    left = job.surveyed
    for unit in units:
        ignored, some = Ignored(), []
        rows.append(some)
        for row in job.lister.rows(unit, job.kind, ignored):
            if len(some) == left:
                return rows, unread
            some.append(row)
        unread.append(ignored)
        left -= len(some)
    return rows, unread


def _row_counts(
    job: Job, units: Sequence[Unit], rows: Sequence[list[dict[str, Any]]], whole: int
) -> list[int]:
    """Rows of each unit, exact of the first `whole`, and never fewer than were listed."""
    begun = dict(enumerate(rows))
    a_byte: dict[str, float] = {}  # rows, by source
    counts = [len(some) for some in rows[:whole]]
    for number, unit in enumerate(units[whole:], start=whole):
        least = 1 + len(begun.get(number, ()))
        guess = unit.rows
        if guess is None and unit.size is not None:
            if unit.source not in a_byte:
                of_source = [n for n in begun if units[n].source == unit.source]
                seen = [(units[n], begun[n], n < whole) for n in of_source]
                if sum(len(some) for _, some, _ in seen) < _SAMPLED_ROWS:
                    seen = [_sampled(job, unit)]
                a_byte[unit.source] = _rows_a_byte(seen) or 1 / _ROW_BYTES
            guess = math.ceil(a_byte[unit.source] * unit.size)
        counts.append(max(least, 2 * least if guess is None else guess))
    return counts


def _rows_a_byte(seen: Iterable[_Seen]) -> float:
    """0 where it is not known."""
    counted = covered = 0
    for unit, some, ended in seen:
        places = (row["offset"] + row["size"] for row in some if row.get("offset") is not None)
        read = max(places, default=sum(row.get("size") or 0 for row in some))
        if size := (unit.size or 0) if ended else read:
            counted, covered = counted + len(some), covered + size
    return counted / max(1, covered)


def _sampled(job: Job, unit: Unit) -> _Seen:
    some = [*islice(job.lister.rows(unit, job.kind, Ignored()), _SAMPLED_ROWS)]
    return unit, some, len(some) < _SAMPLED_ROWS


def _fine_buckets(job: Job, units: Sequence[Unit], counts: Sequence[int]) -> int:
    """Several for each bucket that there may be, since more are merged and less can't be divided:
    of few more, since a small corpus is easier to misjudge and each costs a little of each part."""
    most = getattr(job.mapper, "row_bytes", None)
    size = 0
    for unit, count in zip(units, counts, strict=True):
        known = count * _ROW_BYTES if unit.size is None else unit.size
        size += known if most is None else min(_GROWS * known, count * most)
    buckets = max(1, -(-size // job.bucket_bytes))
    return max(_LEAST_FINE * buckets, _MOST_FINE * min(buckets, _FEW_BUCKETS))


def _write_hashes(job: Job) -> int:
    """Which files' checksums are to be made, some for each task; returns how many tasks."""
    groups: list[list[pa.Table]] = []
    held = _HASH_BYTES
    for source in job.config.sources:
        for block in job.lister.to_hash(source, job.places[source.name], job.kind):
            if held >= _HASH_BYTES:
                groups.append([])
                held = 0
            groups[-1].append(block)
            held += block["size"][0].as_py() or 0
    for number, group in enumerate(groups):
        write_table(job.parts, f"hash/{unit_name(number)}.arrow", pa.concat_tables(group))
    return len(groups)


def _in_parts(plan: WorkPlan, rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """As many rows together as a task prepares."""
    part: list[dict[str, Any]] = []
    held = 0
    for row in rows:
        size = row.get("size") or 0
        enough = held == 0 or held >= _LEAST_BYTES or len(part) >= _MORE_ROWS * plan.part_rows
        full = enough and len(part) >= plan.part_rows
        if part and (full or held + size > plan.part_bytes):
            yield part
            part, held = [], 0
        part.append(row)
        held += size
    if part:
        yield part


def _write_listing(
    job: Job, plan: WorkPlan, unit: int, rows: Iterable[dict[str, Any]], ignored: Ignored
) -> Iterator[int]:
    """Write a unit's parts, and its record at the end; yields each part's number when it is
    there."""
    parts, again = 0, False
    for part in _in_parts(plan, rows):
        again = again or any(may_change(row.get("reason")) for row in part)
        table = pa.Table.from_pylist(part, schema=job.lister.schema)
        write_table(job.parts, f"list/{part_name(unit, parts)}.arrow", table)
        yield parts
        parts += 1
    record = {"parts": parts, "ignored": ignored.document(), "again": again}
    write_record(job.parts, f"list/{unit_name(unit)}", record)


def list_unit_parts(job: Job, plan: WorkPlan, unit: int) -> Iterator[int | dict[str, Any]]:
    """In a task: the numbers of a unit's parts, each when it can be prepared; then a document of
    what is not read of it, if there is any."""
    record = read_record(job.parts, f"list/{unit_name(unit)}")
    if record is not None and not record["again"]:
        yield from range(record["parts"])
        ignored = Ignored.of(record["ignored"])
    else:
        for part in range(record["parts"] if record else 0):
            job.parts.remove(f"map/{part_name(unit, part)}.json")
        if record:
            job.parts.remove("reduce")
        ignored = Ignored()
        rows = job.lister.rows(plan.units[unit], job.kind, ignored)
        yield from _write_listing(job, plan, unit, rows, ignored)
    if ignored.counts:
        yield ignored.document()
