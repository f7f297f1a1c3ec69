"""What is held out of rows that name no split, and what folders say."""

import pyarrow.fs as pafs
import pytest

from momo_platform.data.class_folders import splits_and_labels
from momo_platform.data.sources import SourceConfig, list_rows
from momo_platform.data.splits import Shares, about, divide, divide_rows, estimate_documents, shares
from pipelines.modalities import IMAGE


@pytest.mark.parametrize(
    "groups, test",
    [(11, 3), (300, 60), (2_500, 500), (4_000, 500), (5_000, 500), (20_000, 2_000),
     (100_000, 10_000), (1_000_000, 10_000)],
)  # fmt: skip
def test_the_automatic_test_part(groups, test):
    share = shares(groups, None)
    assert -(-round(share.test * groups, 6) // 1) == test
    assert share.valid == share.test / 2


def test_given_shares_are_kept_and_leave_something_to_train_on():
    assert shares(10, 0.3) == Shares(0.3, 0.15)
    assert shares(10, 0.0) == Shares(0.0, 0.0)
    assert shares(10, 0.0, 0.02) == Shares(0.0, 0.02)
    high = shares(10, 0.9)
    assert high.test + high.valid < 1.0


def test_parts_have_their_size_and_do_not_depend_on_the_order():
    groups = [f"picture {i}" for i in range(300)]
    found = divide(groups, shares(300, None))
    counts = [list(found.values()).count(s) for s in ("test", "valid", "train")]
    assert counts == [60, 30, 210]
    assert divide(reversed(groups * 2), shares(300, None)) == found
    smaller = divide(groups, Shares(0.1, 0.05))  # parts of two corpora are one in the other
    for split in ("test", "valid"):
        inside = {g for g, s in smaller.items() if s == split}
        assert inside <= {g for g, s in found.items() if s == split}
    assert divide(["one"], shares(1, None)) == {"one": "train"}
    assert sorted(divide(["one", "two"], shares(2, None)).values()) == ["test", "train"]


def test_rows_of_a_group_are_never_in_two_splits():
    rows = [{"group": f"g{i // 3}", "split": ""} for i in range(90)]
    rows[0]["split"] = "test"
    rows[4]["split"], rows[5]["split"] = "train", "valid"
    rows += [{"group": "broken", "split": "", "reason": "why"}]
    division = divide_rows(rows, None)
    for row in rows:
        row["split"] = row["split"] or division.split_of(row["group"])
    assert rows.pop()["group"] == "broken"
    splits = {}
    for row in rows:
        splits.setdefault(row["group"], set()).add(row["split"])
    assert splits["g0"] == {"test"}
    assert splits["g1"] == {"train", "valid"}  # as its rows say; the silent one is held out
    assert rows[3]["split"] == "valid"
    assert all(len(s) == 1 for g, s in splits.items() if g != "g1")
    counts = [sum(s == {n} for s in splits.values()) for n in ("test", "valid")]
    assert counts == [1 + 6, 3]  # 20 % and 10 % of the 28 groups that name none


def test_of_rows_beyond_the_first_parts_have_about_their_size():
    rows = [{"group": f"g{i}", "split": ""} for i in range(1000)] + [
        {"group": "g1", "split": "test"}
    ]
    division = divide_rows(rows, None, more=5)  # of 5,000 groups a tenth
    found = [division.split_of(f"g{i}") for i in range(5000)]
    assert 430 < found.count("test") < 570
    assert 190 < found.count("valid") < 310
    assert division.named == {"g1": "test"}


def test_documents_are_divided_by_their_words():
    parts = about(Shares(0.2, 0.1))
    found = [parts.split_of(f"document {i}") for i in range(2000)]
    assert 330 < found.count("test") < 470
    assert 140 < found.count("valid") < 260


def test_documents_are_counted_from_a_part(tmp_path):
    (tmp_path / "a.txt").write_text("a line of text\n" * 200_000)
    (tmp_path / "b.jsonl").write_text('{"text": "x"}\n\n' * 50)
    paths = [str(tmp_path / n) for n in ("a.txt", "b.jsonl")]
    found = estimate_documents(pafs.LocalFileSystem(), paths)
    assert found == pytest.approx(200_050, rel=0.02)
    assert estimate_documents(pafs.LocalFileSystem(), []) == 0


@pytest.mark.parametrize(
    "names, expected",
    [
        (["cat/1.png", "dog/1.png"], [("", "cat"), ("", "dog")]),
        (["train/cat/1.png", "val/dog/1.png"], [("train", "cat"), ("valid", "dog")]),
        (["train/1.png", "test/1.png"], [("train", ""), ("test", "")]),
        (["train/cat/1.png", "train/dog/1.png"], [("", "cat"), ("", "dog")]),  # one is no split
        (["cat/1.png", "2.png"], [("", ""), ("", "")]),
        (["all/1.png", "all/2.png"], [("", ""), ("", "")]),
        (["a/b/1.png", "a/c/1.png"], [("", ""), ("", "")]),
        (["1.png"], [("", "")]),
    ],
)
def test_folders_name_classes_and_splits(names, expected):
    assert splits_and_labels(names) == expected


def test_a_folder_a_class_labels_its_pictures(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"")
    rows = list(list_rows(SourceConfig("own", str(tmp_path)), str(tmp_path), IMAGE.kind))
    assert [(r["key"], r["label"], r["split"]) for r in rows] == [
        ("cat/1.png", "cat", ""), ("dog/1.png", "dog", "")]  # fmt: skip


def test_rows_after_the_first_follow_their_group():
    rows = [{"group": f"n{i}", "split": "test"} for i in range(40)]
    rows += [{"group": f"g{i}", "split": ""} for i in range(100)]
    division = divide_rows(rows, None, more=2)
    assert {division.split_of(f"n{i}") for i in range(40)} == {"test"}
