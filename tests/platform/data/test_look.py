"""What a source is refused for before anything runs, and what a look at it must let pass."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from prepared_rows import artifact, prepared
from preparing import pour

from momo_platform.data.config import MixConfig
from momo_platform.data.rows import IMAGE_SCHEMA
from momo_platform.data.sources import SourceConfig, identify
from momo_platform.stages import Context, UserError
from pipelines.modalities import MODALITIES, PAIR
from pipelines.modalities.pair import run_mix_pair


def look(path, kind):
    return identify(str(path), f"--{kind}.source", MODALITIES[kind].kind)


def written(folder, files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        if isinstance(content, dict):
            pq.write_table(pa.table(content), folder / name)
        else:
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


LONG = json.dumps({"note": "x" * 300_000}) + "\n"


@pytest.mark.parametrize(
    "kind, files, words",
    [
        ("pair", {"p.csv": "image;caption\na.png;b\n"}, ["p.csv", "image;caption", "commas"]),
        ("pair", {"p.csv": "image\tcaption\na.png\tb\n"}, [".tsv"]),
        ("pair", {"p.csv": "photo,words\na,b\n"}, ["picture", "caption", "photo, words", "image"]),
        ("pair", {"p.csv": "image,words\na,b\n"}, ["no column with the caption; it has"]),
        ("pair", {"p.csv": ""}, ["p.csv", "no row"]),
        ("pair", {"p.csv": "image,caption\n"}, ["p.csv", "no row"]),
        (
            "pair",
            {"p.csv": "image,caption\na.png,b, c\n"},
            [
                "p.csv",
                "none of its rows",
                "3 instead of 2 in line 2; quote a field that has a comma",
            ],
        ),
        ("pair", {"p.csv": b"image,caption\n\xff,b\n"}, ["not UTF-8 at byte 14"]),
        ("pair", {"p.jsonl": '{"a": 1}\n{"b": 1}\n'}, ["p.jsonl", "'a, b'"]),
        ("pair", {"p.jsonl": "broken\n"}, ["no row that can be read"]),
        ("pair", {"p.parquet": {"image": [b"x"]}}, ["no column with the caption"]),
        ("pair", {"p.parquet": b"broken"}, ["not readable Parquet"]),
        ("pair", {"notes.txt": "words"}, ["no picture and no table", "give Parquet"]),
        ("pair", {"a.png": b"", "b.png": b""}, ["2 pictures", "put a.txt beside a.png"]),
        ("image", {"notes.txt": "words"}, ["no picture and no table"]),
        ("image", {"i.csv": "caption\nx\n"}, ["no column with the picture"]),
        ("image", {"a.png": b"", "i.csv": "name\na.png\n"}, ["i.csv", "'name'"]),
        ("text", {"a.png": b"", "b.png": b""}, ["no .txt", "one document a line"]),
        ("text", {"t.csv": "words\na b\n"}, ["no column with the text; it has 'words'"]),
        ("text", {"a.txt": ""}, ["empty"]),
    ],
)
def test_what_preparation_would_refuse_is_refused(tmp_path, kind, files, words):
    folder = written(tmp_path / "in", files)
    for place in (folder, *([folder / next(iter(files))] if len(files) == 1 else ())):
        with pytest.raises(UserError) as error:
            look(place, kind)
        for word in (f"--{kind}.source", *words):
            assert word in str(error.value)


@pytest.mark.parametrize(
    "kind, files",
    [
        ("pair", {"p.csv": "file_name,title\na.png,b\n"}),
        ("pair", {"p.tsv": "image\tcaption\na.png\tb\n"}),
        ("pair", {"a.csv": "", "b.csv": "image,caption\na.png,b\n"}),
        ("pair", {"a.jsonl": '{"x": 1}\n', "b.jsonl": '{"image": "a.png", "text": "b"}\n'}),
        ("pair", {"p.jsonl": 'broken\n{"x": 1}\n{"image": "a.png", "captions": ["b"]}\n'}),
        ("pair", {"p.jsonl": LONG * 3}),  # what comes later isn't known
        ("pair", {"p.csv": "image,caption\n" + "a.png,\u00e9\n" * 60_000}),
        ("pair", {"p.parquet": {"image": [b"x"], "caption": ["b"]}}),
        ("pair", {"a.png": b"", "b.png": b"", "b.txt": "words"}),
        ("pair", {"a.tar": b"whatever is in it"}),
        ("image", {"A.PNG": b"", "notes.txt": "words"}),
        ("text", {"a.png": b"", "a.txt": "words"}),
        ("text", {"t.csv": "words\na b\n", "t.txt": "words"}),
        ("text", {"t.csv": "words\na b\n", "u.jsonl": '{"content": "a b"}\n'}),
    ],
)
def test_what_preparation_accepts_passes(tmp_path, kind, files):
    if kind == "pair" and "p.jsonl" in files and files["p.jsonl"].startswith('{"note"'):
        files = {"p.jsonl": files["p.jsonl"] + '{"image": "a.png", "caption": "b"}\n'}
        with pytest.raises(UserError, match="no column with the picture"):
            look(written(tmp_path / "in", files), kind)
        return
    assert look(written(tmp_path / "in", files), kind)


def rows(reasons, key="p.csv"):
    """Prepared rows: None for one that is kept."""
    found = []
    for number, reason in enumerate(reasons):
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4), (number, 9, 9)).save(buffer, "PNG")
        found.append(
            {"source": "own", "key": f"{key}:{number + 2}", "group": "", "split": "train",
             "label": "", "image": buffer.getvalue(), "captions": ["a"], "width": 4, "height": 4,
             "look": None, "reason": reason, "file": None, "size": None, "sha256": None}
        )  # fmt: skip
    return pa.Table.from_pylist(found, schema=IMAGE_SCHEMA)


OWN = [SourceConfig("own", "/photos/p.csv")]


def test_rows_that_cannot_be_used_are_told_with_place_example_and_remedy(tmp_path):
    bad = rows(["the picture does not exist: /photos/gone.png", "the caption is empty"])
    with pytest.raises(UserError) as error:
        pour(tmp_path / "out", bad, PAIR.kind, 3, OWN, max_bad=1.0)
    for word in (
        "2 of 2 rows of /photos/p.csv", "p.csv:2: the picture does not exist: /photos/gone.png",
        "from its own folder on", "name.txt beside name.jpg", "quarantine.parquet",
    ):  # fmt: skip
        assert word in str(error.value)
    assert "max-bad-fraction" not in str(error.value)  # nothing would be left


def test_rows_left_out_are_one_line(tmp_path):
    messages = []
    some = rows([None, None, "the picture does not exist: /photos/gone.png"])
    some = pa.concat_tables([some, rows([None])])
    pour(tmp_path / "some", some, PAIR.kind, 3, OWN, max_bad=0.5, messages=messages)
    assert messages[-1] == {
        "note": "2 of 4 rows left out (1 × the picture does not exist; 1 × duplicate); listed in "
        "quarantine.parquet; p.csv:4: the picture does not exist: /photos/gone.png"
    }
    messages.clear()
    pour(tmp_path / "all", rows([None]), PAIR.kind, 3, OWN, messages=messages)
    assert not any("note" in message for message in messages)


@pytest.mark.parametrize(
    "splits, pictures",
    [(["train"], 1), (["train"] * 9, 9), (["test"] * 19 + ["train"], 20), (["train"] * 20, 1)],
)
def test_too_few_own_pairs_are_refused(tmp_path, splits, pictures):
    groups = [str(i % pictures) for i in range(len(splits))]
    rows = artifact(prepared(tmp_path / "rows", {"split": splits, "group": groups}))
    context = Context(tmp_path / "out", tmp_path / "kept", "mix-pair", "0", "a")
    with pytest.raises(UserError, match=r"--pair.source: too few rows.*at least 10"):
        run_mix_pair(MixConfig({}, own="--pair.source"), {"prepared": rows}, context)
