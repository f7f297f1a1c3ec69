"""How fast pictures come to a trainer, and how fast corpora are prepared.

    python experiments/benchmarks/data.py [--quick]

Same source pictures, same decode, crop and resize, same two cores for everybody: twemoji (72×72
PNG, to 64 px) and generated photographs (500×375 JPEG, to 224 px). Peers, in the same run: torch's
DataLoader over a folder of the pictures, webdataset over tar shards, and Ray Data's
iter_torch_batches over Parquet. Ours reads the shards that the preparation writes (shorter side
capped at 64 or 256 px, as presets demo and base have it); the rows named "equal bytes" give ours
the uncapped pictures too. Part "decoding" tells what a reader's core does when pictures are cropped
on a device, in processor time, with such photographs of 341×256 at quality 90. Downloads twemoji
(10 MB) on first use. Parts "driver", "requests" and "near" (data_parts/preparing.py), "reduce" and
"shuffle" (passes.py) are about the preparation; "fetched", "first" and "steady" (reading.py) about
reading from a bucket: a real S3 server on this machine, which answers 30 ms late. About 40 minutes.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader, Dataset

from experiments.benchmarks.data_parts import passes, preparing, reading
from experiments.benchmarks.harness import Row, compare, in_turn, main
from experiments.benchmarks.pictures import lay_out, photographs
from momo.config import SIZES
from momo.transforms import PictureForm, decode, image_batch, random_crop
from momo_platform.cluster import start_ray
from momo_platform.data.config import ImageConfig, PrepareConfig, SourceConfig
from momo_platform.data.dataset import ShardDataset
from momo_platform.data.loader import Loader
from momo_platform.data.order import SampleOrder, sample_seeds, uniform
from momo_platform.data.row_groups import SourceRows
from momo_platform.data.shards import PICTURE_GROUP
from momo_platform.stages import Context
from pipelines.modalities.image import run_prepare_image

BATCH, PROCESSES = 128, 2


def crop(raw: bytes, size: int, noise: np.ndarray) -> np.ndarray:
    """The transform that everybody runs: decode, random resized crop → uint8 [3, size, size]."""
    return np.ascontiguousarray(random_crop(decode(raw), size, noise))


def batch_of(table: pa.Table, seeds: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """The loader's transform: the same crops for a whole batch."""
    noise = uniform(seeds, 4)
    raws = table.column("image").to_pylist()
    return {"pixels": np.stack([crop(r, size, n) for r, n in zip(raws, noise, strict=True)])}


def _noise() -> np.ndarray:
    return np.random.random(4)


class Folder(Dataset[torch.Tensor]):
    """Picture files, as torchvision's ImageFolder reads them."""

    def __init__(self, folder: Path, size: int) -> None:
        self.files, self.size = sorted(folder.iterdir()), size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(crop(self.files[index].read_bytes(), self.size, _noise()))


def _forever(make: Callable[[], Any]) -> Iterator[Any]:
    while True:
        yield from make()


def ours(shards: Path, size: int) -> Iterator[Any]:
    """Our loader, two reader processes."""
    loader = Loader(
        ShardDataset(shards),
        partial(batch_of, size=size),
        global_batch_size=BATCH,
        prefetch=4,
        processes=PROCESSES,
    )
    return loader.iterate(0)


def torch_folder(folder: Path, size: int) -> Iterator[Any]:
    """torch's DataLoader over files."""
    loader = DataLoader(
        Folder(folder, size),
        batch_size=BATCH,
        shuffle=True,
        num_workers=PROCESSES,
        drop_last=True,
        persistent_workers=True,
    )
    return _forever(lambda: loader)


def webdataset_tars(pattern: str, size: int) -> Iterator[Any]:
    """webdataset over tar shards, shuffled in its buffer."""
    webdataset: Any = importlib.import_module("webdataset")

    def sample(item: dict[str, Any]) -> torch.Tensor:
        return torch.from_numpy(crop(item["img"], size, _noise()))

    data = (
        webdataset.WebDataset(pattern, shardshuffle=100, resampled=True)
        .shuffle(1000)
        .map(sample)
        .batched(BATCH, partial=False)
    )
    return iter(webdataset.WebLoader(data, batch_size=None, num_workers=PROCESSES))


