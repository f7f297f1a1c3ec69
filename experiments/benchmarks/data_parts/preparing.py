"""What a preparation takes: memory of its driver, requests to a bucket, the search for
look-alikes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil

from experiments.benchmarks.corpus_size import make_corpus
from experiments.benchmarks.data_parts.slow_store import slow_store
from experiments.benchmarks.harness import Row, compare, in_a_process, in_turn
from momo_platform.data import prepare as preparation
from momo_platform.data import survey
from momo_platform.data.config import PrepareConfig, SourceConfig
from momo_platform.data.near import LOOK_BYTES, LookIndex
from momo_platform.stages import Context
from momo_platform.stages.storage.place import Place
from pipelines.modalities import PAIR

MILLION = 1_000_000
_LEAST_GET = 8 * 2**20


def context_in(folder: Path) -> Context:
    """Of a stage that writes to new folders there."""
    output, kept = folder / "output", folder / "kept"
    output.mkdir(parents=True)
    return Context(output, kept, "prepare-pair", "0", "a")


# -- the driver ------------------------------------------------------------------------------------


def _grown(records: Sequence[dict[str, Any]], times: int) -> Iterator[dict[str, Any]]:
    """So many times the records of parts or buckets, each under a name or number of its own."""
    for number in range(times * len(records)):
        record = dict(records[number % len(records)])
        if number < len(records):
            yield record
        elif "name" in record:  # of held-out pictures there are 15,000 at most
            yield record | {"name": f"map/9{number:05d}-00000", "looks": 0}
        elif "bucket" in record:
            yield record | {"bucket": number}


def driver_memory(rows: int, tars: str) -> tuple[float, float]:
    """In a process: bytes that the driver of a preparation has at most, and bytes a row that it is
    told by tasks. A corpus of 20,000 rows is prepared; for more rows its tasks' records come so
    many times over."""
    run, times, told = preparation.run_tasks, rows // 20_000, 0
    reduced: list[dict[str, Any]] = []
    process, most = psutil.Process(), 0

    def once(given: Sequence[Any], *steps: Any, **options: Any) -> Iterator[Any]:
        for record in run(given, *steps, **options):
            if "bucket" in record:
                reduced.append(dict(record))
            yield record

    def often(given: Sequence[Any], *steps: Any, **options: Any) -> Iterator[Any]:
        nonlocal told, most
        sizes = ""
        last = bool(given) and "bucket" in given[0]
        for record in _grown(reduced if last else list(run(given, *steps, **options)), times):
            told += len(repr(record))
            if record.get("name", "").startswith("map/9"):  # its file of sizes is like the others'
                parts = steps[-1].args[0].parts
                parts.write(f"{record['name']}.sizes.arrow", parts.read(sizes))
            elif "name" in record:
                sizes = f"{record['name']}.sizes.arrow"
            yield record
            memory: Any = process.memory_info()
            most = max(most, memory.rss - memory.shared)

    config = PrepareConfig((SourceConfig("own", tars),), held_out=0.01)
    survey._LEAST_ROWS = survey._MOST_ROWS  # as for a million rows
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        for name, tasks in (("once", once), ("often", often)):
            with (
                mock.patch.object(preparation, "run_tasks", tasks),
                mock.patch.object(preparation, "merge", return_value={}),
            ):
                context = context_in(Path(folder) / name)
                preparation.prepare_pictures(config, {}, context, PAIR.kind)
        return float(most), told / rows


def driver_rows(quick: bool) -> list[Row]:
    """A million rows and ten."""
    runs, sizes = (1, (20_000, 40_000)) if quick else (5, (MILLION, 10 * MILLION))
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        make_corpus(20_000, Path(folder))
        calls = {n: lambda n=n: in_a_process(driver_memory, n, folder) for n in sizes}
        found = in_turn(runs, calls, "driver, bytes")
    few, many = ([memory / 2**20 for memory, _ in found[n]] for n in sizes)
    told = [told for _, told in found[sizes[1]]]
    return [
        compare(
            f"memory of a preparation's driver, {sizes[1]:,} rows",
            many,
            f"{sizes[0]:,} rows",
            few,
            unit="MB",
            largest_value=500.0,
        ),
        compare(
            "what tasks tell the driver, as JSON: no picture",
            told,
            "goal",
            [100.0],
            unit="bytes a row",
            largest_value=100.0,
        ),
    ]


# -- a bucket as the source ------------------------------------------------------------------------


def prepare_from(uri: str) -> int:
    """In a process: pairs in tars in a bucket, prepared; returns how many are kept."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        config = PrepareConfig((SourceConfig("own", uri),))
        context = context_in(Path(folder))
        survey._LEAST_ROWS = survey._MOST_ROWS  # as for a million rows
        return preparation.prepare_pictures(config, {}, context, PAIR.kind)["kept"]


