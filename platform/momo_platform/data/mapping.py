"""The map of a preparation: a task prepares the rows of a part, and writes them by bucket.

What it holds are about `_HELD_BYTES` of prepared rows: then they are written, an object more. An
object is one Arrow record batch a fine bucket, behind each other; their sizes are in the part's
`.sizes.arrow` (buckets.py). Exact repeats among them are left out here, so that a picture that
comes a million times fills no bucket.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from momo_platform.data.buckets import write_sizes
from momo_platform.data.card import CardBuilder
from momo_platform.data.digests import (
    DIGEST_SCHEMA,
    FILES,
    files_in_order,
    hash_files,
    write_listing,
)
from momo_platform.data.parts import (
    DIGEST,
    Job,
    may_change,
    part_name,
    read_record,
    read_table,
    read_tables,
    rows_name,
    unit_name,
    write_record,
    write_table,
)
from momo_platform.data.repeats import buckets_of, digests_of, in_order
from momo_platform.data.splits import TRAIN
from momo_platform.data.survey import WorkPlan

_HELD_BYTES = 2**27
BAD_SCHEMA = pa.schema({"source": pa.string(), "key": pa.string(), "reason": pa.string()})
LOOK_SCHEMA = pa.schema(
    {n: pa.string() for n in ("source", "key", "split")} | {"look": pa.binary()}
)


def map_part(job: Job, plan: WorkPlan, unit: int, part: int) -> dict[str, Any]:
    """Prepare a part; returns its record, or that which is there."""
    name = f"map/{part_name(unit, part)}"
    if (record := read_record(job.parts, name)) is not None:
        if not record["again"]:
            return record
        job.parts.remove("reduce")  # which is made of all parts, and so can't have begun again
    rows = read_table(job.parts, f"list/{part_name(unit, part)}.arrow")
    prepared = _Part(job, plan, name)
    found = job.mapper(rows)
    for table in [found] if isinstance(found, pa.Table) else found:
        prepared.add(table)
    record = prepared.finished()
    write_record(job.parts, name, record)
    return record


class _Part:
    """What a task has of its part."""

    def __init__(self, job: Job, plan: WorkPlan, name: str) -> None:
        self._job, self._plan, self._name = job, plan, name
        self._card = CardBuilder(job.kind)
        self._held: list[pa.Table] = []
        self._tables: dict[str, list[pa.Table]] = {"bad": [], "files": [], "looks": []}
        self._sizes: list[np.ndarray] = []  # [fine buckets] of each object
        self._rows, self._again = 0, False

    def add(self, table: pa.Table) -> None:
        """A block by the job's schema."""
        table = self._with_splits(table)
        if "sha256" in table.column_names:
            hashed = table.filter(table["sha256"].is_valid())
            hashed = hashed.select(["source", "file", "size", "sha256"])
            self._tables["files"].append(hashed.rename_columns(DIGEST_SCHEMA.names))
        reason = pc.field("reason")
        bad = table.filter(reason != "")
        for row in bad.select(["source", "key", "split", "reason"]).to_pylist():
            self._card.count(row, "quarantined")
            self._again |= may_change(row["reason"])
        self._tables["bad"].append(bad.select(BAD_SCHEMA.names))
        good = table.filter(reason.is_null() | (reason == ""))
        digests = digests_of(good[self._job.kind.content])
        kept = self._job.kept
        good = good.select(kept.names[:-1]).append_column(DIGEST, digests).cast(kept)
        if self._job.near_bits is not None and self._job.near_bits >= 0:
            held_out = good.filter((pc.field("split") != TRAIN) & pc.field("look").is_valid())
            self._tables["looks"].append(held_out.select(LOOK_SCHEMA.names))
        self._rows += len(table)
        self._held.append(good)
        if sum(one.nbytes for one in self._held) >= _HELD_BYTES:
            self._write()

    def _with_splits(self, table: pa.Table) -> pa.Table:
        """Rows that name no split get theirs by their group, or by their text without one."""
        splits = table["split"].to_pylist()
        if all(splits):
            return table
        groups = table["group"].to_pylist() if "group" in table.column_names else [""] * len(splits)
        if "text" in table.column_names:
            texts = table["text"].to_pylist()
            groups = [group or text for group, text in zip(groups, texts, strict=True)]
        split_of = self._plan.division.split_of
        found = [s or split_of(g or "") for s, g in zip(splits, groups, strict=True)]
        place = table.column_names.index("split")
        return table.set_column(place, "split", pa.array(found, pa.string()))

    def _write(self) -> None:
        """What is held, to an object of its own."""
        table = pa.concat_tables(self._held).combine_chunks()
        self._held = []
        order, goes = in_order(table, by_key=self._job.by_key)
        for row in table.select(["source", "split"]).take(order[goes]).to_pylist():
            self._card.count(row, "duplicates")
        table = table.take(order[~goes]).combine_chunks()
        fine = self._plan.fine_buckets
        sizes = np.zeros(fine, np.int64)
        filled, starts = np.unique(buckets_of(table, fine), return_index=True)
        stops = [*starts[1:].tolist(), len(table)][: len(starts)]
        name = rows_name(self._name, len(self._sizes))
        with self._job.parts.writing(name) as path, pa.OSFile(str(path), "wb") as sink:
            for bucket, start, stop in zip(filled, starts.tolist(), stops, strict=True):
                begin = sink.tell()
                for batch in table.slice(start, stop - start).to_batches():
                    sink.write(batch.serialize())
                sizes[bucket] = sink.tell() - begin
        self._sizes.append(sizes)

    def finished(self) -> dict[str, Any]:
        """Write the rest; returns the record."""
        if self._held:
            self._write()
        record: dict[str, Any] = {"rows": self._rows, "objects": len(self._sizes)}
        record["again"] = self._again
        if self._sizes:
            write_sizes(self._job.parts, self._name, self._sizes)
        for name, tables in self._tables.items():
            table = pa.concat_tables(tables) if tables else None
            if table is not None and name == "files":
                table = files_in_order([table])
            record[name] = 0 if table is None else len(table)
            if record[name]:
                write_table(self._job.parts, f"{self._name}.{name}.arrow", table)
        return record | {"card": self._card.record()}


def hash_part(job: Job, number: int) -> None:
    """Checksums of some of the sources' files."""
    name = f"hash/{unit_name(number)}"
    if job.parts.size(f"{name}.done.arrow") is None:
        found = hash_files(read_table(job.parts, f"{name}.arrow"))
        write_table(job.parts, f"{name}.done.arrow", found)


def write_files(job: Job, hashes: int, parts: Sequence[str]) -> dict[str, Any]:
    """In a task: write what was read, each file once, to FILES; returns how many files and bytes
    there are, and the listing's digest."""
    names = [f"hash/{unit_name(number)}.done.arrow" for number in range(hashes)]
    names += [f"{part}.files.arrow" for part in parts]
    with job.output.writing(FILES) as path:
        known = write_listing(read_tables(job.parts, names), path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return {"files": known, "made": {"size": path.stat().st_size, "sha256": sha256}}
