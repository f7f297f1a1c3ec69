"""The comparison with infinity-emb: equal loads on both sides, a clear word without the peer."""

import stat
import sys

import pytest

from experiments.benchmarks.infinity import (
    GOALS,
    LOADS,
    VERSION,
    checked_peer,
    peer_request,
)
from experiments.benchmarks.serving import request_of


@pytest.mark.parametrize(
    "load, count", [("short texts", 24), ("mixed texts", 24), ("pictures", 12)]
)
def test_a_load_has_the_items_that_it_says(load, count):
    items = LOADS[load](24, 3)
    assert len(items) == count
    assert items == LOADS[load](24, 3)
    assert items != LOADS[load](24, 4)
    words = [len(item["text"].split()) for item in items if "text" in item]
    assert len(words) == (0 if load == "pictures" else count)
    assert any(n > 20 for n in words) == (load == "mixed texts")


def test_both_sides_get_the_same_item():
    text, picture = {"text": "a tree"}, {"image": "AAAA"}
    assert request_of(text) == {"input": "a tree"}
    assert peer_request("short texts", text) == {"model": "texts", "input": "a tree"}
    assert peer_request("texts and pictures", text) == {"model": "both", "input": "a tree"}
    assert request_of(picture) == {"input": [picture]}
    assert peer_request("pictures", picture) == {
        "model": "both",
        "modality": "image",
        "input": ["data:image/png;base64,AAAA"],
    }


def test_every_load_has_a_goal():
    assert all(set(goals) == set(LOADS) for goals in GOALS.values())


def test_without_the_peer_it_says_how_to_get_it(tmp_path):
    with pytest.raises(SystemExit, match=r"(?s)give the Python that has infinity-emb.*pip install"):
        checked_peer("")
    with pytest.raises(SystemExit, match=r"(?s)no program there.*pip install"):
        checked_peer(str(tmp_path / "python"))
    with pytest.raises(SystemExit, match=r"it has no infinity-emb.*pip install"):
        checked_peer(sys.executable)


def test_another_version_of_the_peer_is_refused(tmp_path):
    def program(name, prints):
        file = tmp_path / name
        file.write_text(f"#!/bin/sh\necho {prints}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        return file

    program("infinity_emb", "")
    old = program("python", "0.0.1")
    with pytest.raises(SystemExit, match=f"it has infinity-emb 0.0.1, not {VERSION}"):
        checked_peer(str(old))
    assert checked_peer(str(program("python", VERSION))) == tmp_path
