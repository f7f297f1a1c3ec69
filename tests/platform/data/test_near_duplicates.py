"""Training pictures that look like held-out ones are found, and nothing else is."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from momo_platform.data.held_out import HeldOutPictures
from momo_platform.data.mix import MixConfig
from momo_platform.data.near import LOOK_BYTES, LookIndex, look_of
from momo_platform.data.prepare import PrepareConfig
from momo_platform.data.rows import IMAGE_SCHEMA
from momo_platform.data.sink import DATA, NEAR, Sink
from momo_platform.data.sources import SourceConfig
from pipelines.modalities import PAIR
from pipelines.modalities.image import run_mix_image
from pipelines.modalities.pair import run_prepare_pair


def drawing(seed, colour="red", size=64):
    """A few random shapes on white; `colour` fills the largest of them."""
    generator = np.random.default_rng(seed)
    picture = Image.new("RGB", (64, 64), "white")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((8, 8, 56, 56), fill=colour)
    for _ in range(6):
        x, y, w, h = (int(v) for v in generator.integers(4, 40, 4))
        draw.rectangle((x, y, x + w // 2, y + h // 2), fill=tuple(generator.integers(0, 255, 3)))
    return picture.resize((size, size), Image.Resampling.BICUBIC) if size != 64 else picture


def encoded(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def reencoded(picture, quality):
    return Image.open(io.BytesIO(encoded(picture, "JPEG", quality=quality))).convert("RGB")


def index_of(*pictures, bits=4):
    index = LookIndex(bits)
    for number, picture in enumerate(pictures):
        index.add(look_of(picture), "s", str(number))
    return index


def test_plain_pictures_have_no_look():
    noise = np.random.default_rng(0).integers(250, 255, (64, 64, 3), dtype=np.uint8)
    for plain in (Image.new("RGB", (64, 64), "white"), Image.fromarray(noise)):
        assert look_of(plain) is None
        assert index_of(plain, drawing(1)).find(look_of(plain)) is None
    assert len(look_of(drawing(1))) == LOOK_BYTES
    assert look_of(Image.new("RGB", (1, 1))) is None


@pytest.mark.parametrize("seed", range(20))
def test_the_same_picture_is_found_however_it_is_encoded(seed):
    picture = drawing(seed)
    index = index_of(*(drawing(n) for n in range(20)))
    for changed in (
        picture,
        reencoded(picture, 60),
        drawing(seed, size=40),
        drawing(seed, size=160),
        Image.fromarray((np.asarray(picture) * 0.97).astype(np.uint8)),
    ):
        assert index.find(look_of(changed)).key == str(seed)


def test_other_pictures_and_other_colours_are_not():
    index = index_of(*(drawing(n) for n in range(50)))
    assert not any(index.find(look_of(drawing(n))) for n in range(50, 400))
    # The same drawing with another colour, and upside down.
    assert index.find(look_of(drawing(3, colour=(0, 0, 255)))) is None
    assert index.find(look_of(drawing(3).transpose(Image.Transpose.FLIP_TOP_BOTTOM))) is None


@given(st.integers(0, 8), st.integers(0, 2**32))
def test_bands_find_what_comparing_each_with_each_finds(bits, seed):
    generator = np.random.default_rng(seed)
    held_out = generator.integers(0, 256, (30, 8), dtype=np.uint8)
    index = LookIndex(bits)
    for number, row in enumerate(held_out):
        index.add(row.tobytes() + bytes(48), "s", str(number))
    for _ in range(10):
        query = np.unpackbits(held_out[generator.integers(30)])
        query[generator.permutation(64)[: generator.integers(0, 12)]] ^= 1
        distances = (np.unpackbits(held_out, axis=1) != query).sum(axis=1)
        match = index.find(np.packbits(query).tobytes() + bytes(48))
        if distances.min() > bits:
            assert match is None
        else:
            assert (match.key, match.bits) == (str(distances.argmin()), distances.min())


def test_few_pictures_are_compared():
    generator = np.random.default_rng(0)
    index = LookIndex(4)
    for row in generator.integers(0, 256, (20_000, 8), dtype=np.uint8):
        index.add(row.tobytes() + bytes(48), "s", "k")
    compared = [len(index._sharing_a_band(int(v))) for v in generator.integers(0, 2**63, 100)]
    assert np.mean(compared) < 50


def test_switched_off_nothing_is_near():
    index = index_of(drawing(1), bits=-1)
    assert len(index) == 0
    assert index.find(look_of(drawing(1))) is None
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
    output.mkdir()
    sink = Sink(output, PAIR.kind, IMAGE_SCHEMA, bits)
    sink.add(rows_of(*rows))
    metrics = sink.close((SourceConfig("s", ""),), 0.5)
    return metrics, [r["key"] for r in pq.read_table(output / DATA).to_pylist()]


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
    assert kept == ["held", "twin", "blank", "other", "other again", "nearly blank"]
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
    out = SimpleNamespace(output=tmp_path / "out", path=tmp_path / "out", progress=lambda m: None)
    out.output.mkdir()
    metrics = run_prepare_pair(PrepareConfig((SourceConfig("s", str(source)),)), {}, out)
    assert metrics["near_duplicates"] == 1
    assert [r["captions"] for r in pq.read_table(out.path / DATA).to_pylist()] == [
        ["held out"],
        ["other"],
    ]
    images = tmp_path / "image"
    images.mkdir()
    block = rows_of(("1", "train", reencoded(drawing(1), 75)), ("2", "train", drawing(2)))
    pq.write_table(block, images / DATA)
    mix = SimpleNamespace(output=tmp_path / "mix", progress=lambda m: None)
    mix.output.mkdir()
    metrics = run_mix_image(
        MixConfig({}), {"prepared": SimpleNamespace(path=images), "pair": out}, mix
    )
    assert metrics["rows"] == metrics["sources"]["s"]["available"] == 1
    assert metrics["held_out"] == {"duplicates": 0, "near_duplicates": 1}
    exact_only = HeldOutPictures(out.path / DATA, -1)
    assert len(exact_only.without(pq.read_table(images / DATA))) == 2
