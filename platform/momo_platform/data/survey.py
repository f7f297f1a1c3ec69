"""The first look at a preparation's sources, in one task: how the work is divided.

It lists rows up to LIMIT. Where the sources end before, held-out parts have their exact size, and
nothing is listed again. Else the number of rows is estimated from the sizes of files. What follows
from it (parts, buckets, splits) depends on the sources alone, never on the workers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from momo_platform.data.digests import blocks_to_hash
from momo_platform.data.parts import (
    Job,
    part_name,
    read_record,
    unit_name,
    write_record,
    write_table,
)
from momo_platform.data.readers.base import Ignored
from momo_platform.data.sources import Unit
from momo_platform.data.splits import Division

LIMIT = 50_000  # rows
_LEAST_ROWS, _MOST_ROWS = 256, 8192  # of a part: fewer are all overhead (docs/experiments.md)
_PARTS = 64  # of a corpus, so that many tasks share even a small one
_PART_BYTES, _LEAST_BYTES = 2**26, 2**20  # that a task reads for a part
_HASH_BYTES = 2**28  # that a task reads for checksums
_ROW_BYTES = 50_000  # of a row whose picture is elsewhere


@dataclass(frozen=True)
class Plan:
    """`listed`: the units that need not be listed again. `ignored`: by source, what their folders
    show not to be read."""

    units: tuple[Unit, ...]
    listed: int
    hashes: int
    rows: int
    part_rows: int
    part_bytes: int
    buckets: int
    division: Division
    ignored: Mapping[str, Ignored]

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        known = {name: one.document() for name, one in self.ignored.items()}
        return dataclasses.asdict(replace(self, ignored={})) | {"ignored": known}

    @staticmethod
    def of(document: dict[str, Any]) -> Plan:
        """Inverse of `document`."""
        units = [u | {"paths": u["paths"] and tuple(u["paths"])} for u in document["units"]]
        ignored = {name: Ignored.of(one) for name, one in document["ignored"].items()}
        division = Division(**document["division"])
        known = {"units": tuple(Unit(**u) for u in units), "division": division, "ignored": ignored}
        return Plan(**document | known)


def survey(job: Job) -> Plan:
    """Make the plan, and list what is listed on the way; where there is one already, return it."""
    if (document := read_record(job.parts, "plan")) is not None:
        return Plan.of(document)
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
    counts = _row_counts(units, rows, whole)
    total = sum(counts)
    surveyed = [row for some in rows for row in some]
    size = _prepared_bytes(job, units, counts)
    read = sum(unit.size or 0 for unit in units)
    plan = Plan(
        units=tuple(units),
        listed=whole,
        hashes=_write_hashes(job),
        rows=total,
        part_rows=min(_MOST_ROWS, max(_LEAST_ROWS, 2 ** int(math.log2(max(1, total // 128))))),
        part_bytes=min(_PART_BYTES, max(_LEAST_BYTES, read // _PARTS)),
        buckets=max(1, -(-size // job.bucket_bytes)),
        division=job.lister.division(
            surveyed, job.config, 1.0 if whole == len(units) else total / max(1, len(surveyed))
        ),
        ignored=ignored,
    )
    for number in range(whole):
        for _ in write_listing(job, plan, number, rows[number], unread[number]):
            pass
    write_record(job.parts, "plan", plan.document())
    return plan


def _first_rows(
    job: Job, units: Sequence[Unit]
) -> tuple[list[list[dict[str, Any]]], list[Ignored]]:
    """Rows by unit, up to LIMIT, and of units that end before it what is not read of them."""
    rows: list[list[dict[str, Any]]] = []
    unread: list[Ignored] = []
    left = LIMIT
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
    units: Sequence[Unit], rows: Sequence[list[dict[str, Any]]], whole: int
) -> list[int]:
    """Rows of each unit, exact of the first `whole`."""
    counted, covered = 0, 0
    for number, (unit, some) in enumerate(zip(units, rows, strict=False)):
        last = some[-1] if some else {}
        if number < whole:
            covered += unit.size or 0
        elif last.get("offset") is not None:
            covered += last["offset"] + last["size"]  # how far its file was read
        else:
            continue
        counted += len(some)
    share = counted / max(1, covered)
    counts = [len(some) for some in rows[:whole]]
    for number, unit in enumerate(units[whole:], start=whole):
        least = len(rows[number]) if number < len(rows) else 0
        guess = round(share * (unit.size or 0)) if unit.rows is None else unit.rows
        counts.append(max(least, guess))
    return counts


def _prepared_bytes(job: Job, units: Sequence[Unit], counts: Sequence[int]) -> int:
    """About what all rows have when they are prepared."""
    size = sum(
        count * _ROW_BYTES if unit.size is None else unit.size
        for unit, count in zip(units, counts, strict=True)
    )
    most = getattr(job.mapper, "row_bytes", None)
    return size if most is None else min(size, sum(counts) * most)


def _write_hashes(job: Job) -> int:
    """Which files' checksums are to be made, some for each task; returns how many tasks."""
    groups: list[list[pa.Table]] = []
    held = _HASH_BYTES
    for source in job.config.sources:
        for block in blocks_to_hash(source, job.places[source.name], job.kind):
            if held >= _HASH_BYTES:
                groups.append([])
                held = 0
            groups[-1].append(block)
            held += block["size"][0].as_py() or 0
    for number, group in enumerate(groups):
        write_table(job.parts, f"hash/{unit_name(number)}.arrow", pa.concat_tables(group))
    return len(groups)


def _in_parts(plan: Plan, rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """As many rows together as a task prepares."""
    part: list[dict[str, Any]] = []
    held = 0
    for row in rows:
        size = row.get("size") or 0
        if part and (len(part) == plan.part_rows or held + size > plan.part_bytes):
            yield part
            part, held = [], 0
        part.append(row)
        held += size
    if part:
        yield part


def write_listing(
    job: Job, plan: Plan, unit: int, rows: Iterable[dict[str, Any]], ignored: Ignored
) -> Iterator[int]:
    """Write a unit's parts, and its record at the end; yields each part's number when it is there."""
    parts = total = 0
    for part in _in_parts(plan, rows):
        table = pa.Table.from_pylist(part, schema=job.lister.schema)
        write_table(job.parts, f"list/{part_name(unit, parts)}.arrow", table)
        yield parts
        parts, total = parts + 1, total + len(part)
    record = {"parts": parts, "rows": total, "ignored": ignored.document()}
    write_record(job.parts, f"list/{unit_name(unit)}", record)


def list_parts(job: Job, plan: Plan, unit: int) -> Iterator[int]:
    """In a task: the numbers of a unit's parts, each when it can be prepared."""
    if (record := read_record(job.parts, f"list/{unit_name(unit)}")) is not None:
        yield from range(record["parts"])
        return
    ignored = Ignored()
    rows = job.lister.rows(plan.units[unit], job.kind, ignored)
    yield from write_listing(job, plan, unit, rows, ignored)


def ignored_of(job: Job, plan: Plan) -> dict[str, Ignored]:
    """By source what was not read, when all is listed."""
    for number, unit in enumerate(plan.units):
        record = read_record(job.parts, f"list/{unit_name(number)}")
        assert record is not None
        plan.ignored[unit.source].merge(Ignored.of(record["ignored"]))
    return dict(plan.ignored)
