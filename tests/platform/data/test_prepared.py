"""Prepared rows read by columns, splits and a bound, and what is read of the files for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from momo_platform.data import prepared
from momo_platform.data.artifacts import PreparedRows, RowIndex, ShardFile, write_index
from momo_platform.data.prepared import iterate_rows, proportional, read_rows
from momo_platform.stages import UserError
from momo_platform.stages.storage.place import Place

ROW_GROUP = 4


def _file(folder: Path, name: str, rows: list[dict[str, str]], source: str = "") -> ShardFile:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, path, row_group_size=ROW_GROUP, write_page_checksum=True)
    return ShardFile(name, len(rows), path.stat().st_size, source)


def _rows(split: str, source: str, start: int, stop: int) -> list[dict[str, str]]:
    return [
        {"key": f"{source}{i}", "split": split, "label": "cat" if i >= 8 else ""}
        for i in range(start, stop)
    ]


@pytest.fixture
def rows(tmp_path: Path) -> PreparedRows:
    """30 training rows of source a in two shards and 10 of b; three held-out ones."""
    shards = (
        _file(tmp_path, "shards/a-00000.parquet", _rows("train", "a", 0, 20), "a"),
        _file(tmp_path, "shards/a-00001.parquet", _rows("train", "a", 20, 30), "a"),
        _file(tmp_path, "shards/b-00000.parquet", _rows("train", "b", 0, 10), "b"),
    )
    held = [*_rows("valid", "v", 0, 1), *_rows("test", "t", 0, 2)]
    index = RowIndex(
        ROW_GROUP,
        ("key", "split", "label"),
        shards,
        (_file(tmp_path, "held-out/00000.parquet", held),),
    )
    write_index(Place(str(tmp_path)), index)
    return PreparedRows(tmp_path)


def _keys(table: pa.Table) -> list[str]:
    return table["key"].to_pylist()


def test_the_splits_that_are_asked_for_come_with_the_columns(rows: PreparedRows) -> None:
    tested = read_rows(rows, ["key"])
    assert tested.column_names == ["key"]
    assert _keys(tested) == ["t0", "t1"]
    assert _keys(read_rows(rows, ["key"], ("valid",))) == ["v0"]
    every = _keys(read_rows(rows, ["key"], ("train", "valid", "test")))
    assert every[:3] == ["v0", "t0", "t1"]
    assert len(every) == 43


def test_a_bound_takes_the_first_rows(rows: PreparedRows) -> None:
    assert _keys(read_rows(rows, ["key"], ("train",), limit=6)) == [f"a{i}" for i in range(6)]
    assert len(read_rows(rows, ["key"], ("train",), limit=100)) == 40
    only = read_rows(rows, ["key"], ("train",), limit=3, source="b")
    assert _keys(only) == ["b0", "b1", "b2"]


def test_each_source_has_its_part_of_a_bound(rows: PreparedRows) -> None:
    assert proportional(rows, 12) == {"a": 9, "b": 3}
    assert proportional(rows, 3) == {"a": 3, "b": 1}
    assert proportional(rows, 1000) == {"a": 30, "b": 10}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], list[str]]]:
    """Row groups and columns of each read."""
    found: list[tuple[list[int], list[str]]] = []
    original = pq.ParquetFile.read_row_groups

    def counted(self: pq.ParquetFile, groups: list[int], columns: list[str], **how: Any) -> Any:
        found.append((groups, columns))
        return original(self, groups, columns, **how)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counted)
    return found


def test_no_more_row_groups_are_read_than_a_bound_needs(rows: PreparedRows, read: Any) -> None:
    tables = list(iterate_rows(rows, ["key"], ("train",), limit=9))
    assert sum(len(table) for table in tables) == 9
    assert read == [([0, 1, 2], ["key", "split"])]


def test_row_groups_that_have_nothing_in_a_column_are_not_read(
    rows: PreparedRows, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "_GROUPS", 2)
    keys = _keys(read_rows(rows, ["key"], ("train",), filled="label", source="a"))
    assert keys == [f"a{i}" for i in range(8, 30)]
    whole = [groups for groups, columns in read if "key" in columns]
    assert whole == [[2, 3], [4], [0, 1], [2]]


@pytest.mark.parametrize(
    "fault, said",
    [
        ("page", r"row groups 0 to 0: the file is damaged \(.*(?i:crc|corrupt|checksum)"),
        ("cut", r"footer: the file is damaged"),
        ("empty", r"footer: the file is damaged"),
        ("gone", r"00000.parquet is gone"),
        ("another", r"footer: the file is damaged \(1 rows, not 3\)"),
    ],
)
def test_a_file_that_is_damaged_or_gone_is_named_with_the_remedy(
    rows: PreparedRows, fault: str, said: str
) -> None:
    path = Path(rows.place.root) / "held-out/00000.parquet"
    raw = bytearray(path.read_bytes())
    raw[40] ^= 0xFF  # in the first page's bytes
    if fault == "gone":
        path.unlink()
    elif fault == "another":
        _file(path.parent, path.name, _rows("test", "t", 0, 1))
    else:
        path.write_bytes({"page": raw, "cut": raw[:100], "empty": b""}[fault])
    with pytest.raises(UserError, match=said) as told:
        read_rows(rows, ["key"], ("valid", "test"))
    assert "held-out/00000.parquet" in str(told.value)
    assert "--rerun" in str(told.value)
