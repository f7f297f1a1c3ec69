"""Sets on the hub, for which a server stands in: read by ranges, with a token, and not copied."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import SHA, HubServer
from PIL import Image

pytest.importorskip("datasets")
_READ = """
import json, sys
import pyarrow as pa
from momo_platform.data.config import SourceConfig
from momo_platform.data.digests import blocks_to_hash, hash_files
from momo_platform.data.images import ImageConfig
from momo_platform.data.listing import ROW_SCHEMA
from momo_platform.data.readers.base import Ignored
from momo_platform.data.rows import PrepareImages, PrepareText
from momo_platform.data.sources import identify, list_unit, text_places, units_of
from pipelines.modalities import PAIR, TEXT

for place in sys.argv[1:]:
    what, _, uri = place.partition("=")
    kind = (PAIR if what == "pair" else TEXT).kind
    source = SourceConfig("s", uri, identify(uri, kind.option, kind))
    if what == "pair":
        units = units_of(source, uri, kind, Ignored())
        rows = [row for unit in units for row in list_unit(unit, kind)]
        schema = ROW_SCHEMA.append(pa.field("reason", pa.string()))
        table = pa.Table.from_pylist(rows, schema=schema)
        done = pa.concat_tables(PrepareImages(ImageConfig(size_cap=8), True)(table)).to_pylist()
        keys = ("key", "captions", "label", "split", "reason")
        found = [{k: row[k] for k in keys} | {"size": len(row["image"] or b"")} for row in done]
    else:
        units = text_places(uri, kind)
        places = [pa.Table.from_pylist([{"source": "s"} | place]) for place in units]
        blocks = [block for place in places for block in PrepareText(3)(place)]
        keys = ("key", "text", "split")
        found = [{k: row[k] for k in keys} for b in blocks for row in b.to_pylist()]
    files = [row for b in blocks_to_hash(source, uri, kind) for row in hash_files(b).to_pylist()]
    found = {"content": source.content, "units": len(units), "rows": found, "files": files}
    print(json.dumps(found))
"""


def picture(number, side=16):
    pixels = np.random.default_rng(number).integers(0, 255, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def hub(tmp_path):
    server = HubServer(tmp_path / "hub")
    yield server
    server.shutdown()


def read(hub, tmp_path, *places):
    """What a process of its own reads of sets, `pair=hf://…`."""
    environment = os.environ | {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "hf_secret",
    }
    command = [sys.executable, "-c", _READ, *places]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()[-len(places) :]]


def copied(tmp_path):
    return sum(p.stat().st_size for p in Path(tmp_path / "home").rglob("*") if p.is_file())


def test_parquet_is_read_by_ranges(hub, tmp_path):
    folder = hub.folder / "user" / "set" / "data"
    folder.mkdir(parents=True)
    for number, split in enumerate(("train", "train", "validation")):
        names = [f"{10 * number + i}" for i in range(4)]
        images = [{"bytes": picture(int(n), 64), "path": None} for n in names]
        data = pa.table({"image": images, "caption": names, "extra": [os.urandom(2**16)] * 4})
        pq.write_table(data, folder / f"{split}-{number:05d}-of-00002.parquet", row_group_size=2)
    before, one = read(hub, tmp_path, "pair=hf://user/set", "pair=hf://user/set@train")
    assert before["units"] == 3
    assert [row["split"] for row in before["rows"]] == ["train"] * 8 + ["valid"] * 4
    assert all(row["size"] and row["reason"] is None for row in before["rows"])
    assert before["rows"][0]["key"] == "data/train-00000-of-00002.parquet:000000001"
    assert {token for token in hub.tokens if token} == {"Bearer hf_secret"}
    assert copied(tmp_path) < 2**16
    # Their checksums are the hub's own.
    assert [file["path"] for file in before["files"]] == [
        f"data/{name}" for name in sorted(p.name for p in folder.iterdir())
    ]
    assert [row["split"] for row in one["rows"]] == [""] * 8
    assert one["content"] != before["content"]


def test_a_tar_and_text(hub, tmp_path):
    folder = hub.folder / "user" / "set"
    folder.mkdir(parents=True)
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for ending, raw in (("png", picture(shard)), ("txt", b"a caption")):
                info = tarfile.TarInfo(f"{shard}.{ending}")
                info.size = len(raw)
                tar.addfile(info, io.BytesIO(raw))
    text = hub.folder / "user" / "words" / "train.parquet"
    text.parent.mkdir()
    texts = [f"document {n}" for n in range(40_000)]
    pq.write_table(pa.table({"text": texts, "id": texts}), text, row_group_size=10_000)
    found, words = read(hub, tmp_path, "pair=hf://user/set", "text=hf://user/words")
    assert [row["key"] for row in found["rows"]] == ["00000.tar:0", "00001.tar:1"]
    assert [row["reason"] for row in found["rows"]] == [None, None]
    assert words["units"] == 2  # of two row groups each
    assert [row["text"] for row in words["rows"]] == texts
    assert SHA not in json.dumps(words["rows"])
