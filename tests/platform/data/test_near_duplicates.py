"""Training pictures that look like held-out ones are found, and nothing else is."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making_shards import prepared
from pictures_alike import drawing, encoded, reencoded
from PIL import Image
from preparing import Folder, pour

from momo_platform.data.artifacts import PreparedRows
from momo_platform.data.config import MixConfig, PrepareConfig
from momo_platform.data.held_out import HeldOutPictures
from momo_platform.data.merge import NEAR
from momo_platform.data.near import look_of
from momo_platform.data.rows import IMAGE_SCHEMA
from momo_platform.data.shard_reader import read_columns
from momo_platform.data.sources import SourceConfig
from pipelines.modalities import PAIR
from pipelines.modalities.image import run_mix_image
from pipelines.modalities.pair import run_prepare_pair


def test_less_than_off_is_refused():
    with pytest.raises(ValueError, match="near_duplicate_bits=-2: give at least -1"):
        PrepareConfig((), near_duplicate_bits=-2)


def rows_of(*rows):
    """(key, split, picture) each → a block by IMAGE_SCHEMA."""
    values = [
        {
            "source": "s",
            "key": key,
            "split": split,
            "image": encoded(picture),
            "captions": [key],
            "width": picture.width,
            "height": picture.height,
            "look": look_of(picture),
        }
        for key, split, picture in rows
    ]
    return pa.Table.from_pylist(values, schema=IMAGE_SCHEMA)


def poured(output, bits, *rows):
    metrics = pour(output, rows_of(*rows), PAIR.kind, bits)
    return metrics, {row["key"] for row in Folder(output).rows()}


def test_training_rows_go_and_held_out_ones_stay(tmp_path):
    white = Image.new("RGB", (64, 64), "white")
    rows = [
        ("held", "test", drawing(1)),
        ("twin", "test", reencoded(drawing(1), 95)),
        ("blank", "valid", white),
        ("like", "train", reencoded(drawing(1), 80)),
        ("other", "train", drawing(2)),
        ("other again", "train", reencoded(drawing(2), 80)),
        ("nearly blank", "train", Image.new("RGB", (64, 64), (254, 254, 254))),
    ]
    metrics, kept = poured(tmp_path / "on", 4, *rows)
    assert kept == {"held", "twin", "blank", "other", "other again", "nearly blank"}
    assert metrics["near_duplicates"] == metrics["sources"]["s"]["near_duplicates"] == 1
    gone = pq.read_table(tmp_path / "on" / NEAR).to_pylist()
    assert [(r["key"], r["held_out_source"], r["held_out_key"]) for r in gone] == [
        ("like", "s", "held")
    ]
    metrics, kept = poured(tmp_path / "off", -1, *rows)
    assert metrics["near_duplicates"] == 0
    assert "like" in kept


def test_through_ray_and_into_the_mixture(ray_local, tmp_path):
    pictures = {"a.png": drawing(1), "b.png": drawing(2)}
    for name, picture in pictures.items():
        (tmp_path / name).write_bytes(encoded(picture))
    (tmp_path / "a.jpg").write_bytes(encoded(drawing(1, size=200), "JPEG", quality=70))
    rows = [
        {"image": "a.jpg", "caption": "seen", "split": "train"},
        {"image": "a.png", "caption": "held out", "split": "test"},
        {"image": "b.png", "caption": "other", "split": "train"},
    ]
    source = tmp_path / "pairs.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = Folder(tmp_path / "out")
    metrics = run_prepare_pair(PrepareConfig((SourceConfig("s", str(source)),)), {}, out.context)
    assert metrics["near_duplicates"] == 1
    assert [row["captions"] for row in out.rows()] == [["held out"], ["other"]]
    block = rows_of(("1", "train", reencoded(drawing(1), 75)), ("2", "train", drawing(2)))
    columns = {name: block[name] for name in ("image", "look", "source")}
    images = prepared(tmp_path / "image", split=["train", "train"], **columns)
    mix = Folder(tmp_path / "mix").context
    metrics = run_mix_image(MixConfig({}), {"prepared": images, "pair": out}, mix)
    assert metrics["rows"] == metrics["sources"]["s"]["available"] == 1
    assert metrics["held_out"] == {"duplicates": 0, "near_duplicates": 1}
    exact_only = HeldOutPictures(PreparedRows(out.path), -1)
    (table,) = read_columns(images.place, images.index().shards[0], ["digest", "look"])
    assert exact_only.fates(table).tolist() == [0, 0]
