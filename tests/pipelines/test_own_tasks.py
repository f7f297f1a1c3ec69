"""Tasks on the user's own sources: which run, what they read, what the graph has for them."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from prepared_rows import artifact, prepared

import momo
from pipelines.config import EvaluationConfig, PipelineConfig, SourceOptions
from pipelines.evaluation.datasets import Roots
from pipelines.evaluation.items import Captioned, Labelled, NotAvailable, Texts
from pipelines.evaluation.loaders import load_items
from pipelines.evaluation.loaders import own as own_loader
from pipelines.evaluation.tasks import TASKS, choose
from pipelines.graph import build_graph
from pipelines.presets import PRESETS


def png(number):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 7, 9)).save(buffer, "PNG")
    return buffer.getvalue()


def own(kind, folder, **columns):
    """Where the data sets on the user's own source are read from."""
    made = artifact(prepared(folder, columns))
    return Roots(artifacts={f"own-{kind}": made})


def own_folder(root, count=12):
    """Captioned pictures, as a table beside them."""
    root.mkdir()
    rows = []
    for i in range(count):
        (root / f"{i}.png").write_bytes(png(i))
        rows.append({"image": f"{i}.png", "caption": f"picture number {i}"})
    (root / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (root / "words.txt").write_text("a line of twenty characters or more\n" * 5)
    return root


def own_config(root, *kinds, demo=(), **evaluation) -> PipelineConfig:
    files = {"image": root, "pair": root / "pairs.jsonl", "text": root / "words.txt"}
    sources = {kind: SourceOptions(source=str(files[kind])) for kind in kinds}
    sources |= {kind: SourceOptions(source="demo") for kind in demo}
    config = replace(PRESETS["smoke"](), corpora=sources)
    return replace(config, evaluation=replace(config.evaluation, **evaluation))


def evaluated(graph):
    report = graph["report"].config
    return {task for nodes in report.evaluations.values() for task in nodes}


def test_with_own_sources_only_nothing_of_the_demo_is_in_the_graph(tmp_path):
    graph = build_graph(own_config(own_folder(tmp_path / "own"), "image", "text", "pair"))
    assert "corpora" not in graph
    tasks = {"retrieval", "matching", "labels", "labels_zero_shot", "masked_words"}
    assert evaluated(graph) == {f"own/{name}" for name in tasks}
    assert not [name for name in graph if "demo" in name]
    assert {t.name for t in graph["baselines"].config.tasks} == evaluated(graph)
    # What is tested of one is not trained on with the other.
    assert graph["mix-image"].inputs["pair"] is graph["prepare-pair"]
    assert graph["mix-text"].inputs["pair"] is graph["prepare-pair"]
    assert graph["mix-pair"].inputs["image"] is graph["prepare-image"]
    assert "tokenizer" in graph["baselines"].inputs
    for kind in ("image", "text", "pair"):
        assert graph[f"prepare-{kind}"].config.held_out is None


def test_own_pairs_alone_are_pictures_and_text_too(tmp_path):
    graph = build_graph(own_config(own_folder(tmp_path / "own"), "pair"))
    assert not [name for name in graph if "demo" in name or name == "corpora"]
    assert {"own/retrieval", "own/labels", "own/masked_words"} <= evaluated(graph)
    words = graph["masked-words-own-text-stage3-pair"].inputs["own-text"]
    assert words is graph["prepare-pair"]


def test_the_demos_tasks_come_with_its_corpora_or_when_they_are_named(tmp_path):
    root = own_folder(tmp_path / "own")
    graph = build_graph(own_config(root, "pair", demo=("image", "text")))
    found = evaluated(graph)
    assert {"own/retrieval", "demo/mnist", "demo/movie_sentiment"} <= found
    assert not found & {"demo/image_to_text", "demo/easy_vqa", "own/labels"}
    named = own_config(root, "image", "text", "pair", tasks=("auto", "demo/image_to_text"))
    graph = build_graph(named)
    # One name is one data set: the emoji, prepared for this task alone.
    node = graph["retrieval-demo-pair-stage3-pair"].inputs["features"]
    assert node.inputs["demo-pair"].name == "prepare-demo-pair"
    assert node.inputs["demo-pair"].config.sources[0].name == "emoji"
    assert "corpora" in graph
    assert (
        graph["retrieval-own-pair-stage3-pair"].inputs["features"].inputs["own-pair"]
        is (graph["prepare-pair"])
    )
    assert "demo/mnist" not in evaluated(graph)


def test_the_demo_alone_is_evaluated_as_ever():
    graph = build_graph(PRESETS["demo"]())
    assert evaluated(graph) == {n for n in TASKS if n.startswith("demo/")}
    assert graph["prepare-text"].config.valid == 0.02
    assert EvaluationConfig().tasks == ("auto",)


def test_own_tasks_without_a_source_say_which_option_to_give():
    config = PRESETS["smoke"]()
    graph = build_graph(
        replace(
            config, evaluation=replace(config.evaluation, tasks=("own/retrieval", "demo/mnist"))
        )
    )
    missing = graph["report"].config.missing["stage3-pair"]
    assert missing == {"own/retrieval": "no --pair.source was given"}


def test_auto_chooses_by_kind():
    names = {t.name for t in choose(("auto",), own={"text"}, bundled={"image": "demo"})}
    demo = {"mnist", "emoji_category", "mnist_knn", "category_zero_shot"}
    assert names == {"own/masked_words", *(f"demo/{name}" for name in demo)}
    assert choose(("auto", "demo/mnist"), own=set(), bundled={}) == (TASKS["demo/mnist"],)


def test_own_pairs_are_the_held_out_ones_with_all_their_captions(tmp_path):
    roots = own(
        "pair",
        tmp_path / "pair",
        image=[png(0), png(0), png(1), png(2), png(3), png(4)],
        captions=[["a dog"], ["the dog runs"], ["a cat"], ["A Dog"], ["a tree"], ["seen"]],
        group=["0", "0", "1", "2", "3", "4"],
        split=["test"] * 5 + ["train"],
    )
    items = load_items("own-pair", roots)
    assert isinstance(items, Captioned)
    assert len(items.pictures) == 4  # the picture of two rows comes once
    assert items.captions == ["a dog", "the dog runs", "a cat", "a tree"]
    # "a dog" is right for both pictures that are called so.
    assert items.image_groups[0] == items.image_groups[2]
    assert len(set(items.image_groups.tolist())) == 3
    assert set(items.text_groups.tolist()) == set(items.image_groups.tolist())
    none = own(
        "pair", tmp_path / "none", image=[png(0)], captions=[["x"]], group=["0"], split=["train"]
    )
    found = load_items("own-pair", none)
    assert isinstance(found, NotAvailable)
    assert "--pair.held-out" in found.reason


def test_own_labels_need_labels_and_parts(tmp_path):
    count = 40
    columns = {
        "image": [png(i) for i in range(count)],
        "split": ["train"] * 28 + ["test"] * 8 + ["valid"] * 4,
        "group": [str(i) for i in range(count)],
    }
    labels = [("big_cat", "dog")[i % 2] for i in range(count - 1)] + [""]
    roots = own("image", tmp_path / "a", label=labels, **columns)
    items = load_items("own-labels", roots)
    assert isinstance(items, Labelled)
    assert items.class_names == ("big cat", "dog")
    assert len(items.labels) == count - 1
    for name, labels, words in (
        ("none", [""] * count, "<class>/<picture>"),
        ("one", ["dog"] * count, "one label only"),
    ):
        roots = own("image", tmp_path / name, label=labels, **columns)
        found = load_items("own-labels", roots)
        assert isinstance(found, NotAvailable)
        assert words in found.reason
    columns["split"] = ["train"] * 30 + ["test"] * 10
    numbers = [str(i % 3) for i in range(count)]
    roots = own("image", tmp_path / "numbers", label=numbers, **columns)
    items = load_items("own-labels", roots)
    assert isinstance(items, Labelled)
    assert items.class_names == ()  # numbers say nothing to a text encoder
    assert "valid" in items.split  # taken from the training part


def test_of_many_labelled_pictures_a_part_of_each_source_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(own_loader, "MOST_ROWS", 10)
    columns = {
        "image": [png(i) for i in range(50)],
        "split": ["train"] * 45 + ["test"] * 5,
        "group": [str(i) for i in range(50)],
        "source": ["a"] * 30 + ["b"] * 10 + ["none"] * 10,
        "label": [str(i % 2) for i in range(40)] + [""] * 5 + ["0", "1", "0", "1", ""],
    }
    items = load_items("own-labels", own("image", tmp_path / "many", **columns))
    assert isinstance(items, Labelled)
    training = items.groups[items.split != "test"]
    # Of each source its first rows: they lie in a random order.
    assert set(training) == {*map(str, range(7)), *map(str, range(30, 32))}
    assert (items.split == "test").sum() == 4
    assert "random sample of 9 " in items.note
    columns = {name: values[:8] + values[45:] for name, values in columns.items()}
    few = own("image", tmp_path / "few", **columns)
    items = load_items("own-labels", few)
    assert (items.split != "test").sum() == 8
    assert items.note == ""


def test_no_more_pictures_are_read_than_are_used_of_each_source(tmp_path, monkeypatch):
    read = []
    original = own_loader.iterate_rows

    def counted(rows, columns, *arguments, **named):
        for table in original(rows, columns, *arguments, **named):
            read.append((len(table), "image" in columns))
            yield table

    monkeypatch.setattr(own_loader, "iterate_rows", counted)
    monkeypatch.setattr(own_loader, "MOST_ROWS", 100)
    monkeypatch.setattr(own_loader, "_MOST_COUNTED", 1000)
    count = 5100
    columns = {
        "image": [b"%d" % i for i in range(count)],
        "label": ["a", "b"] * (count // 2),
        "source": ["big"] * 5000 + ["small"] * 100,
        "group": [str(i) for i in range(count)],
    }
    roots = own("image", tmp_path / "shares", **columns)
    rows, note = own_loader._training(roots.rows("own-image"))
    assert [row["source"] for row in rows] == ["big"] * 98 + ["small"]
    assert "random sample of 99 " in note
    assert sum(size for size, pictures in read if pictures) == 99
    assert sum(size for size, pictures in read if not pictures) == 1100


def test_of_many_held_out_rows_a_bound_is_read_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr(own_loader, "MOST_ROWS", 5)
    split = ["test"] * 8 + ["valid"] * 5 + ["train"] * 4
    columns = {"image": [png(i) for i in range(17)], "split": split}
    columns["group"] = [str(i) for i in range(17)]
    labels = ["a", "b"] * 8 + ["a"]
    items = load_items("own-labels", own("image", tmp_path / "i", label=labels, **columns))
    assert [int((items.split == part).sum()) for part in ("test", "valid", "train")] == [5, 5, 4]
    assert items.note == "of the held-out rows (test) a random sample of 5 is used"
    captions = [[f"number {i}"] for i in range(17)]
    pairs = load_items("own-pair", own("pair", tmp_path / "p", captions=captions, **columns))
    assert (len(pairs.pictures), len(pairs.captions)) == (5, 5)
    assert pairs.note == items.note
    texts = [f"number {i}" for i in range(17)]
    words = load_items("own-text", own("text", tmp_path / "t", text=texts, split=split))
    assert words.texts == texts[:5]
    assert words.note == items.note


def test_own_text_is_the_held_out_documents(tmp_path):
    split = ["test", "train", "valid"]
    roots = own("text", tmp_path / "t", text=["one", "two", "three"], split=split)
    items = load_items("own-text", roots)
    assert isinstance(items, Texts)
    assert items.texts == ["one"]
    assert (items.split == "test").all()
    captions, split = [["a", "b"], ["a"], ["c"]], ["test", "test", "train"]
    roots = own("text", tmp_path / "c", captions=captions, split=split)
    assert load_items("own-text", roots).texts == ["a", "b"]
    assert np.issubdtype(items.labels.dtype, np.integer)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_held_out_is_a_share(share):
    from momo_platform.stages import UserError

    with pytest.raises(UserError, match=r"held-out .*--pair.held-out"):
        SourceOptions(held_out=share)


def test_an_index_is_of_own_pairs_or_own_pictures(tmp_path):
    from momo.config import ModelConfig
    from momo.export import save
    from momo.model import build_model
    from momo.tokenizer import train_wordpiece
    from momo_platform.serving.index import read_index
    from momo_platform.serving.stored_vectors import ExactVectors
    from momo_platform.stages import UserError
    from momo_platform.stages.stage import Context
    from pipelines import index, vectors

    root = own_folder(tmp_path / "own", 4)
    words = train_wordpiece(["picture number 0 1 2 3"] * 3, 60)
    config = ModelConfig(width=16, depth=1, heads=1, image_size=16, vocab_size=60, embed_dim=8)
    save(build_model(config, 0), tmp_path / "model" / "model", words.to_str())
    common = ["--model", str(tmp_path / "model" / "model"), "--preset", "smoke"]
    ours = index.index_stage(index.parse([*common, "--image.source", str(root)]))
    assert ours.inputs["rows"].name == "prepare-image"
    assert ours.config.splits == ()
    pairs = ["--pair.source", str(root / "pairs.jsonl")]
    assert index.index_stage(index.parse([*common, *pairs])).inputs["rows"].name == "prepare-pair"
    demo = index.index_stage(index.parse(common))
    assert demo.config.splits == ("test",)
    with pytest.raises(UserError, match="give one of them"):
        index.index_stage(index.parse([*common, *pairs, "--image.source", str(root)]))

    columns = {
        "image": [png(1), png(2), png(3)],
        "captions": [["words"], [], []],
        "label": ["", "cat", ""],
        "key": ["a.png", "b.png", "c.png"],
        "split": ["train", "test", "train"],
    }
    rows = prepared(tmp_path / "rows", columns)
    inputs = {"model": artifact(tmp_path / "model"), "rows": artifact(rows)}
    embed, made = ours.inputs["vectors"], tmp_path / "vectors"
    context = Context(made, tmp_path / "ck", "embed", "0", "a")
    assert vectors.run_embed(embed.config, inputs, context)["rows"] == 3
    context = Context(tmp_path / "out", tmp_path / "ck", "index", "0", "a")
    (tmp_path / "out").mkdir()
    inputs |= {"vectors": artifact(made)}
    assert index.run_index(ours.config, inputs, context) == {"entries": 3}
    pictures = [Image.open(io.BytesIO(png(number))) for number in (2, 1, 3)]  # held-out ones first
    expected = momo.load(tmp_path / "model" / "model", "cpu").embed(images=pictures)
    found = read_index(tmp_path / "out" / "index").vectors
    assert isinstance(found, ExactVectors)
    assert np.abs(found.vectors - expected).max() < 1e-6
    entries = (tmp_path / "out" / "index").rglob("*.json*")
    text = "".join(file.read_text() for file in entries)
    for caption in ("words", "cat", "c.png"):
        assert f'"{caption}"' in text
