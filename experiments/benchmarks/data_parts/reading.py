"""Training rows as ranks read them: what is fetched for what is used, how soon the first batch
comes from a large corpus in a bucket, and whether a bucket feeds as fast as a folder does."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

from experiments.benchmarks.data_parts.slow_store import slow_store
from experiments.benchmarks.harness import Row, compare, in_a_process, in_turn
from experiments.benchmarks.pictures import photographs, twemoji
from momo.transforms import decode, random_crop
from momo_platform.data.artifacts import RowIndex, ShardFile, write_index
from momo_platform.data.dataset import ShardDataset
from momo_platform.data.loader import Loader
from momo_platform.data.order import uniform
from momo_platform.data.shards import write_rows
from momo_platform.stages.storage.place import Place

BATCH, PROCESSES, ROW_GROUP = 128, 2, 64
LATENCY = 0.03
"""Seconds that the bucket's every answer is late."""
RANKS = (1, 2, 4, 8)


def crops(table: pa.Table, seeds: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """A loader's transform: decode, random resized crop → uint8 [B, 3, size, size]."""
    noise = uniform(seeds, 4)
    raws = table.column("image").to_pylist()
    made = [random_crop(decode(raw), size, n) for raw, n in zip(raws, noise, strict=True)]
    return {"pixels": np.stack([np.ascontiguousarray(one) for one in made])}


def _sizes(table: pa.Table, _: np.ndarray) -> dict[str, np.ndarray]:
    return {"rows": np.array([len(table)])}


def lay_out_rows(place: Place, rows: int, shards: int, value: Callable[[int], bytes]) -> int:
    """So many rows with a column `image` in shards, and their index; returns their bytes."""
    each = rows // shards
    files = []
    for shard in range(shards):
        raws = [value(shard * each + row) for row in range(each)]
        table = pa.table({"image": pa.array(raws, pa.binary())})
        name = f"shards/own-{shard:05d}.parquet"
        files.append(write_rows(place, name, [table], ROW_GROUP, "own"))
    write_index(place, RowIndex(ROW_GROUP, ("image",), tuple(files)))
    return sum(file.size for file in files)


@contextmanager
def _own_cache() -> Iterator[None]:
    """As on a node of its own."""
    before = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        try:
            yield
        finally:
            os.environ.pop("XDG_CACHE_HOME")
            if before is not None:
                os.environ["XDG_CACHE_HOME"] = before


def read_as(root: str, path: str, rank: int, ranks: int, steps: int) -> None:
    """In a process: a rank's part of so many steps, nothing decoded."""
    loader = Loader(
        ShardDataset(Place(root, path)),
        _sizes,
        global_batch_size=256,
        rank=rank,
        world_size=ranks,
    )
    batches = loader.iterate(0)
    for _ in range(steps):
        next(batches)
    loader.close()


def fetched_rows(quick: bool) -> list[Row]:
    """Bytes that came from the bucket over one epoch, for each byte of its shards; a rank is a
    process on a node of its own."""
    rows, made = (20_480, 4) if quick else (204_800, 10)
    generator = np.random.Generator(np.random.Philox(0))
    found = []
    with slow_store(0.0) as store:
        place = Place(store.uri, "rows")
        stored = lay_out_rows(place, rows, made, lambda _: generator.bytes(1024))
        for ranks in RANKS[:2] if quick else RANKS:
            before = store.received
            for rank in range(ranks):
                with _own_cache():
                    in_a_process(read_as, store.uri, "rows", rank, ranks, rows // 256)
            ratio = (store.received - before) / stored
            found.append(
                compare(
                    f"fetched over used, {ranks} ranks",
                    [ratio],
                    "used",
                    [1.0],
                    unit="bytes a byte",
                    largest_ratio=1.1,
                )
            )
    return found


def first_batch(root: str, path: str) -> float:
    """In a process: seconds to the first batch of a training, reader processes included."""
    started = time.perf_counter()
    loader = Loader(
        ShardDataset(Place(root, path)), _sizes, global_batch_size=256, processes=PROCESSES
    )
    next(loader.iterate(0))
    return time.perf_counter() - started


def first_batch_rows(quick: bool) -> list[Row]:
    """Of 10 million rows in 500 shards (rows of 32 bytes), from a bucket that answers late."""
    shards, each = (5, 2_048) if quick else (500, 20_000)
    noise = np.random.Generator(np.random.Philox(1)).bytes(32 * each)
    with slow_store(LATENCY) as store, tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        here, place = Place(folder), Place(store.uri, "many")
        table = pa.table(
            {"image": pa.array([noise[32 * n : 32 * n + 32] for n in range(each)], pa.binary())}
        )
        one = write_rows(here, "one.parquet", [table], ROW_GROUP)
        raw = here.read("one.parquet")
        names = [f"shards/own-{number:05d}.parquet" for number in range(shards)]
        for name in names:
            place.write(name, raw)
        files = (ShardFile(n, one.rows, one.size, "own", one.sha256, one.ends_at) for n in names)
        write_index(place, RowIndex(ROW_GROUP, ("image",), tuple(files)))

        def seconds() -> float:
            with _own_cache():
                return in_a_process(first_batch, store.uri, "many")

        runs = in_turn(1 if quick else 5, {"first batch": seconds}, "first batch, s")
    return [
        compare(
            f"first batch of {shards * each:,} rows in a bucket, {LATENCY * 1000:.0f} ms late",
            runs["first batch"],
            "goal",
            [10.0],
            unit="s",
            largest_value=10.0,
        )
    ]


def steady_rate(root: str, path: str, size: int, batches: int) -> tuple[float, float]:
    """In a process: samples a second behind the first windows' row groups, and microseconds of
    processor time for each, of this process and its readers."""
    loader = Loader(
        ShardDataset(Place(root, path)),
        partial(crops, size=size),
        global_batch_size=BATCH,
        prefetch=4,
        processes=1,  # the other core is the server's
    )
    stream = loader.iterate(0)
    for _ in range(8):
        next(stream)
    started, worked = time.perf_counter(), _processor_seconds()
    for _ in range(batches):
        next(stream)
    rate = batches * BATCH / (time.perf_counter() - started)
    return rate, 1e6 * (_processor_seconds() - worked) / (batches * BATCH)


def _processor_seconds() -> float:
    """Of this process and those that it started and that still run."""
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def steady_rows(quick: bool) -> list[Row]:
    """From a bucket that answers late, beside a local folder: decoded and cropped."""
    runs, found = 1 if quick else 5, []
    small, large = twemoji(), photographs(60, (341, 256))
    kinds: list[tuple[str, list[bytes], int, int, int]] = [
        ("twemoji", small, 64, 20_480 if quick else 102_400, 40 if quick else 240),
        ("photographs", large, 224, 20_480 if quick else 25_600, 4 if quick else 40),
    ]
    with slow_store(LATENCY) as store, tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        for kind, raws, size, rows, batches in kinds:
            here = Place(folder, kind)
            lay_out_rows(here, rows, 10, lambda row, raws=raws: raws[row % len(raws)])
            there = Place(store.uri, kind)
            for name in here.names():
                there.write(name, here.read(name))

            worked: dict[str, list[float]] = {there.root: [], here.root: []}

            def rate(
                place: Place,
                size: int = size,
                batches: int = batches,
                worked: dict[str, list[float]] = worked,
            ) -> float:
                with _own_cache():
                    given: tuple[Any, ...] = (place.root, place.path, size, batches)
                    found, processor = in_a_process(steady_rate, *given)
                worked[place.root].append(processor)
                return found

            calls = {"bucket": partial(rate, there), "folder": partial(rate, here)}
            rates = in_turn(runs, calls, f"{kind}, samples/s")
            found.append(
                compare(
                    f"{kind}, {size} px: processor time of a sample from a bucket",
                    worked[there.root],
                    "from a local folder",
                    worked[here.root],
                    unit="µs",
                )
            )
            found.append(
                compare(
                    f"{kind}, {size} px: from a bucket, {LATENCY * 1000:.0f} ms late",
                    rates["bucket"],
                    "from a local folder",
                    rates["folder"],
                    unit="samples/s",
                    least_ratio=0.9,
                )
            )
            shutil.rmtree(Path(folder) / kind)
    return found
