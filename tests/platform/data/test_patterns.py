"""Braces, wild cards, weights and lists of places."""

import pytest

from momo_platform.data.patterns import expand, is_pattern, listed, names_of, root_of
from momo_platform.stages import UserError


@pytest.fixture
def folder(tmp_path):
    for name in ("a/000.tar", "a/001.tar", "a/010.tar", "b/000.tar", "b/x.csv", "[odd].csv"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a/{000..002}.tar", ["a/000.tar", "a/001.tar", "a/002.tar"]),
        ("{a,b}/000.tar", ["a/000.tar", "b/000.tar"]),
        ("a/*.tar", ["a/000.tar", "a/001.tar", "a/010.tar"]),
        ("a/00[0-9].tar", ["a/000.tar", "a/001.tar"]),
        ("**/000.tar", ["a/000.tar", "b/000.tar"]),
        ("{a,b}/*.csv", ["b/x.csv"]),
        ("none/*.csv", []),
        ("b/x.csv", ["b/x.csv"]),
    ],
)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_patterns_stand_for_places(folder, scheme, pattern, expected):
    assert expand(f"{scheme}{folder}/{pattern}") == [f"{scheme}{folder}/{e}" for e in expected]


def test_what_is_there_by_its_very_name_is_no_pattern(folder):
    assert expand(f"{folder}/[odd].csv") == [f"{folder}/[odd].csv"]


def test_roots_of_patterns():
    assert root_of("s3://b/x/{0..9}.tar?region=a") == "s3://b/x?region=a"
    assert expand("s3://b/{0..1}.tar?region=a") == [
        "s3://b/0.tar?region=a",
        "s3://b/1.tar?region=a",
    ]
    assert root_of("s3://b/cc12m/{00000..01242}.tar") == "s3://b/cc12m"
    assert root_of("data/part-*/x?.csv") == "data"
    assert root_of("s3://b/{a,b}/x.tar") == "s3://b"
    assert root_of("s3://b/a.tar") == "s3://b/a.tar"
    assert not is_pattern("s3://bucket/a.tar?endpoint_override=localhost:9000")


def test_unbalanced_braces_are_told():
    with pytest.raises(UserError, match=r"x/\{1\.\.3\}\{"):
        expand("x/{1..3}{")


def test_weights_and_lists(folder):
    (folder / "list.txt").write_text("# two\nb/x.csv:0.5\n\ns3://c/d.tar  # the last\n")
    found = list(listed(["a.csv:2", "s3://b/c.tar", "hf://user/set@train", f"@{folder}/list.txt"]))
    assert found == [
        ("a.csv", 2.0),
        ("s3://b/c.tar", 1.0),
        ("hf://user/set@train", 1.0),
        (f"{folder}/b/x.csv", 0.5),
        ("s3://c/d.tar", 1.0),
    ]
    (folder / "odd:2").write_text("")
    assert list(listed([f"{folder}/odd:2"])) == [(f"{folder}/odd:2", 1.0)]


def test_lists_that_are_none_are_told(folder):
    for name, why in (("missing", "can't be read"), ("empty", "names none")):
        (folder / "empty").write_text("# nothing\n")
        with pytest.raises(UserError, match=why):
            list(listed([f"@{folder}/{name}"]))


def test_sources_have_names():
    assert names_of(["a.csv"]) == ["own"]
    places = ["x/a.csv", "s3://b/CC 12m/{0..9}.tar", "y/a.csv", "hf://user/a", "/"]
    assert names_of(places) == ["a", "cc-12m", "a-2", "a-3", "source"]
