"""What a corpus of so many pairs takes on its way to trained stages, and what 23 and 400 million
would.

    python experiments/benchmarks/corpus_size.py [--rows 1000000] [--folder FOLDER] > RESULT.json

Pairs of 16×16 pixels are made, in tars of 10,000, and go through preset smoke: prepared, mixed, 20
updates a stage. Every process's own memory is looked at twice a second (what it shares, such as
Ray's object store, left out), and the storage's size. The forecast multiplies what was measured by
the rows, and the preparation by what a larger picture costs, which is measured too; memory does not
grow with the rows, and where it does, two sizes of the corpus show it: `--rows 100000` beside
`--rows 1000000`. A million takes about 40 minutes on two cores and 4 GB of disk.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from experiments.benchmarks.harness import ROOT, finish, parser, say
from experiments.benchmarks.pictures import photographs
from momo_platform.data.config import ImageConfig
from momo_platform.data.images import prepare_picture
from momo_platform.machine import with_our_modules
from momo_platform.stages import open_storage

ROWS_A_TAR = 10_000
TARGETS = {"23 million": 23_000_000, "400 million": 400_000_000}
PICTURE_BYTES = 25_000
"""Of a prepared picture of preset base, on average."""
_WORDS = ("red", "green", "small", "large", "old", "new", "round", "flat", "dark", "bright")
_THINGS = ("house", "tree", "boat", "bird", "cup", "road", "hill", "chair", "cloud", "coat")
_EVERY_SECONDS = 0.5


def _member(archive: tarfile.TarFile, name: str, raw: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(raw)
    archive.addfile(info, io.BytesIO(raw))


def write_tar(number: int, rows: int, folder: str) -> None:
    """Pairs of noise, each its own, with captions of five words."""
    generator = np.random.Generator(np.random.Philox(number))
    with tarfile.open(f"{folder}/{number:05d}.tar", "w") as archive:
        for row in range(number * ROWS_A_TAR, number * ROWS_A_TAR + rows):
            picture = io.BytesIO()
            pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(picture, "PNG", compress_level=1)
            adjective, thing = generator.choice(_WORDS), generator.choice(_THINGS)
            _member(archive, f"{row:09d}.png", picture.getvalue())
            _member(archive, f"{row:09d}.txt", f"a {adjective} {thing} number {row}".encode())


def make_corpus(rows: int, folder: Path) -> None:
    """Tars that are there already are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = [min(ROWS_A_TAR, rows - start) for start in range(0, rows, ROWS_A_TAR)]
    missing = [n for n in range(len(sizes)) if not (folder / f"{n:05d}.tar").exists()]
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(write_tar, folder=str(folder)), missing, [sizes[n] for n in missing]))


def _role(process: psutil.Process) -> str:
    """What a process is, by its command: Ray names a worker by the task that it runs."""
    line = process.cmdline()
    title = line[0] if line else process.name()
    if title.startswith("ray::"):
        return title.removeprefix("ray::").split("(")[0].split("->")[-1].strip()[:60]
    for word in ("raylet", "gcs_server", "full.py"):
        if any(word in part for part in line[:3]):
            return {"full.py": "driver"}.get(word, word)
    return process.name()


