"""What trivial methods and the untrained model reach, on data of every kind."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from extending.evaluating import made
from test_given_tasks import pictures, table

from momo.config import ModelConfig
from momo.evaluation.momo_encoder import MoMoEncoder
from momo.export import save
from momo.model import build_model
from momo.tokenizer import train_wordpiece
from momo_platform.stages import Context
from pipelines.config import EvaluationConfig
from pipelines.evaluation import trivial
from pipelines.evaluation.baselines import baselines_stage, run_baselines
from pipelines.evaluation.configs import FeaturesConfig, ProtocolConfig
from pipelines.evaluation.datasets import locate
from pipelines.evaluation.features import arrays_of, load_place
from pipelines.evaluation.given import given_tasks
from pipelines.evaluation.graph import Suite, build_suite
from pipelines.evaluation.items import Labelled, Pictures, Texts
from pipelines.evaluation.protocols import protocol_named
from pipelines.evaluation.untrained import UntrainedConfig, run_untrained, untrained_suite
from pipelines.given_model import given_model

WORDS = "dark bright number a picture of yes no is it good bad film " + " ".join("0123456789")
MODEL = ModelConfig(width=16, depth=1, heads=2, image_size=16, vocab_size=80, embed_dim=8)


@dataclass
class Made:
    path: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("baselines")
    folder = pictures(root / "p", 20)
    (root / "words").mkdir()
    words = train_wordpiece([WORDS] * 3, 80)
    words.save(str(root / "words" / "tokenizer.json"))
    texts = [{"text": f"{('good', 'bad')[i % 2]} film {i}", "label": i % 2} for i in range(60)]
    pairs = [{"image": f"dark/{i}.png", "caption": f"number {i}"} for i in range(12)]
    questions = [
        {"image": f"{c}/{i}.png", "question": "is it dark", "answer": a}
        for c, a in (("dark", "yes"), ("bright", "no"))
        for i in range(20 if c == "dark" else 10)
    ]
    classes = pictures(root / "classes", 20)
    entries = [
        f"probed={classes}",
        f"zero={classes}:zero-shot",
        f"tuned={classes}:fine-tune",
        f"texts={table(root / 't', 'texts.csv', texts)}:probe",
        f"pairs={table(folder, 'pairs.csv', pairs)}",
        f"questions={table(folder, 'vqa.jsonl', questions)}",
    ]
    return root, {task.name: task for task in given_tasks(entries)}


def found(place):
    root, tasks = place
    stage = baselines_stage(tuple(tasks.values()), EvaluationConfig(), {}, {})
    assert stage is not None
    context = Context(root, root, "baselines", "0", "a")
    inputs = {"tokenizer": Made(root / "words")}
    return run_baselines(stage.config, inputs, context)["tasks"]


def test_every_kind_of_data_has_its_baseline(place):
    rows = found(place)
    assert rows["probed"]["baseline"] == 1.0  # raw pixels tell dark from bright
    assert rows["tuned"]["baseline"] == 1.0
    assert rows["texts"]["baseline"] == 1.0  # TF-IDF
    assert rows["pairs"]["baseline"] is None  # chance, which the result itself says
    assert rows["questions"]["baseline"] == rows["questions"]["details"]["majority"]


def test_the_untrained_model_is_measured_as_the_trained_one_is(place, tmp_path):
    root, tasks = place
    save(build_model(MODEL, 3), tmp_path / "model", (root / "words/tokenizer.json").read_text())
    trained = given_model(f"ours={tmp_path / 'model'}")[1]
    evaluation, first = EvaluationConfig(), UntrainedConfig(MODEL, 3)
    chosen, words = list(tasks.values()), {"model": trained}
    ours = build_suite(trained, "ours", chosen, evaluation, {})
    untrained = untrained_suite(chosen, evaluation, {}, first, words)
    assert set(untrained.nodes) == set(ours.nodes) == set(tasks)  # fine-tunings, too
    known = {}
    for name in ("tuned", "questions", "pairs", "texts"):
        ended = untrained.nodes[name]
        assert ended.config == ours.nodes[name].config
        values = [made(s, tmp_path / "made", known).metrics for s in (ended, ours.nodes[name])]
        assert values[0]["values"] == values[1]["values"], name  # ours was not trained either
    nothing = Suite({}, {})
    assert untrained_suite(chosen, evaluation, {}, None, {}) == nothing
    off = replace(evaluation, untrained=False)
    assert untrained_suite(chosen, off, {}, first, words) == nothing
    bare = [replace(task, baseline="") for task in chosen]
    assert untrained_suite(bare, evaluation, {}, first, words) == nothing


def test_the_untrained_model_cuts_captions_as_training_does(place, tmp_path):
    root, _ = place
    inputs = {"tokenizer": Made(root / "words")}
    for length, folder in ((5, tmp_path / "a"), (0, tmp_path / "b")):
        folder.mkdir()
        context = Context(folder, folder, "untrained", "0", "a")
        run_untrained(UntrainedConfig(MODEL, 0, length), inputs, context)
    config = json.loads((tmp_path / "a/model/config.json").read_text())
    assert config["text_length"] == 5
    assert "text_length" not in json.loads((tmp_path / "b/model/config.json").read_text())
    folder = tmp_path / "c"
    folder.mkdir()
    given = {"model": Made(tmp_path / "a")}
    context = Context(folder, folder, "untrained", "0", "a")
    run_untrained(UntrainedConfig(MODEL, 0), given, context)
    assert json.loads((folder / "model/config.json").read_text()) == config


def test_texts_are_probed_as_pictures_are(place):
    from tokenizers import Tokenizer

    root, tasks = place
    task = tasks["texts"]
    data = locate(task.data_set, "")
    items = load_place(data, {})
    words = Tokenizer.from_file(str(root / "words" / "tokenizer.json"))
    encoder = MoMoEncoder(build_model(MODEL, 0), words, device="cpu")
    context = Context(root, root, "features", "0", "a")
    arrays = arrays_of(encoder, items, FeaturesConfig(data), context)
    assert arrays["features"].shape == (60, 16)
    config = ProtocolConfig("linear_probe", "accuracy", data, 0)
    result = protocol_named("linear_probe").measure(config, arrays)
    assert (result["n"], result["values"]["accuracy"]["chance"]) == (12, 0.5)


def test_of_many_training_rows_some_are_used_and_every_test_row(monkeypatch):
    monkeypatch.setattr(trivial, "MOST_TRAINED_ON", 30)
    split = np.array(["train"] * 100 + ["valid"] * 10 + ["test"] * 20, dtype=object)
    labels = np.arange(130) % 2
    labelled = trivial._shortened(Labelled(Pictures(list(range(130)), str), labels, split))
    texts = [str(i) for i in range(130)]
    short = trivial._shortened(Texts(texts, labels, split, 2, groups=np.arange(130)))
    for items in (labelled, short):
        counts = [(items.split == part).sum() for part in ("train", "valid", "test")]
        assert counts[0] <= 30
        assert counts[1:] == [10, 20]
    assert [int(t) for t in short.texts] == short.groups.tolist() == list(labelled.pictures.items)
