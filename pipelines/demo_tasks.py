"""The demo's evaluation tasks: their data and how each is run. Imports torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from momo.config import ModelConfig
from momo.evaluation.baselines import majority, raw_pixels, tfidf_accuracy
from momo.evaluation.bootstrap import interval_of_mean
from momo.evaluation.diagnostics import alignment, effective_rank, modality_gap, uniformity
from momo.evaluation.encoder import MoMoEncoder, MoMoTrunk
from momo.evaluation.finetune import Examples, FineTuneConfig, fine_tune
from momo.evaluation.probe import linear_probe
from momo.evaluation.retrieval import chance_recall, zero_shot_retrieval
from momo.export import Embedder, open_picture
from momo.model import MoMo, build_model
from momo.tokenizer import encode_texts
from momo.transforms import decode, stack_pictures
from momo_platform.data.sink import DATA
from pipelines.config import EvaluationConfig

_SENTIMENT_LENGTH, _QUESTION_LENGTH = 32, 16
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Pictures:
    """`pixels` uint8 [N, 3, S, S], `labels` [N], `split` [N] of train, valid, test."""

    pixels: np.ndarray
    labels: np.ndarray
    split: np.ndarray

    def part(self, features: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        rows = self.split == name
        return features[rows], self.labels[rows]


@dataclass(frozen=True)
class HeldOutPairs:
    """Held-out pictures and the captions of their concepts, one caption a concept."""

    pixels: np.ndarray
    image_groups: np.ndarray
    captions: list[str]
    text_groups: np.ndarray


def mnist(folder: Path, size: int) -> Pictures:
    """4,000 digits to train on (500 of them for validation) and 1,000 to test, scaled to `size`."""
    data = np.load(folder / "mnist.npz")
    digits = [Image.fromarray(255 - p).convert("RGB") for p in data["pictures"]]
    count = len(digits)
    split = np.array(["train"] * count, dtype=object)
    split[int(count * 0.7) : int(count * 0.8)] = "valid"
    split[int(count * 0.8) :] = "test"
    return Pictures(stack_pictures(digits, size), data["labels"], split)


def labelled_pictures(folder: Path, size: int) -> Pictures | None:
    """Prepared pictures with a label; None unless all splits have some, of two classes."""
    columns = ["image", "label", "split"]
    labelled = [("label", "!=", "")]
    rows = pq.read_table(folder / DATA, columns=columns, filters=labelled).to_pylist()
    split = np.array([r["split"] for r in rows], dtype=object)
    train_labels = {r["label"] for r in rows if r["split"] == "train"}
    if {"train", "valid", "test"} - set(split) or len(train_labels) < 2:
        return None
    pixels = stack_pictures([decode(r["image"]) for r in rows], size)
    return Pictures(pixels, np.array([r["label"] for r in rows]), split)


def held_out_pairs(folder: Path, size: int, split: str = "test") -> HeldOutPairs | None:
    """Every held-out picture; each concept's caption is the first of its first row."""
    columns = ["image", "captions", "group", "split"]
    chosen = [("split", "==", split)]
    rows = pq.read_table(folder / DATA, columns=columns, filters=chosen).to_pylist()
    if not rows:
        return None
    captions: dict[str, str] = {}
    for row in rows:
        captions.setdefault(row["group"], row["captions"][0])
    return HeldOutPairs(
        stack_pictures([decode(r["image"]) for r in rows], size),
        np.array([r["group"] for r in rows]),
        list(captions.values()),
        np.array(list(captions)),
    )


def probe(model: MoMo, pictures: Pictures) -> tuple[float, dict[str, float]]:
    """Linear probe on the frozen encoder's features."""
    return _probe(MoMoEncoder(model).image_features(pictures.pixels), pictures)


def _probe(features: np.ndarray, pictures: Pictures) -> tuple[float, dict[str, float]]:
    train, valid, test = (pictures.part(features, n) for n in ("train", "valid", "test"))
    result = linear_probe(train, valid, test)
    details = {"validation": result.validation_score, "c": result.c}
    return result.score, details | _interval(result.predictions == test[1])


def _interval(scores: np.ndarray, groups: np.ndarray | None = None) -> dict[str, float]:
    """95 % bootstrap over the test part's examples, or over their groups."""
    low, high = interval_of_mean(scores, groups=groups)
    return {"low": low, "high": high}


def retrieval(embedder: Embedder, pairs: HeldOutPairs) -> dict[str, tuple[float, dict[str, float]]]:
    """R@10 by direction, with R@1/5/10 and what the vectors look like; concepts are resampled."""
    images = embedder.embed_pixels(pairs.pixels)
    texts = embedder.embed(texts=pairs.captions)
    result = zero_shot_retrieval(images, texts, pairs.image_groups, pairs.text_groups)
    row_of = {group: row for row, group in enumerate(pairs.text_groups)}
    own = np.array([row_of[group] for group in pairs.image_groups])
    details = result.recalls | {
        "alignment": alignment(images, texts[own]),
        "uniformity_images": uniformity(images),
        "uniformity_texts": uniformity(texts),
        "modality_gap": modality_gap(images, texts),
        "effective_rank_images": effective_rank(images),
    }
    found = {}
    for direction, ranks, groups in (
        ("image_to_text", result.image_ranks, pairs.image_groups),
        ("text_to_image", result.text_ranks, pairs.text_groups),
    ):
        interval = _interval((ranks >= 0) & (ranks < 10), groups)
        found[direction] = (result.recalls[f"{direction}_r@10"], details | interval)
    return found