class MemoryWatch:
    """The most memory of each kind of process below one, in bytes, and the most of all together."""

    def __init__(self, root: int) -> None:
        self._root, self.most, self.together = psutil.Process(root), dict[str, int](), 0

    def look(self) -> None:
        total = 0
        for process in [self._root, *self._root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                memory: Any = process.memory_info()
                own = memory.rss - memory.shared
                role = _role(process)
                self.most[role] = max(self.most.get(role, 0), own)
                total += own
        self.together = max(self.together, total)


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder; those that go meanwhile are left out."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(place, name)).st_size
    return total


@dataclass(frozen=True)
class CorpusFigures:
    """Seconds by stage and in all, bytes of memory by process and together, bytes on the disk."""

    rows: int
    seconds: Mapping[str, float]
    whole: float
    memory: Mapping[str, int]
    together: int
    disk_at_most: int
    disk_at_end: int


def measure(rows: int, folder: Path) -> CorpusFigures:
    """The whole graph in processes of its own. Raises RuntimeError where it fails."""
    tars, storage = folder / f"tars-{rows}", folder / f"runs-{rows}"
    say(f"making {rows:,} pairs")
    make_corpus(rows, tars)
    command = [sys.executable, "pipelines/full.py", "--preset", "smoke", "--storage", str(storage)]
    command += ["--pair.source", str(tars), "--cluster", "local", "--evaluation.limit", "200"]
    started, disk, looked = time.monotonic(), 0, 0.0
    with (folder / f"log-{rows}").open("wb") as log:
        run = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, env=with_our_modules(), text=True
        )
        watch = MemoryWatch(run.pid)
        while run.poll() is None:
            watch.look()
            if time.monotonic() - looked > 10:
                looked = time.monotonic()
                disk = max(disk, size_of(storage))
            time.sleep(_EVERY_SECONDS)
    whole = time.monotonic() - started
    if run.returncode:
        raise RuntimeError((folder / f"log-{rows}").read_text(errors="replace")[-3000:])
    manifests = open_storage(storage).all_manifests()
    seconds = {m.stage: round(m.seconds, 1) for m in manifests}
    at_end = size_of(storage)
    return CorpusFigures(
        rows, seconds, whole, watch.most, watch.together, max(disk, at_end), at_end
    )


def picture_seconds(raws: list[bytes], config: ImageConfig) -> float:
    """Of one picture on one core."""
    started = time.perf_counter()
    for raw in raws:
        prepare_picture(raw, config)
    return (time.perf_counter() - started) / len(raws)


def forecast(
    measured: CorpusFigures, rows: int, small: float, large: float, cores: int
) -> dict[str, Any]:
    """Hours of one core, and bytes, that so many photographs take. `small` and `large`: seconds to
    prepare one picture of the corpus that was measured, and one photograph; `cores`: how many the
    measurement had."""
    a_row = measured.seconds["prepare-pair"] * cores / measured.rows
    rest = sum(s for name, s in measured.seconds.items() if name.startswith("mix-"))
    return {
        "rows": rows,
        "core_hours_to_prepare": round(rows * (a_row - small + large) / 3600, 1),
        "core_hours_to_mix": round(rows * rest * cores / measured.rows / 3600, 1),
        "terabytes_of_shards": round(rows * PICTURE_BYTES / 1e12, 3),
        "terabytes_while_preparing": round(2 * rows * PICTURE_BYTES / 1e12, 3),
        "driver_gigabytes": round(measured.memory.get("driver", 0) / 1e9, 2),
    }


@contextlib.contextmanager
def _folder(given: str | None) -> Iterator[Path]:
    if given:
        Path(given).mkdir(parents=True, exist_ok=True)
        yield Path(given)
        return
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
        yield Path(scratch)


def main() -> int:
    """Prints one JSON document."""
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--folder", help="keeps the corpus and the runs; else they are deleted")
    given = options.parse_args()
    rows = 2_000 if given.quick else given.rows
    cores = os.cpu_count() or 1
    with _folder(given.folder) as folder:
        measured = measure(rows, folder)
        tiny = folder / f"tars-{rows}" / "00000.tar"
        with tarfile.open(tiny) as archive:
            names = [n for n in archive.getnames() if n.endswith(".png")][:500]
            small = [file.read() for n in names if (file := archive.extractfile(n))]
    costs = (
        picture_seconds(small, ImageConfig()),
        picture_seconds(photographs(100), ImageConfig(256, "jpeg")),
    )
    forecasts = {n: forecast(measured, r, *costs, cores) for n, r in TARGETS.items()}
    return finish([], measured=vars(measured), seconds_a_picture=costs, forecast=forecasts)


if __name__ == "__main__":
    sys.exit(main())
