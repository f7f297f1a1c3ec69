"""Tokenizer and transforms."""

import io

import numpy as np
import pyarrow as pa
import pytest
from making_batches import CONFIG
from PIL import Image
from tokenizers import Tokenizer

from momo.tokenizer import encode_texts, load_tokenizer, train_wordpiece
from momo.transforms import decode, image_batch, pair_batch, stack_pictures, text_batch

TEXTS = ["a red apple on a tree", "Red apples and green trees", "the man in a steamy room"] * 5


def uniform(seeds: np.ndarray, n: int, stream: int = 0) -> np.ndarray:
    rows = [np.random.default_rng([int(s), stream]).random(n, dtype=np.float32) for s in seeds]
    return np.stack(rows)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_wordpiece(TEXTS, 90)


def test_a_file_that_transformers_saved_after_a_call_neither_cuts_nor_fills(tokenizer, tmp_path):
    used = Tokenizer.from_str(tokenizer.to_str())
    used.enable_truncation(4)
    used.enable_padding(length=9)
    used.save(str(tmp_path / "tokenizer.json"))
    found = load_tokenizer(tmp_path / "tokenizer.json")
    assert found.encode(TEXTS[0]).ids == tokenizer.encode(TEXTS[0]).ids
    assert len(found.encode("a").ids) == 3


def pictures(count: int) -> list[bytes]:
    g = np.random.default_rng(0)
    shapes = [(40, 60, 3), (64, 64, 3), (33, 90, 3)]
    return [
        png(Image.fromarray(g.integers(0, 255, shapes[i % 3], dtype=np.uint8)))
        for i in range(count)
    ]


def test_tokenizer_special_ids_case_truncation_and_round_trip(tokenizer, tmp_path):
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    ids = encode_texts(loaded, ["a RED apple", "a red apple", "a red apple on a tree", ""], 5)
    assert ids.shape == (4, 5)
    assert ids.dtype == np.int64
    assert np.array_equal(ids[0], ids[1])
    assert (ids[:3, 0] == 2).all()
    assert ids[2, -1] == 3
    assert ids[3].tolist() == [2, 3, 0, 0, 0]
    assert loaded.decode(ids[0].tolist()) == "a red apple"
    with pytest.raises(FileNotFoundError, match=r"missing\.json"):
        load_tokenizer(tmp_path / "missing.json")


def test_transparent_pixels_become_white():
    image = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    assert decode(png(image)).getpixel((0, 0)) == (255, 255, 255)


def test_a_sample_does_not_depend_on_its_batch(tokenizer):
    captions = [["red apple", "apple"], ["tree"], ["man", "steamy room"]]
    table = pa.table({"image": pictures(3), "captions": captions, "group": ["a", "b", "a"]})
    seeds = np.array([11, 12, 13], dtype=np.uint64)
    whole = pair_batch(table, seeds, uniform, CONFIG, tokenizer, length=12)
    part = pair_batch(table.slice(1, 2), seeds[1:], uniform, CONFIG, tokenizer, length=12)
    for name, values in part.items():
        assert np.array_equal(values, whole[name][1:]), name
    assert whole["pixels"].shape == (3, 3, 32, 32)
    assert whole["noise_text"].shape == (3, 12, 3)
    assert whole["group"][0] == whole["group"][2] != whole["group"][1]


def test_image_augmentation_varies_with_the_seed_and_can_be_switched_off():
    table = pa.table({"image": pictures(2)})
    one, two = (np.array(s, dtype=np.uint64) for s in ([1, 2], [3, 4]))
    a, b = (image_batch(table, s, uniform, CONFIG) for s in (one, two))
    assert a["noise"].shape == (2, CONFIG.num_patches)
    assert not np.array_equal(a["pixels"], b["pixels"])
    plain = image_batch(table, one, uniform, CONFIG, augment=False)["pixels"]
    images = [decode(raw) for raw in pictures(2)]
    assert np.array_equal(plain, stack_pictures(images, CONFIG.image_size))


def test_text_rows_are_padded_to_one_length():
    batch = text_batch(pa.table({"ids": [[2, 9, 3], [2, 3]]}), np.array([1, 2]), uniform)
    assert batch["ids"].tolist() == [[2, 9, 3], [2, 3, 0]]
    assert batch["noise"].shape == (2, 3, 3)
