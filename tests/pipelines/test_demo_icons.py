"""The demo's icons: which of a package are trained on, and how they are called."""

import zipfile
from collections import Counter

import pyarrow.parquet as pq
import pytest

from pipelines.demo.corpora import DemoCorpora, _icons
from pipelines.demo.icons import held_out_concepts, icons, squared

_SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {}"><path d="M0 0h{}"/></svg>'
_FILES = {
    "material/account.svg": "24 24",
    "material/account-outline.svg": "24 24",
    "material/apples.svg": "24 24",
    "material/food-apple.svg": "24 24",
    "material/flag-variant.svg": "24 24",
    "material/numeric-1.svg": "24 24",
    "material/4k.svg": "24 24",
    "fontawesome/solid/bus.svg": "576 512",
    "fontawesome/regular/bus.svg": "576 512",
    "fontawesome/brands/github.svg": "512 512",
    "simple/python.svg": "24 24",
    "octicons/bus-16.svg": "16 16",
    "octicons/LICENSE.txt": "",
}


@pytest.fixture
def package(tmp_path):
    file = tmp_path / "icons.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for number, (name, box) in enumerate(_FILES.items()):
            archive.writestr(f"material/templates/.icons/{name}", _SVG.format(box, number))
        archive.writestr("material/templates/assets/apple.svg", _SVG.format("24 24", 9))
    return file


def test_one_icon_of_each_concept_and_style_and_none_that_is_held_out(package):
    held_out = held_out_concepts([{"captions": ["red apple", "red apple, fruit, apple"]}])
    reasons = Counter()
    found = [(one.style, one.caption, one.concept) for one in icons(package, held_out, reasons)]
    assert found == [
        ("fontawesome", "bus", "bus"),
        ("material", "account", "account"),
        ("material", "food apple", "food apple"),
        ("material", "numeric 1", "numeric"),
        ("octicons", "bus 16", "bus"),
    ]
    assert reasons == {
        "its concept is held out": 1,
        "its style has its concept": 2,
        "a logo, a flag or no word": 2,
    }


def test_names_are_held_out_however_they_are_written():
    held_out = held_out_concepts([{"captions": ["check boxes", "check boxes, tick"]}])
    assert held_out == held_out_concepts([{"captions": ["Checkbox"]}, {"captions": ["tick-24"]}])


def test_a_drawing_that_is_wider_stands_in_the_middle_of_a_square():
    drawing = squared(_SVG.format("576 512", 1))
    assert drawing is not None
    assert b'width="576" height="576" viewBox="0 -32 576 576"' in drawing
    assert b'<path d="M0 0h1"/>' in drawing
    assert squared("<svg></svg>") is None


def test_the_table_has_training_rows_alone(package, tmp_path):
    count = _icons(DemoCorpora(limit=2), package, [], tmp_path)
    rows = pq.read_table(tmp_path / "icons.parquet").to_pylist()
    assert count == len(rows) == 2
    assert {row["split"] for row in rows} == {"train"}
    assert all(row["image"].startswith(b"<svg") and row["group"] for row in rows)
