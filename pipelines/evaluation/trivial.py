"""The trivial methods on the data of a task. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from momo.evaluation.baselines import majority, raw_pixels, tfidf_accuracy
from momo.evaluation.metrics import Metric, metric_named
from momo_platform.stages import Artifact, UserError
from pipelines.artifacts import TokenizerFile
from pipelines.evaluation.configs import BaselinesConfig, MeasuredTask
from pipelines.evaluation.features import load_place
from pipelines.evaluation.items import (
    Items,
    Labelled,
    NotAvailable,
    Texts,
    Usable,
    evenly,
)
from pipelines.evaluation.protocol import Baseline, Part, Predicted
from pipelines.evaluation.protocols import protocol_named

MOST_TRAINED_ON = 20_000
"""Training examples of a data set that trivial methods see at most, evenly spread; the test part is
whole."""
_LEAST, _SIDE = 5, 32  # special tokens of the vocabulary; pixels of a raw picture's side
_PARTS = ("train", "valid", "test")


class Baselines:
    """The items are loaded once for all tasks on a data set."""

    def __init__(
        self,
        config: BaselinesConfig,
        data: Mapping[str, Artifact],
        words: TokenizerFile | None,
    ) -> None:
        self.config, self.data, self.words = config, data, words
        self._items: tuple[str, Items] | None = None

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        if self.words is None or not self.words.path.is_file():
            return None
        return self.words.load()

    def items(self, task: MeasuredTask) -> Items:
        if self._items is None or self._items[0] != task.place.data:
            try:
                found = load_place(task.place, self.data)
            except UserError as error:  # the task's own stage says so too
                found = NotAvailable(str(error))
            self._items = task.place.data, _shortened(found)
        return self._items[1]

    def of(self, task: MeasuredTask) -> dict[str, Any] | None:
        """{"baseline", "details"}, or None where there is nothing to measure."""
        items, protocol = self.items(task), protocol_named(task.protocol)
        if isinstance(items, NotAvailable) or not _has_test(items):
            return None
        data = Trivial(items, task.metric, self.config.limit, self.tokenizer)
        baseline, details = protocol.baseline(data)
        return {"baseline": baseline, "details": details}


@dataclass(frozen=True)
class Trivial:
    """The data of one task, for the method of its protocol that needs no model."""

    items: Usable
    metric: str
    limit: int
    tokenizer: Tokenizer | None

    def of_labels(self, fit: Callable[[Part, Part, Part, Metric], Predicted] | None) -> Baseline:
        """The accuracy of TF-IDF on texts, of `fit` on raw pixels; of the commonest label where
        there is nothing to learn from. That is the detail `majority`, too."""
        items = self.items
        assert isinstance(items, Labelled | Texts)
        rows = evenly(items.split, self.limit)
        labels, split = items.labels[rows], items.split[rows]
        parts = {part: np.flatnonzero(split == part) for part in _PARTS}
        fitted = np.concatenate([parts["train"], parts["valid"]])
        test = labels[parts["test"]]
        common = majority(labels[fitted].tolist(), test.tolist()) if len(fitted) else None
        details = {} if common is None else {"majority": common}
        seen = np.unique(labels[parts["train"]])
        if any(not len(rows) for rows in parts.values()) or len(seen) < 2:
            return common, details
        if isinstance(items, Texts):
            if items.pictures is not None:
                return common, details
            texts = np.array(items.texts, dtype=object)[rows]
            known = texts[fitted].tolist(), labels[fitted]
            try:
                return tfidf_accuracy(known, (texts[parts["test"]].tolist(), test)), details
            except ValueError:  # no text has a word in letters: the majority is what is left
                return common, details
        if fit is None:
            return common, details
        pixels = items.pictures.pixels(rows, _SIDE)
        grey = not (pixels != pixels[:, :1]).any()
        raw = raw_pixels(pixels[:, :1] if grey else pixels)
        train, valid, held_out = ((raw[r], labels[r]) for r in parts.values())
        metric = metric_named(self.metric)
        return metric(fit(train, valid, held_out, metric).predictions, test), details

    def commonest_word(self) -> float | None:
        """The share that the commonest word has of those that are hidden, on average."""
        items = self.items
        assert isinstance(items, Texts)
        if self.tokenizer is None:
            return None
        texts = [t for t, part in zip(items.texts, items.split, strict=True) if part == "test"]
        encoded = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        ids = np.concatenate([np.array(e.ids[: items.length], dtype=np.int64) for e in encoded])
        counts = np.bincount(ids[ids >= _LEAST]) if len(ids) else np.zeros(0)
        return float(counts.max() / counts.sum()) if counts.sum() else None


def _has_test(items: Usable) -> bool:
    if isinstance(items, Labelled | Texts):
        return bool((items.split == "test").any())
    return True


def _shortened(items: Items) -> Items:
    """With at most MOST_TRAINED_ON training rows, evenly spread."""
    if not isinstance(items, Labelled | Texts):
        return items
    train = np.flatnonzero(items.split == "train")
    if len(train) <= MOST_TRAINED_ON:
        return items
    some = train[:: -(-len(train) // MOST_TRAINED_ON)]
    rows = np.sort(np.concatenate([some, np.flatnonzero(items.split != "train")]))
    changes: dict[str, Any] = {"labels": items.labels[rows], "split": items.split[rows]}
    if items.groups is not None:
        changes["groups"] = items.groups[rows]
    if isinstance(items, Labelled):
        return replace(items, pictures=items.pictures.chosen(rows), **changes)
    changes["texts"] = [items.texts[i] for i in rows]
    if items.second is not None:
        changes["second"] = [items.second[i] for i in rows]
    if items.picture is not None:
        changes["picture"] = items.picture[rows]
    return replace(items, references=None, **changes)
