"""What trivial methods and the untrained model reach, on data of every kind."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from test_given_tasks import pictures, table

from momo.config import ModelConfig
from momo.evaluation.momo_encoder import MoMoEncoder
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
from pipelines.evaluation.items import Labelled, Pictures, Texts
from pipelines.evaluation.protocols import protocol_named

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


def found(place, model=MODEL, words=True):
    root, tasks = place
    stage = baselines_stage(tuple(tasks.values()), EvaluationConfig(), {}, model, {})
    assert stage is not None
    context = Context(root, root, "baselines", "0", "a")
    inputs = {"tokenizer": Made(root / "words")} if words else {}
    return run_baselines(stage.config, inputs, context)["tasks"]


def test_every_kind_of_data_has_its_baseline(place):
    rows = found(place)
    assert rows["probed"]["baseline"] == 1.0  # raw pixels tell dark from bright
    assert rows["tuned"]["baseline"] == 1.0
    assert rows["texts"]["baseline"] == 1.0  # TF-IDF
    assert rows["pairs"]["baseline"] is None  # chance, which the result itself says
    assert rows["questions"]["baseline"] == rows["questions"]["details"]["majority"]
    untrained = {name: row["untrained"] for name, row in rows.items()}
    assert untrained["questions"] is None  # fine-tunings are too dear
    assert untrained["tuned"] is None
    for name in ("probed", "zero", "texts", "pairs"):
        assert 0.0 <= untrained[name] <= 1.0, name


def test_without_words_only_pictures_have_an_untrained_model(place):
    rows = found(place, words=False)
    assert rows["probed"]["untrained"] is not None
    assert rows["zero"]["untrained"] is rows["pairs"]["untrained"] is None
    assert all(row["untrained"] is None for row in found(place, model=None).values())


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
