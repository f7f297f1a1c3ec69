"""Pictures that can't be kept, drawn or told: each costs its row, with the reason."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from test_inputs_people_have import CONFIG, laid_out, picture, prepared, rows

from momo_platform.data.images import BadImage, ImageConfig, prepare_image
from momo_platform.data.readers.base import Ignored

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


def test_an_archive_appended_to_another_is_named(tmp_path):
    one, two = (tar_of({f"{n}.png": picture(1), f"{n}.txt": b"a cat"}) for n in "ab")
    good, rest = rows(laid_out(tmp_path, {"x.tar": one + two}))
    assert (good["key"], good["reason"]) == ("x.tar:a", None)
    assert rest["reason"].startswith("bytes after the end of the archive")
    assert len(rows(laid_out(tmp_path / "padded", {"x.tar": one + bytes(10**6)}))) == 1


def test_a_second_picture_of_a_sample_is_counted(tmp_path):
    members = {"a.jpg": picture(1), "a.png": picture(2), "a.txt": b"a cat"}
    ignored = Ignored()
    assert len(rows(laid_out(tmp_path, {"x.tar": tar_of(members)}), "pair", ignored)) == 1
    assert ignored.counts == {"a second picture of one sample": 1}


def test_names_in_a_tar_that_are_not_utf_8_stay_apart(tmp_path):
    def old(members):
        return tar_of(members, tarfile.GNU_FORMAT, "latin-1")

    pairs = {n + e: b"x" for n in "\u00e8\u00e9" for e in (".png", ".txt")}
    mixed = {"\u00e8.png": picture(1), "\u00e9.txt": b"the caption of another"}
    assert [row["key"] for row in rows(laid_out(tmp_path / "1", {"x.tar": old(pairs)}))] == [
        "x.tar:\\xe8",
        "x.tar:\\xe9",
    ]
    found = rows(laid_out(tmp_path / "2", {"x.tar": old(mixed)}))
    assert all(row["reason"] for row in found)
    assert len(found) == 2


def test_a_picture_named_by_way_of_another_folder_is_one_that_a_table_names(tmp_path):
    table = "image,caption\n../img/1.png,a cat\n./../img/2.png,a dog\n"
    ignored = Ignored()
    laid_out(tmp_path, {"img/1.png": picture(1), "img/2.png": picture(2), "data/rows.csv": table})
    assert len(rows(tmp_path, "pair", ignored)) == 2
    assert not ignored.counts


def test_bytes_of_every_kind_of_a_parquet_column_are_pictures(tmp_path):
    raw = [picture(1)]
    columns = {
        "view": pa.array(raw, pa.binary_view()),
        "fixed": pa.array(raw, pa.binary(len(raw[0]))),
        "dictionary": pa.array(raw).dictionary_encode(),
        "large": pa.array(raw, pa.large_binary()),
    }
    for name, column in columns.items():
        table = pa.table({"image": column, "caption": ["a cat"]})
        (row,) = prepared(laid_out(tmp_path / name, {"rows.parquet": table}))
        assert (row["reason"], row["captions"]) == (None, ["a cat"]), name


@pytest.mark.parametrize("image", ["data:image/png;base64," + "A" * 10**6, "A" * 10**6])
def test_what_is_no_name_of_a_picture_is_told_in_short(tmp_path, image):
    line = json.dumps({"image": image, "caption": "a cat"})
    (row,) = prepared(laid_out(tmp_path, {"rows.jsonl": line + "\n"}))
    assert ("data URI" if image.startswith("data:") else "1000000 characters") in row["reason"]
    assert len(row["reason"]) < 200
    assert row["group"] == row["key"] == "rows.jsonl:1"
