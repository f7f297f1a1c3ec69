"""Pictures are prepared in a process of its own, which may end: none but the guilty one goes."""

import io
import os
import signal

import pytest
from PIL import Image

from momo_platform.data import contained
from momo_platform.data.config import ImageConfig
from momo_platform.data.contained import prepare_pictures
from momo_platform.data.images import BadImage, prepare_picture

CONFIG = ImageConfig(size_cap=16)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">{}</svg>'
CRASHES = SVG.format("<g>" * 400 + '<rect width="9" height="9"/>' + "</g>" * 400).encode()
SLOW = SVG.format(
    '<filter id="a"><feTurbulence baseFrequency="0.1" numOctaves="3000000"/></filter>'
    '<rect filter="url(#a)" width="9" height="9"/>'
).encode()


def picture(number, size=(20, 24)):
    buffer = io.BytesIO()
    image = Image.new("RGB", size, (number % 256, 0, 0))
    image.putpixel((number % 16, 3), (0, 255, 0))
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_what_comes_back_is_what_this_process_would_make():
    raws = [picture(n) for n in range(150)]
    expected = [prepare_picture(raw, CONFIG) for raw in raws]
    assert [*prepare_pictures(((raw, False) for raw in raws), CONFIG)] == expected
    assert [*prepare_pictures([], CONFIG)] == []
    (bad,) = prepare_pictures([(b"no picture \xff", False)], CONFIG)
    assert isinstance(bad, BadImage)
    assert str(bad) == "not a picture in a known format"


def test_other_configs_and_plain_pictures_without_a_look():
    plain = io.BytesIO()
    Image.new("RGB", (30, 20), "white").save(plain, "PNG")
    for config in (CONFIG, ImageConfig(size_cap=8, encoding="jpeg")):
        (made,) = prepare_pictures([(plain.getvalue(), False)], config)
        assert made == prepare_picture(plain.getvalue(), config)
        assert made.look is None


def test_a_picture_that_ends_the_process_goes_and_the_others_stay(monkeypatch):
    monkeypatch.setattr(contained, "SECONDS", 2)
    pictures = [(picture(n), False) for n in range(70)]
    for place in (0, 5, 6, 69):
        pictures[place] = (CRASHES, True)
    pictures[30] = (SLOW, True)
    found = [*prepare_pictures(pictures, CONFIG)]
    bad = {n: str(one) for n, one in enumerate(found) if isinstance(one, BadImage)}
    crash = "the decoder crashed (SIGSEGV)"
    slow = "decoding it took longer than 2 s"
    assert bad == {0: crash, 5: crash, 6: crash, 69: crash, 30: slow}
    assert found[31] == prepare_picture(picture(31), CONFIG)


def test_a_process_that_somebody_ends_is_started_again():
    [*prepare_pictures([(picture(1), False)], CONFIG)]
    own = contained._process_of(os.getpid())
    assert own._process is not None
    os.kill(own._process.pid, signal.SIGKILL)
    raws = [picture(n) for n in range(3)]
    found = [*prepare_pictures([(raw, False) for raw in raws], CONFIG)]
    assert found == [prepare_picture(raw, CONFIG) for raw in raws]


def test_a_process_that_cannot_start_costs_no_picture(monkeypatch):
    own = contained._Process()
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(RuntimeError, match="pictures can't be prepared"):
        own.prepare([(picture(1), False)], CONFIG)
