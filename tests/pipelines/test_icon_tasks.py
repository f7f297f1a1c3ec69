"""The icons' tasks, on hand-made files of their corpora's layout."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from momo.transforms import decode, stack_pictures
from momo_platform.data.config import ImageConfig
from momo_platform.data.images import prepare_image
from momo_platform.stages import UserError
from momo_platform.stages.stage import all_stages
from pipelines import evaluate
from pipelines.bundled import BUNDLES
from pipelines.config import QualityOptions
from pipelines.evaluation.datasets import DATA_SETS, Roots
from pipelines.evaluation.items import Captioned, Labelled, NotAvailable, Texts
from pipelines.evaluation.loaders import icons, load_items
from pipelines.evaluation.tasks import TASKS, choose
from pipelines.graph import build_graph
from pipelines.presets import PRESETS

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24" viewBox="0 0 24 24">'
    '<circle cx="12" cy="12" r="{}" fill="black"/></svg>'
)


@dataclass
class Folder:
    path: Path


def svg(number):
    return SVG.format(1 + number / 10).encode()


def write(folder, name, rows):
    (folder / "tasks").mkdir(exist_ok=True)
    if name.endswith(".jsonl"):
        (folder / "tasks" / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), folder / "tasks" / name)
    return Roots(artifacts={icons.ROLE: Folder(folder)})


def pictures(count, **columns):
    return [
        {"image": svg(i), "caption": f"thing {i}", "group": f"thing {i}"}
        | {name: value(i) for name, value in columns.items()}
        for i in range(count)
    ]


def test_held_out_concepts_are_drawn_as_training_draws_them(tmp_path):
    items = load_items("icons-concepts", write(tmp_path, "retrieval.parquet", pictures(12)))
    assert isinstance(items, Captioned)
    assert sorted(items.captions) == sorted(items.image_groups)  # one picture, one name each
    assert items.image_groups.tolist() == items.text_groups.tolist()
    row = items.captions.index("thing 7")
    for size in (16, 64, 100):
        prepared = decode(prepare_image(svg(7), ImageConfig(size), svg=True))
        expected = stack_pictures([prepared], size)
        assert np.array_equal(items.pictures.pixels([row], size), expected)
    assert items.pictures.open(items.pictures.items[row]).size == (64, 64)


def test_of_a_concept_one_picture_whatever_the_order(tmp_path):
    rows = pictures(12) + [row | {"image": svg(90)} for row in pictures(12)]
    first = load_items("icons-concepts", write(tmp_path, "retrieval.parquet", rows))
    again = load_items("icons-concepts", write(tmp_path, "retrieval.parquet", rows[::-1]))
    assert isinstance(first, Captioned)
    assert isinstance(again, Captioned)
    assert len(set(first.captions)) == len(first.pictures) == 12
    assert first.captions == again.captions
    assert first.pictures.items == again.pictures.items
    assert 1 < len(set(first.pictures.items)) < 13


def test_unseen_styles_are_of_concepts_that_were_seen_or_were_not(tmp_path):
    rows = pictures(9, seen=lambda i: i < 3, style=lambda i: "emoji")
    rows = [row | {"captions": [row.pop("caption"), "another name"]} for row in rows]
    roots = write(tmp_path, "unseen_styles.parquet", rows)
    seen, unseen = (load_items(f"icons-unseen-{n}", roots) for n in ("style", "both"))
    assert sorted(seen.captions) == [f"thing {i}" for i in range(3)]
    assert sorted(unseen.captions) == [f"thing {i}" for i in range(3, 9)]
    roots = write(tmp_path, "unseen_styles.parquet", rows[:3])
    assert isinstance(load_items("icons-unseen-both", roots), NotAvailable)


def test_naming_is_among_the_names_of_all_pictures(tmp_path):
    items = load_items("icons-named", write(tmp_path, "named.parquet", pictures(6)))
    assert isinstance(items, Labelled)
    assert items.templates == ("{}",)
    assert set(items.split) == {"test"}
    for label, name in zip(items.labels, items.class_names, strict=True):
        assert items.pictures.items[label] == svg(int(name.split()[1]))


def test_styles_are_classes_and_concepts_groups(tmp_path):
    parts = ("train", "train", "valid", "test")
    rows = pictures(20, label=lambda i: ("line", "solid")[i > 6], split=lambda i: parts[i % 4])
    items = load_items("icons-styles", write(tmp_path, "styles.parquet", rows))
    assert isinstance(items, Labelled)
    assert items.class_names == ("line", "solid")
    assert items.labels.tolist() == [int(i > 6) for i in range(20)]
    assert items.split.tolist() == [row["split"] for row in rows]
    assert items.groups is not None
    assert items.groups.tolist() == [row["group"] for row in rows]


def test_glosses_are_texts_of_wordnets_noun_classes(tmp_path):
    rows = [{"text": f"gloss {i}", "label": i % 26, "split": "test"} for i in range(40)]
    items = load_items("icons-glosses", write(tmp_path, "glosses.jsonl", rows))
    assert isinstance(items, Texts)
    assert items.texts[27] == "gloss 27"
    assert (items.classes, items.class_names[items.labels[28]]) == (26, "animal")


def test_what_is_amiss_is_named_with_its_remedy(tmp_path):
    with pytest.raises(UserError, match=r"named.parquet is not there; .*--rerun corpora-icons"):
        load_items("icons-named", Roots(artifacts={icons.ROLE: Folder(tmp_path)}))
    roots = write(tmp_path, "styles.parquet", pictures(3))
    with pytest.raises(UserError, match=r"styles.parquet: no column label, split; .*--rerun"):
        load_items("icons-styles", roots)
    (tmp_path / "tasks" / "styles.parquet").write_bytes(b"not Parquet")
    with pytest.raises(UserError, match=r"styles.parquet: .*--rerun corpora-icons"):
        load_items("icons-styles", roots)
    roots = write(tmp_path, "retrieval.parquet", [row | {"image": b"<svg"} for row in pictures(1)])
    with pytest.raises(UserError, match=r"retrieval.parquet: a picture is no readable SVG"):
        load_items("icons-concepts", roots).pictures.pixels([0], 16)


def test_every_task_of_the_bundle_reads_what_the_bundle_has():
    kinds = ("image", "text", "pair")
    tasks = choose(["auto"], (), dict.fromkeys(kinds, "icons"))
    own = {task.name for task in TASKS.values() if task.suite == "icons"}
    shared = {"demo/mnist", "demo/easy_vqa", "demo/movie_sentiment"}
    assert {task.name for task in tasks} == own | shared
    assert all(task.baseline for task in tasks)  # so that each has the untrained model beside it
    for task in tasks:
        assert set(task.data_set.inputs) <= {BUNDLES["icons"].stage, "corpora"}
    assert {t.name for t in choose(["auto"], (), {"image": "icons"})} == {
        *("icons/style", "icons/style_knn", "demo/mnist")
    }
    assert not own & {task.name for task in choose(["auto"])}  # the demo's


def test_names_alone_describe_the_classes(tmp_path):
    from pipelines.evaluation import features
    from pipelines.evaluation.configs import FeaturesConfig

    items = load_items("icons-named", write(tmp_path, "named.parquet", pictures(4)))

    class Encoder:
        seen = frozenset(("image", "aligned"))
        image_size = 16

        def image_features(self, pixels):
            return pixels.reshape(len(pixels), -1).astype(np.float32)

        embed_pixels = image_features

        def embed_texts(self, texts):
            told.append(texts)
            return np.ones((len(texts), 2), dtype=np.float32)

    class Context:
        def progress(self, record):
            pass

    told = []
    config = FeaturesConfig(None, embeddings=True)
    arrays = features.arrays_of(Encoder(), items, config, Context())
    assert told == [list(items.class_names)]
    assert arrays["class_embeddings"].shape == (4, 2)
    features.arrays_of(Encoder(), replace(items, templates=()), config, Context())
    assert len(told[1]) > len(told[0])
    assert DATA_SETS["icons-named"].kind == "pair"


def test_the_preset_is_measured_on_them_and_so_is_its_untrained_model():
    graph = build_graph(PRESETS["icons"]())
    report = graph["report"].config
    last = report.evaluations["stage3-pair"]
    assert {name for name in last if name.startswith("icons/")} == {
        name for name in TASKS if name.startswith("icons/")
    }
    assert set(report.untrained) == set(last)
    assert not report.missing["stage3-pair"]
    for name in ("icons/matching", "icons/masked_words", "icons/style_knn"):
        assert name not in report.evaluations["stage1-image"]
    for name in ("icons/naming", "demo/mnist", "demo/easy_vqa", "demo/movie_sentiment"):
        stages = all_stages([graph[last[name]]])
        assert "corpora-icons" in {stage.name for stage in stages}
        assert "corpora" not in {stage.name for stage in stages}


def test_another_budget_has_other_pictures_to_evaluate_on(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    chosen = {"model": (str(tmp_path),), "preset": "icons"}
    for budget in ("hour", "evening"):
        graph = evaluate.build_graph(evaluate.EvaluateOptions(**chosen, budget=budget))
        assert graph["corpora-icons"].config == PRESETS["icons"](budget=budget).icons
        (nodes,) = graph["comparison"].config.evaluations.values()
        assert "icons/unseen_both_text_to_image" in nodes
    assert "untrained" not in graph  # of another library's model there is none


def test_what_looks_like_their_pictures_can_be_left_out_of_training():
    config = replace(PRESETS["icons"](), quality=QualityOptions(decontaminate=True))
    graph = build_graph(config)
    compared = {place.data for place in graph["tested-pictures"].config.places}
    assert {f"icons-{n}" for n in ("concepts", "named", "unseen-style", "unseen-both")} <= compared
    assert not {"icons-glosses", "demo-reviews"} & compared