def ray_data(path: Path, size: int) -> Iterator[Any]:
    """Ray Data over Parquet: decoded in tasks, streamed to this process."""
    import ray

    ray.data.DataContext.get_current().enable_progress_bars = False

    def crops(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"pixels": np.stack([crop(bytes(r), size, _noise()) for r in batch["image"]])}

    transform: Any = crops

    def epochs() -> Iterator[Any]:
        files = [str(f) for f in sorted(path.iterdir())] * 20  # one long run: starting costs 1 s
        data = ray.data.read_parquet(files).map_batches(transform, batch_size=BATCH)
        return iter(data.iter_torch_batches(batch_size=BATCH, prefetch_batches=4, drop_last=True))

    return _forever(epochs)


def samples_per_second(iterator: Iterator[Any], batches: int) -> float:
    """After a warm-up of four batches."""
    for _ in range(4):
        next(iterator)
    started = time.perf_counter()
    for _ in range(batches):
        next(iterator)
    seconds = time.perf_counter() - started
    close = getattr(iterator, "close", None)
    if close is not None:
        close()
    return batches * BATCH / seconds


def loading_rows(folder: Path, kind: str, size: int, runs: int, batches: int) -> list[Row]:
    """Everybody in turn, `runs` times."""
    tars = sorted((folder / "tars").glob("*.tar"))
    pattern = f"{folder}/tars/{{000..{len(tars) - 1:03d}}}.tar"
    makers: dict[str, Callable[[], Iterator[Any]]] = {
        "ours": lambda: ours(folder / "capped", size),
        "ours, equal bytes": lambda: ours(folder / "equal", size),
        "torch DataLoader over a folder": lambda: torch_folder(folder / "files", size),
        "webdataset": lambda: webdataset_tars(pattern, size),
        "Ray Data iter_torch_batches": lambda: ray_data(folder / "parquet", size),
    }
    calls = {
        name: lambda make=make: samples_per_second(make(), batches) for name, make in makers.items()
    }
    rates = in_turn(runs, calls, f"{kind}, samples/s")
    goals = {
        "torch DataLoader over a folder": 1.2,
        "webdataset": 1.0,
        "Ray Data iter_torch_batches": 1.0,
    }
    return [
        compare(
            f"{kind}, {size} px: {name}",
            rates[name],
            peer,
            rates[peer],
            unit="samples/s",
            least_ratio=goal if name == "ours" else None,
        )
        for name in ("ours", "ours, equal bytes")
        for peer, goal in goals.items()
    ]


def decoding_rows(quick: bool) -> list[Row]:
    """Whole batches by the transform of preset base in this process, in turn: pictures a second of
    processor time."""
    torch.set_num_threads(1)
    runs, count = 1 if quick else 5, 256
    raws = photographs(count, (341, 256))
    table = pa.table({"image": pa.array(raws, pa.binary())})
    seeds = sample_seeds(0, np.zeros(count, dtype=np.int64), np.arange(count))

    def rate(form: PictureForm) -> float:
        started = time.process_time()
        image_batch(table, seeds, uniform, SIZES["base"], form=form)
        return count / (time.process_time() - started)

    forms: tuple[PictureForm, ...] = ("cropped", "decoded", "encoded")
    calls = {form: partial(rate, form) for form in forms}
    rates = in_turn(runs, calls, "decoding, pictures/s", warm_ups=1)
    named: dict[PictureForm, tuple[str, float | None]] = {
        "decoded": ("decode only, one reader core", 2.2),
        "encoded": ("hand over encoded, one reader core", None),
    }
    return [
        compare(
            name,
            rates[form],
            "decode and crop, one reader core",
            rates["cropped"],
            unit="pictures/s of processor time",
            least_ratio=goal,
        )
        for form, (name, goal) in named.items()
    ]


