"""A preparation's two passes: the memory of a reduce, and both beside Ray Data's own shuffle."""

from __future__ import annotations

import hashlib
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.benchmarks.data_parts.preparing import context_in
from experiments.benchmarks.harness import Row, compare, in_a_process, in_turn
from momo_platform.cluster import start_ray
from momo_platform.data import prepare as preparation
from momo_platform.data import reduce
from momo_platform.data.config import Kind, PrepareConfig, SourceConfig
from momo_platform.data.listers import Lister
from momo_platform.data.readers.base import Ignored
from momo_platform.data.sources import Unit
from momo_platform.data.splits import Division, divide_rows
from momo_platform.stages import Context


def peak() -> int:
    """Bytes that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class _Numbers(Lister):
    """Rows by number; the mapper makes what they hold."""

    schema = pa.schema({"source": pa.string(), "number": pa.int64(), "size": pa.int64()})

    def division(self, rows: Sequence[Any], config: PrepareConfig, more: float) -> Division:
        return divide_rows(rows, 0.0, 0.0)

    def __init__(self, rows: int, size: int) -> None:
        self.count, self.size = rows, size

    def rows(self, unit: Unit, kind: Any, ignored: Ignored) -> Iterator[dict[str, Any]]:
        for number in range(self.count):
            own = {"source": unit.source, "number": number, "size": self.size}
            yield own | {"split": "train", "group": "", "reason": None}

    def to_hash(self, source: SourceConfig, uri: str, kind: Any) -> list[pa.Table]:
        return []


_NOISE_SCHEMA = pa.schema(
    {n: pa.string() for n in ("source", "key", "split", "reason")} | {"payload": pa.binary()}
)

_KIND = Kind("noise", "", (), "payload")


def _noise(table: pa.Table) -> pa.Table:
    """Pictures of bytes that can't be compressed."""
    rows = [
        {
            "source": row["source"],
            "key": f"{row['number']:09d}",
            "split": "train",
            "payload": np.random.Generator(np.random.Philox(row["number"])).bytes(row["size"]),
        }
        for row in table.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=_NOISE_SCHEMA)


def prepare_noise(folder: Path, rows: int, size: int, bucket_bytes: int) -> Context:
    """The two passes over so many pictures of so many bytes."""
    config = PrepareConfig((SourceConfig("own", str(folder)),), bucket_bytes=bucket_bytes)
    context = context_in(folder)
    lister = _Numbers(rows, size)
    preparation.prepare(config, {}, context, _KIND, lister, _noise, _NOISE_SCHEMA)
    return context


def reduce_memory(rows: int, size: int) -> float:
    """In a process: bytes that one bucket's reduce takes at most above what the process took, for
    each byte of the bucket."""
    grown: list[int] = []

    def measured(*given: Any) -> Any:
        before = peak()
        record = run(*given)
        grown.append(peak() - before)
        return record

    run = reduce.reduce_bucket
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        small = Path(folder) / "small"
        small.mkdir()
        prepare_noise(small, 200, 1000, 2**29)  # what is loaded once
        large = Path(folder) / "large"
        large.mkdir()
        with mock.patch.object(preparation, "reduce_bucket", measured):
            prepare_noise(large, rows, size, 2**31)
    assert len(grown) == 1
    return grown[0] / (rows * size)


def reduce_rows(quick: bool) -> list[Row]:
    """A bucket of half a gigabyte, pictures of 25 kB."""
    count, runs = (400, 1) if quick else (20_000, 5)
    found = in_turn(
        runs, {"reduce": lambda: in_a_process(reduce_memory, count, 25_000)}, "reduce, × its bucket"
    )
    return [
        compare(
            f"memory of a reduce of {count * 25_000 / 1e6:,.0f} MB",
            found["reduce"],
            "its bucket",
            [1.0],
            unit="× its bucket",
            largest_ratio=100.0 if quick else 3.5,
        )
    ]


def _with_digest(table: pa.Table) -> pa.Table:
    digests = [hashlib.sha256(raw).digest()[:16] for raw in table["payload"].to_pylist()]
    return table.append_column("digest", pa.array(digests, pa.binary(16)))


def shuffle_rows(quick: bool) -> list[Row]:
    """The same pictures from Parquet to sorted Parquet: our two passes, and Ray Data's sort. Ours
    alone drops repeats, and goes on after a driver is killed."""
    import ray

    count, size, runs = (400, 25_000, 1) if quick else (12_000, 25_000, 5)

    def two_passes() -> float:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            started = time.perf_counter()
            prepare_noise(Path(folder), count, size, 2**26)
            return time.perf_counter() - started

    def sort() -> float:
        noise: Any = _noise
        digest: Any = _with_digest
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            started = time.perf_counter()
            numbers = list(_Numbers(count, size).rows(Unit("own", ""), None, Ignored()))
            blocks = [pa.Table.from_pylist(numbers[n : n + 256]) for n in range(0, count, 256)]
            data = ray.data.from_arrow(blocks)
            data = data.map_batches(noise, batch_format="pyarrow", batch_size=None)
            data = data.map_batches(digest, batch_format="pyarrow", batch_size=None)
            data.sort("digest").write_parquet(folder)
            taken = time.perf_counter() - started
            rows = sum(pq.read_metadata(f).num_rows for f in Path(folder).glob("*.parquet"))
            assert rows == count
            return taken

    with start_ray("local", num_cpus=2):
        ray.data.DataContext.get_current().enable_progress_bars = False
        calls = {"two passes": two_passes, "Ray Data's sort": sort}
        found = in_turn(runs, calls, f"{count * size / 1e6:,.0f} MB, s", warm_ups=1)
    return [
        compare(
            f"two passes over {count * size / 1e6:,.0f} MB",
            found["two passes"],
            "Ray Data's sort and write_parquet",
            found["Ray Data's sort"],
            largest_ratio=None if quick else 1.0,
        )
    ]
