"""The files by which a preparation's tasks hand rows on: what they are given, and how they write.

Below `parts`: `list/<unit>-<part>.arrow` are rows to prepare, `map/<unit>-<part>…` what became of
them, `ranges/…` where its buckets lie, `reduce/<bucket>…` what the shards of a bucket hold. A
`.json` is written last and says that its task is done: it is not done again, by whichever driver,
unless it says `again`: rows can't be used for a reason that may be gone by then.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa

from momo_platform.data.config import Kind, PrepareConfig
from momo_platform.data.listers import Lister
from momo_platform.stages.storage.place import Place

DIGEST = "digest"
"""The column with half the sha256 of what the kind's `content` column holds."""
NOT_KEPT = ("reason", "file", "size", "sha256")
_READERS = 8
_OUTSIDE = re.compile("does not exist|can't be (opened|read)|permission", re.IGNORECASE)
Mapper = Callable[[pa.Table], pa.Table | Iterable[pa.Table]]


@dataclass(frozen=True)
class Job:
    """What each task of a preparation is given. `places`: source → path or URI. `by_key`: of rows
    that repeat each other the first by source and key is kept, else the first that is listed.
    `surveyed`: rows that are listed before the rest is planned."""

    config: PrepareConfig
    places: Mapping[str, str]
    kind: Kind
    lister: Lister
    mapper: Mapper
    schema: pa.Schema
    near_bits: int | None
    bucket_bytes: int
    row_group: int
    by_key: bool
    parts: Place
    output: Place
    surveyed: int = 50_000

    @property
    def kept(self) -> pa.Schema:
        """The columns of rows that are kept, from the map on."""
        fields = [field for field in self.schema if field.name not in NOT_KEPT]
        return pa.schema([*fields, pa.field(DIGEST, pa.binary(16))])


def write_table(place: Place, name: str, table: pa.Table) -> None:
    """As Arrow IPC, compressed."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    place.write(name, sink.getvalue().to_pybytes())


def read_table(place: Place, name: str) -> pa.Table:
    return pa.ipc.open_stream(place.read(name)).read_all()


def read_tables(place: Place, names: Iterable[str]) -> Iterator[pa.Table]:
    """In this order, some ahead."""
    with ThreadPoolExecutor(_READERS) as pool:
        rest = iter(names)
        while some := [*islice(rest, 4 * _READERS)]:
            yield from pool.map(partial(read_table, place), some)


def write_record(place: Place, name: str, record: Mapping[str, Any]) -> None:
    place.write(f"{name}.json", json.dumps(record).encode())


def read_record(place: Place, name: str) -> dict[str, Any] | None:
    """None where the task is not done."""
    try:
        return json.loads(place.read(f"{name}.json"))
    except FileNotFoundError:
        return None


def start_over(parts: Place) -> None:
    """Forget what tasks have written, the plan last."""
    for name in ("reduce", "map", "list", "plan.json"):
        parts.remove(name)


def may_change(reason: str | None) -> bool:
    """Whether a row may be usable later, for a reason that is not in the corpus itself."""
    return reason is not None and _OUTSIDE.search(reason) is not None


def unit_name(unit: int) -> str:
    return f"{unit:08d}"  # as many digits as sort as text


def part_name(unit: int, part: int) -> str:
    return f"{unit:08d}-{part:08d}"


def rows_name(part: str, number: int) -> str:
    """Of an object that a part wrote."""
    return f"{part}.{number}.rows"