def _reviews(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "reviews.jsonl").open(encoding="utf-8")]


def sentiment(
    embedder: Embedder, folder: Path, config: EvaluationConfig, tell: Tell
) -> tuple[float, dict[str, float]]:
    """Fine-tune on movie-review snippets."""
    rows = _reviews(folder)
    parts: list[Examples] = []
    for name in ("train", "valid", "test"):
        chosen = [r for r in rows if r["split"] == name]
        ids = encode_texts(embedder.tokenizer, [r["text"] for r in chosen], _SENTIMENT_LENGTH)
        parts.append(Examples(ids, np.array([r["label"] for r in chosen], dtype=np.int64)))
    train, valid, test = parts
    settings = FineTuneConfig(
        epochs=config.sentiment_epochs, learning_rate=1e-3, dropout=0.3, seed=config.seed
    )
    result = fine_tune(
        MoMoTrunk(embedder.model),
        train,
        valid,
        test,
        2,
        settings,
        lambda m: tell(f"sentiment, {m}"),
    )
    return result.score, {
        "validation": result.validation_score,
        "best_epoch": result.best_epoch,
        **_interval(result.predictions == test.labels),
    }


def _question_part(folder: Path, part: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"vqa-{part}.jsonl").open(encoding="utf-8")]


def questions(
    embedder: Embedder, folder: Path, config: EvaluationConfig, tell: Tell
) -> tuple[float, dict[str, float]]:
    """Fine-tune on easy-VQA; a tenth of the training pictures is the validation part."""
    size = embedder.model.config.image_size
    rows = {part: _question_part(folder, part) for part in ("train", "test")}
    answers = sorted({r["answer"] for r in rows["train"]})
    index = {answer: i for i, answer in enumerate(answers)}

    def examples(chosen: list[dict[str, Any]], pixels: np.ndarray) -> Examples:
        texts = [r["question"] for r in chosen]
        ids = encode_texts(embedder.tokenizer, texts, _QUESTION_LENGTH)
        labels = np.array([index.get(r["answer"], -1) for r in chosen], dtype=np.int64)
        picture = np.array([r["image"] for r in chosen], dtype=np.int64)
        return Examples(ids, labels, pixels, picture)

    pixels = {}
    for part in ("train", "test"):
        files = sorted((folder / f"vqa-{part}").glob("*.png"), key=lambda p: int(p.stem))
        pixels[part] = stack_pictures([open_picture(f) for f in files], size)
    first_valid = int(len(pixels["train"]) * 0.9)
    chosen = [r for r in rows["train"] if r["image"] < first_valid]
    if config.question_limit:
        chosen = chosen[:: -(-len(chosen) // config.question_limit)]
    train = examples(chosen, pixels["train"])
    valid = examples([r for r in rows["train"] if r["image"] >= first_valid], pixels["train"])
    test = examples(rows["test"], pixels["test"])
    settings = FineTuneConfig(
        epochs=config.question_epochs, batch_size=128, learning_rate=1e-3, seed=config.seed
    )
    result = fine_tune(
        MoMoTrunk(embedder.model),
        train,
        valid,
        test,
        len(answers),
        settings,
        lambda m: tell(f"VQA, {m}"),
    )
    return result.score, {
        "validation": result.validation_score,
        "best_epoch": result.best_epoch,
        **_interval(result.predictions == test.labels),
    }


def baselines(
    model: ModelConfig, folder: Path, images: Path, pairs: Path, tell: Tell
) -> Mapping[str, Any]:
    """The trivial method's value, chance, and for probes also an untrained model's features."""
    untrained = build_model(model, seed=0)
    results: dict[str, Any] = {}

    def add(name: str, baseline: float, chance: float, **details: float) -> None:
        results[name] = {"baseline": baseline, "chance": chance, "details": details}

    for name, pictures, raw in (
        ("mnist", mnist(folder, model.image_size), np.load(folder / "mnist.npz")["pictures"]),
        ("emoji_category", labelled_pictures(images, model.image_size), None),
    ):
        if pictures is None:
            continue
        tell(f"raw pixels and random features on {name}")
        small = pictures.pixels[:, :, ::2, ::2] if raw is None else raw
        value, _ = _probe(raw_pixels(small), pictures)
        random, _ = _probe(MoMoEncoder(untrained).image_features(pictures.pixels), pictures)
        parts = [pictures.part(pictures.labels, p)[1].tolist() for p in ("train", "test")]
        add(name, value, majority(*parts), random_features=random)
    rows = _reviews(folder)
    fit = [r for r in rows if r["split"] != "test"]
    test = [r for r in rows if r["split"] == "test"]
    labels = [np.array([r["label"] for r in part]) for part in (fit, test)]
    value = tfidf_accuracy(
        ([r["text"] for r in fit], labels[0]), ([r["text"] for r in test], labels[1])
    )
    add("movie_sentiment", value, majority(labels[0].tolist(), labels[1].tolist()))
    held_out = held_out_pairs(pairs, model.image_size)
    if held_out is not None:
        one = chance_recall(held_out.image_groups, held_out.text_groups, 10)
        other = chance_recall(held_out.text_groups, held_out.image_groups, 10)
        add("retrieval_image_to_text", one, one)
        add("retrieval_text_to_image", other, other)
    answers = [r["answer"] for r in _question_part(folder, "test")]
    yes = sum(a == "yes" for a in answers) / len(answers)
    add("easy_vqa", yes, 1 / len(set(answers)))
    return results
