"""Paths, PIL pictures and NumPy arrays are all pictures; what is none is refused by name."""

import numpy as np
import pytest
from making_batches import CONFIG
from PIL import Image

from momo.export import Embedder
from momo.model import build_model
from momo.pictures import is_one_picture, open_picture
from momo.tokenizer import train_wordpiece

RGBA = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)


@pytest.fixture(scope="module")
def embedder():
    tokenizer = train_wordpiece(["a red apple"] * 3, CONFIG.vocab_size)
    return Embedder(build_model(CONFIG, seed=1), tokenizer)


@pytest.mark.parametrize(
    "array", [RGBA, RGBA[..., :3], RGBA[..., 0], RGBA[..., :1]], ids=["RGBA", "RGB", "HW", "HW1"]
)
def test_an_array_a_pil_picture_and_a_file_embed_alike(embedder, array, tmp_path):
    picture = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    picture.save(tmp_path / "same.png")
    by_array, by_pil, by_file = embedder.embed(images=[array, picture, tmp_path / "same.png"])
    np.testing.assert_array_equal(by_array, by_pil)
    np.testing.assert_array_equal(by_array, by_file)


def test_an_array_of_pictures_is_a_list_of_them(embedder):
    several = np.stack([RGBA, RGBA[::-1]])
    np.testing.assert_array_equal(embedder.embed(images=several), embedder.embed(images=[*several]))
    assert not is_one_picture(several)
    with pytest.raises(TypeError, match=r"a list: write .* images=\[image\]"):
        embedder.embed(images=RGBA)


@pytest.mark.parametrize(
    "wrong, kind, words",
    [
        (
            RGBA[..., :3].transpose(2, 0, 1),
            ValueError,
            r"\[3, 20, 30\].*array.transpose\(1, 2, 0\)",
        ),
        (RGBA[..., :2], ValueError, "of 1, 3 or 4 channels"),
        (RGBA[:0], ValueError, r"shape \[0, 30, 4\]"),
        (RGBA / 255, TypeError, "float64.*give uint8, 0 to 255"),
        (3, TypeError, "int is no picture: give a path, a PIL picture or a NumPy array"),
        (b"bytes", TypeError, "bytes is no picture"),
    ],
)
def test_what_is_no_picture_is_refused(wrong, kind, words):
    with pytest.raises(kind, match=words):
        open_picture(wrong)
