"""Pictures that can't be kept, drawn or told: each costs its row, with the reason."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image
from test_inputs_people_have import CONFIG, laid_out, picture, prepared

from momo_platform.data.images import BadImage, ImageConfig, prepare_image

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><rect width="9" height="9"/></svg>'


def drawing(content):
    space = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {space} viewBox="0 0 9 9">{content}</svg>'.encode()


def tar_of(members, kind=tarfile.PAX_FORMAT, encoding="utf-8"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind, encoding=encoding) as written:
        for name, raw in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            written.addfile(member, io.BytesIO(raw))
    return buffer.getvalue()


def test_a_picture_that_jpeg_has_no_room_for_costs_its_row():
    wide = picture(size=(70_000, 8))
    with pytest.raises(BadImage, match="70000×8 can't be kept as jpeg"):
        prepare_image(wide, ImageConfig(size_cap=16, encoding="jpeg"))
    assert prepare_image(wide, CONFIG)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_do_not_blacken_a_picture(value):
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    ramp[0, 0] = value
    buffer = io.BytesIO()
    Image.fromarray(ramp).save(buffer, "TIFF")
    seen = np.asarray(Image.open(io.BytesIO(prepare_image(buffer.getvalue(), CONFIG))))[..., 0]
    assert (seen[0, 1], seen[15, 15]) == (0, 255)
    assert 100 < seen[8, 0] < 150


@pytest.mark.parametrize("element", ["image", "use", "feImage"])
@pytest.mark.parametrize("place", ["/{}/secret.png", "file://{}/secret.png", "b.png", "http://x/a"])
def test_an_svg_that_draws_what_is_outside_of_it_is_refused(tmp_path, place, element):
    laid_out(tmp_path, {"secret.png": picture(255)})
    href = place.format(tmp_path)
    for key in ("href", "xlink:href"):
        with pytest.raises(BadImage, match="outside of it; embed it"):
            prepare_image(drawing(f'<{element} width="9" {key}="{href}"/>'), CONFIG, svg=True)


def test_an_svg_may_have_links_and_draw_what_is_in_it():
    content = '<a href="http://x"><rect id="r" width="9" height="9"/></a><use xlink:href="#r"/>'
    assert prepare_image(drawing(content + '<image href="data:,"/>'), CONFIG, svg=True)


@pytest.mark.parametrize("before", ["<!-- made by x -->\n", "<!DOCTYPE svg>\n", ""])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_an_svg_in_a_tar_is_known_by_its_beginning(tmp_path, before, encoding):
    members = {"a.svg": (before + SVG).encode(encoding), "a.txt": b"a cat"}
    (row,) = prepared(laid_out(tmp_path, {"x.tar": tar_of(members)}))
    assert row["reason"] is None
