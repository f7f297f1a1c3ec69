"""What trivial methods reach on the demo's tasks: a stage of the graph. Imports torch inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from momo.config import ModelConfig
from momo_platform.stages import Artifact, Context
from pipelines.config import EvaluationConfig


@dataclass(frozen=True)
class BaselinesConfig:
    """The random-feature baseline is an untrained model of the same size."""

    seed: int
    limit: int
    model: ModelConfig

    @classmethod
    def of(cls, evaluation: EvaluationConfig, model: ModelConfig) -> BaselinesConfig:
        return cls(evaluation.seed, evaluation.limit, model)


def run_baselines(
    config: BaselinesConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: inputs corpora, images, pairs → {"tasks": {name: {"baseline", "chance", "details"}}}:
    the trivial method's value, chance, and for probes also an untrained model's features."""
    import torch

    torch.set_num_threads(1)
    found = {}
    for name, baseline, chance, details in _all(config, inputs):
        context.progress({"message": name})
        found[name] = {"baseline": baseline, "chance": chance, "details": details}
    return {"tasks": found}


def _all(
    config: BaselinesConfig, inputs: Mapping[str, Artifact]
) -> Iterator[tuple[str, float, float, dict[str, float]]]:
    import numpy as np

    from momo.evaluation.baselines import majority, raw_pixels, tfidf_accuracy
    from momo.evaluation.encoder import MoMoEncoder
    from momo.evaluation.knn import knn
    from momo.evaluation.probe import linear_probe
    from momo.evaluation.retrieval import chance_recall
    from momo.model import build_model
    from pipelines.tasks.items import Captioned, Labelled, Texts, evenly, limited
    from pipelines.tasks.loaders import load_items

    roots = {role: artifact.path for role, artifact in inputs.items()}
    size = config.model.image_size
    untrained = MoMoEncoder(build_model(config.model, seed=0), device="cpu")

    for name, data in (("demo/mnist", "demo-mnist"), ("demo/emoji_category", "demo-emoji")):
        items = load_items(data, roots)
        if not isinstance(items, Labelled):
            continue
        rows = evenly(items.split, config.limit)
        labels, split = items.labels[rows], items.split[rows]
        pixels = items.pictures.pixels(rows, size)
        if data == "demo-mnist":
            raw = raw_pixels(np.asarray(items.pictures.items)[rows])
        else:
            raw = raw_pixels(pixels[:, :, ::2, ::2])
        parts = {
            kind: tuple((x[split == p], labels[split == p]) for p in ("train", "valid", "test"))
            for kind, x in (("raw", raw), ("random", untrained.image_features(pixels)))
        }
        train, _, test = parts["raw"]
        chance = majority(train[1].tolist(), test[1].tolist())
        random = linear_probe(*parts["random"]).score
        yield name, linear_probe(*parts["raw"]).score, chance, {"random_features": random}
        if data == "demo-mnist":
            yield "demo/mnist_knn", knn(*parts["raw"]).accuracy, chance, {}
        else:
            yield "demo/category_zero_shot", chance, 1 / len(items.class_names), {}

    reviews = load_items("demo-reviews", roots)
    assert isinstance(reviews, Texts)
    kept = np.zeros(len(reviews.texts), dtype=bool)
    kept[evenly(reviews.split, config.limit)] = True
    fit, test = kept & (reviews.split != "test"), kept & (reviews.split == "test")
    texts = np.array(reviews.texts, dtype=object)
    value = tfidf_accuracy(
        (texts[fit].tolist(), reviews.labels[fit]), (texts[test].tolist(), reviews.labels[test])
    )
    chance = majority(reviews.labels[fit].tolist(), reviews.labels[test].tolist())
    yield "demo/movie_sentiment", value, chance, {}

    pairs = load_items("demo-pairs", roots)
    if isinstance(pairs, Captioned):
        pairs = limited(pairs, config.limit)
        one = chance_recall(pairs.image_groups, pairs.text_groups, 10)
        other = chance_recall(pairs.text_groups, pairs.image_groups, 10)
        for ending in ("", "_matching"):
            yield f"demo/image_to_text{ending}", one, one, {}
            yield f"demo/text_to_image{ending}", other, other, {}
        yield "demo/matching", 0.5, 0.5, {}

    questions = load_items("demo-questions", roots)
    assert isinstance(questions, Texts)
    rows = evenly(questions.split, config.limit)
    answers = questions.labels[rows][questions.split[rows] == "test"]
    assert questions.answers is None
    yield "demo/easy_vqa", _share_of_commonest(answers), 1 / questions.classes, {}


def _share_of_commonest(labels: Any) -> float:
    """Of easy-VQA's answers, "yes" is the commonest."""
    import numpy as np

    return float(np.bincount(labels[labels >= 0]).max() / len(labels))
