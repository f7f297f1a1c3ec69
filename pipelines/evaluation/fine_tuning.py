"""Fine-tuning on texts, pictures or questions about pictures. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from momo.evaluation.encoder import Encoder
from momo.evaluation.finetune import Examples, FineTuneConfig, FineTuned, Pixels, fine_tune
from pipelines.evaluation.configs import ProtocolConfig, Tuning
from pipelines.evaluation.items import Labelled, LazyPixels, Pictures, Texts, evenly
from pipelines.evaluation.protocol import Subject
from pipelines.evaluation.results import Result, result_of, scored

CLASSIFIER = "classifier"
_PARTS = ("train", "valid", "test")


def fine_tuned(
    subject: Subject, items: Texts | Labelled, chance: Callable[[str, int], float | None]
) -> Result:
    """Train on the training part, choose the epoch on the validation part, score the test part.
    `chance`: what a guess reaches by a metric among so many classes."""
    config, encoder = subject.config, subject.encoder
    assert config.tuning is not None
    tuning = config.tuning
    rows_of = _rows(items.split, config.limit, tuning)
    if isinstance(items, Labelled):
        parts = _pictures(items, encoder, rows_of, config.threads)
        classes, answers = int(items.labels.max()) + 1, None
    else:
        parts = _texts(items, encoder, rows_of, config.threads)
        classes, answers = items.classes, items.answers if items.references is not None else None
    train, valid, test = parts
    settings = FineTuneConfig(
        epochs=tuning.epochs,
        batch_size=tuning.batch_size,
        learning_rate=tuning.learning_rate,
        dropout=tuning.dropout,
        layer_decay=tuning.layer_decay,
        objective="regression" if classes == 1 else "classification",
        metric=config.metric,
        seed=config.seed,
        precision=config.precision,
    )
    found = fine_tune(
        encoder.trunk(),
        train,
        valid,
        test,
        classes,
        settings,
        lambda message: subject.context.progress({"message": message}),
        answers=answers,
    )
    groups = items.groups[rows_of["test"]] if items.groups is not None else None
    value = scored(config, found.predictions, test.truth, groups, chance(config.metric, classes))
    details: dict[str, Any] = {
        "validation": found.validation_score,
        "best_epoch": found.best_epoch,
        "training_examples": len(train),
        "learning_rate": tuning.learning_rate,
    }
    if config.save_classifier:
        details["classifier"] = _save(
            subject.context.output / CLASSIFIER, found.classifier, encoder, items, config, value
        )
    return result_of(config, value, len(test), details)


def _rows(split: np.ndarray, limit: int, tuning: Tuning) -> dict[str, np.ndarray]:
    allowed = np.zeros(len(split), dtype=bool)
    allowed[evenly(split, limit)] = True
    rows_of = {part: np.flatnonzero(allowed & (split == part)) for part in _PARTS}
    if tuning.limit and len(rows_of["train"]) > tuning.limit:
        rows_of["train"] = rows_of["train"][:: -(-len(rows_of["train"]) // tuning.limit)]
    return rows_of


def _used(
    pictures: Pictures, picture: np.ndarray, rows_of: dict[str, np.ndarray], size: int, threads: int
) -> tuple[Pixels, dict[str, np.ndarray]]:
    """The pictures that the rows show, and the place among them of each row's."""
    used, place = np.unique(picture[np.concatenate(list(rows_of.values()))], return_inverse=True)
    ends = np.cumsum([len(rows) for rows in rows_of.values()])[:-1]
    places = dict(zip(rows_of, np.split(place.reshape(-1), ends), strict=True))
    return LazyPixels(pictures.chosen(used), size, threads), places


def _pictures(
    items: Labelled, encoder: Encoder, rows_of: dict[str, np.ndarray], threads: int
) -> list[Examples]:
    everything = np.arange(len(items.pictures))
    pixels, places = _used(items.pictures, everything, rows_of, encoder.image_size, threads)
    return [Examples(None, items.labels[r], pixels, places[p]) for p, r in rows_of.items()]


def _texts(
    items: Texts, encoder: Encoder, rows_of: dict[str, np.ndarray], threads: int
) -> list[Examples]:
    ids = encoder.tokenize(items.texts, items.second, items.length)
    pixels, places = None, dict[str, np.ndarray]()
    if items.pictures is not None and items.picture is not None:
        pixels, places = _used(items.pictures, items.picture, rows_of, encoder.image_size, threads)
    return [
        Examples(
            ids[rows],
            items.labels[rows],
            pixels,
            places.get(part),
            [items.references[i] for i in rows] if items.references is not None else None,
        )
        for part, rows in rows_of.items()
    ]


def class_names(items: Texts | Labelled, classes: int) -> list[str]:
    """A name for each class; its number where it has none."""
    names: Sequence[str] = items.class_names or (
        items.answers if isinstance(items, Texts) and items.answers else ()
    )
    return list(names) if len(names) == classes else [str(i) for i in range(classes)]


def _save(
    folder: Path,
    classifier: FineTuned,
    encoder: Encoder,
    items: Texts | Labelled,
    config: ProtocolConfig,
    value: dict[str, float | None],
) -> str:
    """The folder's name, or why there is none."""
    if not encoder.savable:
        return "not saved: only a fine-tuned MoMo can be"
    classes = classifier.head.out_features
    if classes == 1:
        return "not saved: it gives a number, no classes"
    from momo.classifier import save_classifier

    inputs = "image"
    length = None
    if isinstance(items, Texts):
        inputs = "text" if items.pictures is None else "pair"
        length = items.length
    save_classifier(
        folder,
        classifier,
        classes=class_names(items, classes),
        inputs=inputs,
        tokenizer_json=encoder.tokenizer_json,
        text_length=length,
        extra={"task": config.place.data, "metric": config.metric, "score": value["value"]},
    )
    return CLASSIFIER