def _order(rows: int) -> SampleOrder:
    """Of an index of shards of 20,000 rows."""
    shards = [min(20_000, rows - start) for start in range(0, rows, 20_000)]
    return SampleOrder([SourceRows("own", 0, shards, PICTURE_GROUP)], 4096, seed=3)


def seek_rows(quick: bool) -> list[Row]:
    """To random steps of an index of 100 million samples; the peer is one of a thousandth."""
    import tracemalloc

    generator = np.random.Generator(np.random.Philox(1))
    seconds: dict[int, list[float]] = {100_000_000: [], 100_000: []}
    for _ in range(20):
        for rows, found in seconds.items():
            place = int(generator.integers(0, 50 * rows))
            started = time.perf_counter()
            _order(rows).rows_at(place, place + 4096)
            found.append(time.perf_counter() - started)
    tracemalloc.start()
    _order(100_000_000).rows_at(3_210_987_654, 3_210_987_654 + 4096)
    grown = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    large, small = ([1000 * s for s in seconds[n]] for n in seconds)
    return [
        compare(
            "seek to a step of 100,000,000 samples",
            large,
            "of 100,000 samples",
            small,
            unit="ms",
            largest_value=100.0,
        ),
        compare(
            "memory that seeking takes", [grown], "goal", [200.0], unit="MB", largest_value=200.0
        ),
    ]


def preparation_seconds(source: Path, cpus: int) -> float:
    """Stage prepare-image over a folder, all of it on `cpus` cores, this process included."""
    config = PrepareConfig((SourceConfig("own", str(source)),), ImageConfig(256, "jpeg"))
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(everywhere)[:cpus]))  # processes started below inherit it
    try:
        with start_ray("local", num_cpus=cpus), tempfile.TemporaryDirectory() as scratch:
            for run in range(2):  # the first starts Ray's workers
                started = time.perf_counter()
                folders = Path(scratch) / f"output-{run}", Path(scratch) / f"kept-{run}"
                folders[0].mkdir()
                run_prepare_image(config, {}, Context(*folders, "prepare-image", "0", "a"))
            return time.perf_counter() - started
    finally:
        os.sched_setaffinity(0, everywhere)


def preparation_row(folder: Path, runs: int) -> Row:
    """One core against two, in turn."""
    source = folder / "jpegs"
    source.mkdir()
    for file in (folder / "files").iterdir():
        shutil.copyfile(file, source / f"{file.stem}.jpg")
    count = len(list(source.iterdir()))
    calls = {cpus: lambda cpus=cpus: count / preparation_seconds(source, cpus) for cpus in (1, 2)}
    rates = in_turn(runs, calls, "preparation by cores, pictures/s")
    return compare(
        "preparation of photographs on two cores",
        rates[2],
        "on one core",
        rates[1],
        unit="pictures/s",
        least_ratio=1.8,
    )


def loading(quick: bool) -> list[Row]:
    """Every loader, from emoji and from photographs."""
    torch.set_num_threads(1)
    rows, scale = [], 1 if quick else 6
    kinds = (("twemoji", 64, 20 * scale), ("photographs", 224, 4 * scale))
    with tempfile.TemporaryDirectory() as scratch, start_ray("local", num_cpus=PROCESSES):
        for kind, size, batches in kinds:
            folder = Path(scratch) / kind
            lay_out(kind, 300 if quick else 2000, folder)
            rows += loading_rows(folder, kind, size, 1 if quick else 5, batches)
    return rows


def preparation(quick: bool) -> list[Row]:
    """Stage prepare-image on photographs."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "photographs"
        lay_out("photographs", 300 if quick else 2000, folder)
        return [preparation_row(folder, 1 if quick else 5)]


PARTS = {
    "seek": seek_rows,
    "decoding": decoding_rows,
    "loading": loading,
    "preparation": preparation,
    "driver": preparing.driver_rows,
    "reduce": passes.reduce_rows,
    "requests": preparing.requests_rows,
    "near": preparing.near_rows,
    "shuffle": passes.shuffle_rows,
    "fetched": reading.fetched_rows,
    "first": reading.first_batch_rows,
    "steady": reading.steady_rows,
}

if __name__ == "__main__":
    sys.exit(main(__doc__, PARTS))
