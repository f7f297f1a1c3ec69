"""The look of a picture, and the index that finds looks that are alike."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures_alike import drawing, reencoded
from PIL import Image

from momo_platform.data.near import LOOK_BYTES, LookIndex, look_of


def index_of(*pictures, bits=4):
    return LookIndex([look_of(picture) for picture in pictures], bits)


def found(index, picture):
    """The number of the picture that one looks like; -1 for none."""
    return index.find_many([look_of(picture)])[0][0]


def test_plain_pictures_have_no_look():
    noise = np.random.default_rng(0).integers(250, 255, (64, 64, 3), dtype=np.uint8)
    for plain in (Image.new("RGB", (64, 64), "white"), Image.fromarray(noise)):
        assert look_of(plain) is None
        assert found(index_of(plain, drawing(1)), plain) == -1
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
        assert found(index, changed) == seed


def test_other_pictures_and_other_colours_are_not():
    index = index_of(*(drawing(n) for n in range(50)))
    others = [look_of(drawing(n)) for n in range(50, 400)]
    assert (index.find_many(others)[0] == -1).all()
    # The same drawing with another colour, and upside down.
    assert found(index, drawing(3, colour=(0, 0, 255))) == -1
    assert found(index, drawing(3).transpose(Image.Transpose.FLIP_TOP_BOTTOM)) == -1


def compared_with_each(held_out, looks, bits):
    """What the index has to find, by comparing each with each."""
    answers = []
    for look in looks:
        best = (-1, -1)
        for number, other in enumerate(held_out):
            if look is None or other is None or bits < 0:
                continue
            differ = sum((a ^ b).bit_count() for a, b in zip(look[:8], other[:8], strict=True))
            colours = max(abs(a - b) for a, b in zip(look[8:], other[8:], strict=True))
            if differ <= bits and colours <= 16 and (best[0] < 0 or differ < best[1]):
                best = (number, differ)
        answers.append(best)
    return answers


def alike(generator, look, most_bits, most_colours):
    """A look that differs from another in up to so many bits and by so much in each colour."""
    bits = np.unpackbits(np.frombuffer(look, np.uint8, 8))
    bits[generator.permutation(64)[: generator.integers(0, most_bits + 1)]] ^= 1
    colours = np.frombuffer(look, np.uint8, offset=8).astype(int)
    colours = colours + generator.integers(-most_colours, most_colours + 1, 48)
    return np.packbits(bits).tobytes() + colours.clip(0, 255).astype(np.uint8).tobytes()


def clustered(generator, count):
    """Looks as of real pictures: most about a few others, some of one hash, some of none."""
    centres = [generator.integers(0, 256, 56, dtype=np.uint8).tobytes() for _ in range(4)]
    centres += [bytes(56), bytes(8) + b"\xff" * 48, b"\xff" * 56]
    looks = [alike(generator, centres[generator.integers(7)], 5, 12) for _ in range(count)]
    for number in generator.integers(0, count, count // 8):
        looks[number] = [None, bytes(56), looks[0]][number % 3]
    return looks


@given(st.integers(-1, 12), st.integers(0, 2**32), st.integers(0, 60))
def test_the_index_finds_what_comparing_each_with_each_finds(bits, seed, count):
    generator = np.random.default_rng(seed)
    held_out = clustered(generator, count) if count else []
    looks = [*clustered(generator, 40), *held_out]
    looks += [alike(generator, look, bits + 2, 18) for look in held_out if look]
    index = LookIndex(held_out, bits)
    expected = compared_with_each(held_out, looks, bits)
    for one in (index, pickle.loads(pickle.dumps(index))):
        numbers, differ = one.find_many(looks)
        assert list(zip(numbers.tolist(), differ.tolist(), strict=True)) == expected
    assert [len(found) for found in index.find_many([])] == [0, 0]


def test_a_large_cluster_is_searched_in_parts(monkeypatch):
    monkeypatch.setattr("momo_platform.data.near._BATCH", 7)
    monkeypatch.setattr("momo_platform.data.near._COMPARED", 11)
    generator = np.random.default_rng(3)
    held_out = [bytes(8) + bytes([n % 16]) * 48 for n in range(50)]
    looks = [alike(generator, look, 6, 3) for look in held_out]
    numbers, differ = LookIndex(held_out, 4).find_many(looks)
    found = list(zip(numbers.tolist(), differ.tolist(), strict=True))
    assert found == compared_with_each(held_out, looks, 4)


def test_few_pictures_are_compared_however_many_there_are(monkeypatch):
    generator = np.random.default_rng(0)
    looks = [row.tobytes() for row in generator.integers(0, 256, (101_000, 56), dtype=np.uint8)]
    index, compared = LookIndex(looks[:100_000], 4), []
    whole = LookIndex._compare
    monkeypatch.setattr(
        LookIndex, "_compare", lambda *given: (compared.append(len(given[3])), whole(*given))
    )
    numbers, _ = index.find_many([*looks[100_000:], looks[5]])
    assert numbers[-1] == 5
    assert sum(compared) < 5 * len(numbers)
    assert len(pickle.dumps(index)) < 64 * len(index)


def test_switched_off_nothing_is_near():
    index = index_of(drawing(1), bits=-1)
    assert len(index) == 0
    assert found(index, drawing(1)) == -1
