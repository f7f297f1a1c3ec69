"""The trivial methods, and the untrained model, on the data of a task. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from momo.evaluation.baselines import majority, raw_pixels, tfidf_accuracy
from momo.evaluation.encoder import MoMoEncoder
from momo.evaluation.knn import knn
from momo.evaluation.metrics import metric_named
from momo.evaluation.probe import linear_probe
from momo.model import build_model
from momo_platform.stages import Artifact, Context, UserError
from pipelines.evaluation.baselines import MOST_TRAINED_ON, BaselinesConfig, Measured
from pipelines.evaluation.features import arrays_of, load_place, measured
from pipelines.evaluation.graph import FEATURE_PROTOCOLS, FeaturesConfig, ProtocolConfig
from pipelines.evaluation.items import (
    Captioned,
    Items,
    Labelled,
    NotAvailable,
    Pictures,
    Texts,
    Usable,
    evenly,
)

_LEAST, _SIDE = 5, 32  # special tokens of the vocabulary; pixels of a raw picture's side
_PARTS = ("train", "valid", "test")


class Baselines:
    """Items and the untrained model's features are made once for all tasks on a data set."""

    def __init__(
        self, config: BaselinesConfig, inputs: Mapping[str, Artifact], context: Context
    ) -> None:
        self.config, self.inputs, self.context = config, inputs, context
        self._items: tuple[str, Items] | None = None
        self._features: tuple[str, dict[str, np.ndarray] | str] | None = None

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        for role, file in (("tokenizer", "tokenizer.json"), ("model", "model/tokenizer.json")):
            if role in self.inputs and (self.inputs[role].path / file).is_file():
                return Tokenizer.from_file(str(self.inputs[role].path / file))
        return None

    @cached_property
    def untrained(self) -> MoMoEncoder | None:
        if self.config.model is None:
            return None
        model = build_model(self.config.model, seed=self.config.model_seed)
        return MoMoEncoder(model, self.tokenizer, device="cpu")

    def items(self, task: Measured) -> Items:
        if self._items is None or self._items[0] != task.place.data:
            try:
                found = load_place(task.place, self.inputs)
            except UserError as error:  # the task's own stage says so too
                found = NotAvailable(str(error))
            self._items = task.place.data, _shortened(found)
        return self._items[1]

    def of(self, task: Measured) -> dict[str, Any] | None:
        """{"baseline", "untrained", "details"}, or None where there is nothing to measure."""
        items = self.items(task)
        if isinstance(items, NotAvailable) or not _has_test(items):
            return None
        untrained = self._untrained(task, items) if task.protocol in FEATURE_PROTOCOLS else None
        baseline, details = self._trivial(task, items)
        return {"baseline": baseline, "untrained": untrained, "details": details}

    def _untrained(self, task: Measured, items: Usable) -> float | None:
        encoder = self.untrained
        if encoder is None or (encoder.tokenizer is None and not _pictures_only(task)):
            return None
        limit = self.config.limit
        if self._features is None or self._features[0] != task.place.data:
            aligned = encoder.tokenizer is not None
            wanted = FeaturesConfig(task.place, limit, aligned)
            arrays = arrays_of(encoder, items, wanted, self.context)
            self._features = task.place.data, arrays
        arrays = self._features[1]
        if isinstance(arrays, str):
            return None
        ks = (int(task.metric.rpartition("@")[2]),) if "_r@" in task.metric else ()
        config = ProtocolConfig(
            task.protocol, task.metric, task.place, self.config.seed, limit, ks=ks
        )
        found = measured(config, arrays)
        return found["values"][task.metric]["value"] if "values" in found else None

    def _trivial(self, task: Measured, items: Usable) -> tuple[float | None, dict[str, float]]:
        if isinstance(items, Captioned):
            return None, {}  # chance, which the result itself says
        if task.protocol == "masked_words":
            assert isinstance(items, Texts)
            return self._commonest_word(items), {}
        rows = evenly(items.split, self.config.limit)
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
        if task.protocol == "zero_shot":
            return common, details
        pixels = items.pictures.pixels(rows, _SIDE)
        grey = not (pixels != pixels[:, :1]).any()
        raw = raw_pixels(pixels[:, :1] if grey else pixels)
        given = tuple((raw[r], labels[r]) for r in parts.values())
        if task.protocol == "knn":
            return knn(*given).accuracy, details
        return linear_probe(*given, metric=metric_named(task.metric)).score, details

    def _commonest_word(self, items: Texts) -> float | None:
        """The share that the commonest word has of those that are hidden, on average."""
        if self.tokenizer is None:
            return None
        texts = [t for t, part in zip(items.texts, items.split, strict=True) if part == "test"]
        encoded = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        ids = np.concatenate([np.array(e.ids[: items.length], dtype=np.int64) for e in encoded])
        counts = np.bincount(ids[ids >= _LEAST]) if len(ids) else np.zeros(0)
        return float(counts.max() / counts.sum()) if counts.sum() else None


def _pictures_only(task: Measured) -> bool:
    return task.protocol in ("linear_probe", "knn") and not task.place.loader.startswith("texts")


def _has_test(items: Usable) -> bool:
    return isinstance(items, Captioned) or bool((items.split == "test").any())


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
        chosen = [items.pictures.items[i] for i in rows]
        return replace(items, pictures=Pictures(chosen, items.pictures.open), **changes)
    changes["texts"] = [items.texts[i] for i in rows]
    if items.second is not None:
        changes["second"] = [items.second[i] for i in rows]
    if items.picture is not None:
        changes["picture"] = items.picture[rows]
    return replace(items, references=None, **changes)
