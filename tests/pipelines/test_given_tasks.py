"""`--tasks NAME=FOLDER_OR_TABLE[:PROTOCOL]`: what is understood, what is read, what is refused."""

import csv
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from momo_platform.stages import UserError
from pipelines import full
from pipelines.evaluation.datasets import DataSetPlace, locate
from pipelines.evaluation.given import given_tasks
from pipelines.evaluation.items import Captioned, Labelled, Texts
from pipelines.evaluation.loaders import load_given
from pipelines.evaluation.tasks import choose
from pipelines.graph import build_graph


def pictures(folder, count=30, classes=("dark", "bright")):
    """`<class>/<picture>`."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (12, 10), (200 * number + i, 9, 9)).save(folder / name / f"{i}.png")
    return folder


def table(folder, name, rows):
    folder.mkdir(exist_ok=True)
    file = folder / name
    if name.endswith(".jsonl"):
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif name.endswith(".csv"):
        with file.open("w", newline="") as opened:
            writer = csv.DictWriter(opened, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), file)
    return file


def only(text):
    (task,) = given_tasks([text])
    return task


def items_of(task):
    return load_given(task.given.loader, task.given.uri)


def shares(split):
    return [int((split == part).sum()) for part in ("train", "valid", "test")]


def test_a_folder_a_class_is_probed(tmp_path):
    task = only(f"mine={pictures(tmp_path / 'p')}")
    assert (task.name, task.group, task.protocol, task.metric) == (
        "mine", "image", "linear_probe", "accuracy")  # fmt: skip
    items = items_of(task)
    assert isinstance(items, Labelled)
    assert items.class_names == ("bright", "dark")
    for label in (0, 1):  # stratified
        assert shares(items.split[items.labels == label]) == [21, 3, 6]
    assert np.array_equal(items.split, items_of(task).split)
    dark = int(np.flatnonzero(items.labels == 1)[0])
    assert items.pictures.pixels([dark], 8)[0, 0, 0, 0] < 100
    assert only(f"mine={tmp_path / 'p'}:fine-tune").protocol == "fine_tune"
    zero = only(f"mine={tmp_path / 'p'}:zero-shot")
    assert (items_of(zero).split == "test").all()  # nothing is trained


def test_folders_of_parts_are_parts(tmp_path):
    for part in ("train", "val"):
        pictures(tmp_path / part, 10)
    items = items_of(only(f"mine={tmp_path}"))
    assert isinstance(items, Labelled)
    assert shares(items.split) == [18, 2, 20]  # the validation part is the test part


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_tables_by_their_columns(tmp_path, name):
    folder = pictures(tmp_path / "p", 5)
    rows = [
        {"image": f"dark/{i % 5}.png", "label": "ab"[i % 2], "split": ("train", "test")[i % 4 == 0]}
        for i in range(20)
    ]
    items = items_of(only(f"mine={table(folder, name, rows)}"))
    assert isinstance(items, Labelled)
    assert shares(items.split) == [14, 1, 5]
    assert items.pictures.pixels([3], 8).shape == (1, 3, 8, 8)
    texts = [{"text": f"words {i}", "label": i % 3} for i in range(60)]
    task = only(f"words={table(tmp_path / 't', name, texts)}")
    assert (task.group, task.protocol) == ("text", "fine_tune")
    items = items_of(task)
    assert isinstance(items, Texts)
    assert (items.classes, shares(items.split)) == (3, [42, 6, 12])
    assert only(f"words={tmp_path / 't' / name}:probe").protocol == "linear_probe"


def test_pairs_are_retrieved(tmp_path):
    folder = pictures(tmp_path / "p", 4)
    rows = [{"image": f"dark/{i % 4}.png", "caption": f"number {i}"} for i in range(8)]
    task = only(f"mine={table(folder, 'pairs.csv', rows)}")
    assert (task.group, task.protocol, task.metric) == ("multimodal", "retrieval", "mrr")
    items = items_of(task)
    assert isinstance(items, Captioned)
    assert (len(items.pictures), len(items.captions)) == (4, 8)
    rows[0]["split"], rows[1]["split"] = "test", "test"
    for row in rows[2:]:
        row["split"] = "train"
    items = items_of(only(f"mine={table(folder, 'parts.csv', rows)}"))
    assert items.captions == ["number 0", "number 1"]


def test_pictures_inside_parquet(tmp_path):
    folder = pictures(tmp_path / "p", 6)
    rows = [
        {"image": {"bytes": (folder / "dark" / f"{i}.png").read_bytes()}, "label": "ab"[i % 2]}
        for i in range(6)
    ]
    items = items_of(only(f"mine={table(tmp_path, 'inside.parquet', rows)}"))
    assert items.pictures.pixels([0, 5], 4).shape == (2, 3, 4, 4)


def test_questions_with_answers(tmp_path):
    folder = pictures(tmp_path / "p", 20)
    rows = [
        {"image": f"{c}/{i}.png", "question": q, "answer": a}
        for c in ("dark", "bright")
        for i in range(20)
        for q, a in (
            ("is it dark?", "Yes" if c == "dark" else "no"),
            ("a picture?", ["yes", "Yes"]),
        )
    ]
    task = only(f"mine={table(folder, 'vqa.jsonl', rows)}")
    assert (task.protocol, task.group) == ("fine_tune", "multimodal")
    items = items_of(task)
    assert isinstance(items, Texts)
    assert items.class_names == ("yes", "no")
    assert len(items.pictures) == 40
    parts = {}
    for picture, split in zip(items.picture.tolist(), items.split, strict=True):
        parts.setdefault(picture, set()).add(split)
    assert all(len(found) == 1 for found in parts.values())  # of a picture all or nothing


def test_given_tasks_stand_beside_the_registry(tmp_path):
    task = only(f"mine={pictures(tmp_path / 'p', 4)}")
    chosen = choose(("demo/mnist", f"mine={tmp_path / 'p'}"), given=(task,))
    assert [t.name for t in chosen] == ["demo/mnist", "mine"]
    place = locate(task.data_set, "")
    assert isinstance(place, DataSetPlace)
    Image.new("RGB", (3, 3)).save(tmp_path / "p" / "dark" / "new.png")
    again = locate(only(f"mine={tmp_path / 'p'}").data_set, "")
    assert again.digest != place.digest


def test_full_runs_them_after_training_and_reports_them(tmp_path):
    folder = pictures(tmp_path / "p", 4)
    arguments = ["--preset", "smoke", "--tasks", "demo/mnist", f"mine={folder}:fine-tune"]
    graph = build_graph(full.parse([*arguments, "--evaluation.save-classifiers"]))
    report = graph["report"].config
    assert [task.name for task in report.given] == ["mine"]
    node = graph[report.evaluations["stage3-pair"]["mine"]]
    assert node.config.save_classifier
    assert node.config.tuning.epochs == 5
    assert "mine" in {task.name for task in graph["baselines"].config.tasks}
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    again = build_graph(full.parse([*arguments[:-1], f"mine={moved}:fine-tune"]))
    assert again[node.name].config.place == replace(node.config.place, folder=str(moved))


@pytest.mark.parametrize(
    "text, words",
    [
        ("mine=", ["mine=", "folder or table"]),
        (
            "mine=/none/here",
            ["--tasks mine=/none/here: no such", "image and label", "text and label"],
        ),
        ("a b={p}", ["'a b'", "letters"]),
        ("demo={p}", ["demo is a suite's name"]),
        ("mine={p}:prob", ["'prob'", "did you mean probe"]),
        ("mine={p}:vqa", ["vqa needs", "question", "fits fine-tune, probe, zero-shot"]),
        ("mine={p}/dark", ["--tasks mine", "a folder a class"]),
        ("mine={p}/semi.csv", ["--tasks mine=", "semi.csv: a task", "'image;label'", "commas"]),
        ("mine=hf://some/set", ["hub", "Parquet"]),
    ],
)
def test_bad_names_and_places_are_one_clear_message(tmp_path, text, words):
    folder = pictures(tmp_path / "p", 3)
    if "semi" in text:
        (folder / "semi.csv").write_text("image;label\ndark/0.png;dark\n")
    with pytest.raises(UserError) as error:
        given_tasks([text.format(p=folder)])
    for word in words:
        assert word in str(error.value)


def test_two_of_one_name(tmp_path):
    folder = pictures(tmp_path / "p", 3)
    with pytest.raises(UserError, match="two tasks are named mine"):
        given_tasks([f"mine={folder}", f"mine={folder}:zero-shot"])


@pytest.mark.parametrize(
    "rows, words",
    [
        ([{"image": "dark/0.png", "label": "a"}, {"image": "dark/1.png", "label": ""}],
         ["rows.csv:3", "no label"]),
        ([{"image": "dark/0.png", "label": "a", "split": "trian"}],
         ["rows.csv:2", "unknown split"]),
        ([{"image": "dark/0.png", "label": "a", "split": "train"},
          {"image": "dark/1.png", "label": "b", "split": ""}], ["rows.csv:3", "no split"]),
        ([{"image": "dark/0.png", "label": x, "split": "train"} for x in "ab"],
         ["no row has the split test"]),
        ([{"text": f"words {i}", "label": "a"} for i in range(9)], ["1 label in all"]),
        ([{"image": "dark/0.png", "question": "x?", "answer": "a"}] * 9, ["1 answer in all"]),
        ([{"text": "", "label": "a"}], ["rows.csv:2", "no text"]),
        ([{"text": "words", "label": ""}], ["rows.csv:2", "no label"]),
        ([{"image": "dark/0.png", "question": "", "answer": "x"}], ["rows.csv:2", "no question"]),
        ([{"image": "dark/0.png", "question": "x?", "answer": ""}], ["rows.csv:2", "no answer"]),
        ([{"image": "dark/0.png", "caption": " "}], ["rows.csv:2", "no caption"]),
    ],
)  # fmt: skip
def test_bad_rows_are_named(tmp_path, rows, words):
    folder = pictures(tmp_path / "p", 3)
    with pytest.raises(UserError) as error:
        items_of(only(f"mine={table(folder, 'rows.csv', rows)}"))
    for word in words:
        assert word in str(error.value)


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    folder = pictures(tmp_path / "p", 3)
    (folder / "dark" / "1.png").write_text("no picture")
    items = items_of(only(f"mine={folder}"))
    with pytest.raises(UserError, match=r"dark/1\.png.*replace it or take it out"):
        items.pictures.pixels(range(6), 8)