def requests_rows(quick: bool) -> list[Row]:
    """What is asked of tars in a bucket; the end of a tar may be less."""
    rows = 20_000 if quick else 60_000
    with slow_store(0.0) as store, tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        make_corpus(rows, Path(folder))
        here, there = Place(folder), Place(store.uri, "tars")
        sizes = {name: len(here.read(name)) for name in here.names()}
        for name in sizes:
            there.write(name, here.read(name))
        kept = in_a_process(prepare_from, f"{store.uri}/tars")
        ranges = store.ranges(".tar")
    assert kept == rows
    # The end of a tar may be less, and so may the rest of a part's pictures.
    lengths = [
        last + 1 - first
        for key, first, last in ranges
        if last + 1 < sizes[key.rpartition("/")[2]] and last > first
    ]
    return [
        compare(
            "bytes of a GET of the source, mean",
            [float(np.mean(lengths)) / 2**20],
            "goal",
            [_LEAST_GET / 2**20],
            unit="MB",
            least_ratio=None if quick else 1.0,
        ),
        compare(
            "bytes asked of the source, for each of its bytes",
            [sum(lengths) / sum(sizes.values())],
            "once",
            [1.0],
            unit="bytes a byte",
        ),
    ]


# -- look-alikes -----------------------------------------------------------------------------------


def looks_of(count: int, seed: int) -> list[bytes]:
    """As real pictures' are: three bits of ten are set, colours lie about a picture's own."""
    generator = np.random.Generator(np.random.Philox(seed))
    bits = np.packbits(generator.random((count, 64)) < 0.3, axis=1)
    base = generator.normal(128, 50, (count, 1, 3))
    cells = base + generator.normal(0, 30, (count, (LOOK_BYTES - 8) // 3, 3))
    colours = cells.clip(0, 255).astype(np.uint8).reshape(count, -1)
    return [row.tobytes() for row in np.concatenate([bits, colours], axis=1)]


def near_rows(quick: bool) -> list[Row]:
    """Microseconds a row that is looked up among so many held-out pictures."""
    sizes = (2_000, 20_000) if quick else (20_000, 500_000)
    asked = looks_of(20_480, 7)  # as many rows as a bucket of pictures of 25 kB has
    indexes = {count: LookIndex(looks_of(count, 1), 4) for count in sizes}

    def look_up(count: int) -> float:
        started = time.perf_counter()
        indexes[count].find_many(asked)
        return 1e6 * (time.perf_counter() - started) / len(asked)

    calls = {count: lambda count=count: look_up(count) for count in sizes}
    found = in_turn(1 if quick else 5, calls, "look-alikes, µs a row", warm_ups=1)
    return [
        compare(
            f"search for look-alikes among {sizes[1]:,}",
            found[sizes[1]],
            f"among {sizes[0]:,}",
            found[sizes[0]],
            unit="µs a row",
            largest_ratio=None if quick else 1.5,
        )
    ]
