"""Sets by licence and subject, icons and their aliases, and the SVG that is made of one."""

from collections import Counter
from xml.etree import ElementTree

import pytest
from home_made_icons import archive, body, collection, icon_set

from momo_platform.data.config import ImageConfig
from momo_platform.data.images import prepare_picture
from momo_platform.stages import UserError
from pipelines.icons.collection import EMOJI, icons_of, read_set, read_sets, svg_of


@pytest.mark.parametrize(
    ("prefix", "licence", "more", "reason"),
    [
        ("a", "MIT", {}, ""),
        ("a", "CC-BY-4.0", {}, ""),
        ("a", "CC-BY-SA-4.0", {}, "share-alike"),
        ("a", "GPL-2.0-only", {}, "share-alike"),
        ("a", "LGPL-3.0", {}, "share-alike"),
        ("a", "CC-BY-NC-4.0", {}, "commercial"),
        ("a", "", {}, "no licence"),
        ("a", "MIT", {"category": "Logos"}, "logos"),
        ("a", "MIT", {"category": "Programming"}, "logos"),
        ("fa9-brands", "MIT", {}, "logos"),
        ("codicon", "MIT", {"category": "Programming"}, ""),
        ("circle-flags", "MIT", {"category": "Flags / Maps"}, "flags"),
        ("maki", "CC0-1.0", {"category": "Flags / Maps"}, ""),
        ("openmoji", "CC-BY-SA-4.0", {"category": "Emoji"}, EMOJI),
        ("fluent-emoji", "MIT", {"category": ""}, "not one of the tested"),
    ],
)
def test_sets_are_left_out_by_licence_and_subject(prefix, licence, more, reason):
    found = read_set(icon_set(prefix, {}, licence, **more))
    assert reason in found.reason
    assert bool(reason) == bool(found.reason)
    assert found.author == "A. Author"


def test_aliases_are_names_of_the_same_picture_unless_it_is_turned():
    data = icon_set(
        "a",
        {
            "account": body(1),
            "old": {"body": body(2), "hidden": True},
            "turned": {"body": body(3), "rotate": 1},
        }
        | {"spin": body(4, '<animate attributeName="x"/>')},
        aliases={
            "user": {"parent": "account"},
            "person": {"parent": "user"},
            "mirrored": {"parent": "account", "hFlip": True},
            "of-mirrored": {"parent": "mirrored"},
            "circle-a": {"parent": "circle-b"},
            "circle-b": {"parent": "circle-a"},
            "lost": {"parent": "nothing"},
        },
        categories={"People": ["account"]},
    )
    reasons: Counter[str] = Counter()
    (found,) = icons_of(data, reasons)
    assert found.names == ("account", "user", "person")
    assert found.categories == ("People",)
    assert sum(reasons.values()) == 3
    assert "it moves" in reasons


def test_a_picture_is_a_black_drawing_in_the_middle_of_a_square():
    data = icon_set("a", {}, width=24, height=12)
    raw = svg_of({"body": '<path fill="currentColor" d="M0 0h24v12H0z"/>'}, data)
    root = ElementTree.fromstring(raw)
    assert (root.get("width"), root.get("height")) == ("24", "24")
    assert root.get("viewBox") == "0 -6 24 24"
    made = prepare_picture(raw, ImageConfig(64), svg=True)
    assert (made.width, made.height) == (64, 64)
    from momo.transforms import decode

    pixels = decode(made.image).convert("L")
    assert pixels.getpixel((32, 32)) == 0
    assert pixels.getpixel((32, 4)) == 255
    moved = svg_of({"body": "", "left": 3, "top": -2, "width": 10, "height": 10}, data)
    assert ElementTree.fromstring(moved).get("viewBox") == "3 -2 10 10"


def test_an_archive_without_sets_is_refused(tmp_path):
    package = collection(tmp_path / "a.tgz", icon_set("a", {"b": body(1)}))
    assert [data["prefix"] for data in read_sets(package)] == ["a"]
    with pytest.raises(UserError, match="no @iconify/json"):
        list(read_sets(archive(tmp_path / "b.tgz", {"index.js": ""})))
