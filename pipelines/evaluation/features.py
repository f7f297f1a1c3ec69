"""Running the protocols on a worker: data in, values with intervals out. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from momo.evaluation.bootstrap import interval_of_mean
from momo.evaluation.chance import chance
from momo.evaluation.encoder import Capability, Encoder, MoMoEncoder, chunks, load_encoder
from momo.evaluation.heads import masked_words, matching_scores
from momo.evaluation.knn import knn
from momo.evaluation.metrics import metric_named
from momo.evaluation.probe import linear_probe
from momo.evaluation.zero_shot import class_embeddings, classify
from momo_platform.stages import Artifact, Context, UserError
from pipelines.evaluation.fine_tuning import fine_tuned
from pipelines.evaluation.graph import FeaturesConfig, Place, ProtocolConfig
from pipelines.evaluation.items import (
    Captioned,
    Items,
    Labelled,
    NotAvailable,
    Texts,
    Usable,
    evenly,
    limited,
)
from pipelines.evaluation.loaders import load_items
from pipelines.evaluation.results import (
    Result,
    first_captions,
    result_of,
    retrieved,
    scored,
    value_of,
)


def load_place(place: Place, inputs: Mapping[str, Artifact]) -> Items:
    """The items of a data set, from its folder or from the graph's own artifacts.

    Raises UserError for files of another shape.
    """
    if place.loader:
        from pipelines.evaluation.loaders.given import load_given

        return load_given(place.loader, place.folder)
    roots = {role: a.path for role, a in inputs.items()} | {"data": Path(place.folder)}
    return load_items(place.data, roots)


def _start(
    config: FeaturesConfig | ProtocolConfig, inputs: Mapping[str, Artifact]
) -> tuple[Encoder, Usable] | str:
    """The model and the data, or why there is nothing to do."""
    torch.set_num_threads(config.threads)
    try:
        items = load_place(config.place, inputs)
    except UserError as error:  # its digest changes when it is mended
        return str(error)
    if isinstance(items, NotAvailable):
        return items.reason
    folder = inputs["model"].path / "model"
    return load_encoder(folder, device=config.device, precision=config.precision), items


def _lacks(encoder: Encoder, *needed: Capability) -> str | None:
    absent = [n for n in needed if n not in encoder.seen]
    names = {"pair": "pairs", "aligned": "a space of texts and pictures", "words": "a word head"}
    shown = ", ".join(names.get(n, f"a {n} encoder" if n != "matching" else n) for n in absent)
    return f"the model lacks {shown}" if absent else None


def features(
    config: FeaturesConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    started = _start(config, inputs)
    if isinstance(started, str):
        return {"not_available": started}
    arrays = arrays_of(*started, config, context)
    if isinstance(arrays, str):
        return {"not_available": arrays}
    for name, array in arrays.items():
        np.save(context.output / f"{name}.npy", array, allow_pickle=False)
    return {"arrays": {name: list(array.shape) for name, array in arrays.items()}}


def arrays_of(
    encoder: Encoder, items: Usable, config: FeaturesConfig, context: Context
) -> dict[str, np.ndarray] | str:
    """Features of a data set by name, or why the model has none."""
    if isinstance(items, Labelled):
        return _lacks(encoder, "image") or _labelled(encoder, items, config, context)
    if isinstance(items, Captioned):
        return _lacks(encoder, "aligned") or _captioned(encoder, items, config, context)
    if items.pictures is None and items.classes > 1:
        return _lacks(encoder, "text") or _worded(encoder, items, config)
    raise ValueError(f"{config.place.data} has no features: it is fine-tuned on")


def _worded(encoder: Encoder, items: Texts, config: FeaturesConfig) -> dict[str, np.ndarray]:
    rows = evenly(items.split, config.limit)
    second = None if items.second is None else [items.second[i] for i in rows]
    ids = encoder.tokenize([items.texts[i] for i in rows], second, items.length)
    return {
        "features": encoder.text_features(ids),
        "labels": items.labels[rows],
        "split": items.split[rows].astype(str),
        "groups": np.arange(len(rows)) if items.groups is None else items.groups[rows],
    }


def _labelled(
    encoder: Encoder, items: Labelled, config: FeaturesConfig, context: Context
) -> dict[str, np.ndarray]:
    rows = evenly(items.split, config.limit)
    aligned = config.embeddings and "aligned" in encoder.seen and bool(items.class_names)
    parts: list[np.ndarray] = []
    vectors: list[np.ndarray] = []
    for part in chunks(len(rows)):
        pixels = items.pictures.pixels(rows[part], encoder.image_size, config.threads)
        parts.append(encoder.image_features(pixels))
        if aligned:
            vectors.append(encoder.embed_pixels(pixels))
        context.progress({"step": part.stop, "total": len(rows)})
    arrays = {
        "features": np.concatenate(parts),
        "labels": items.labels[rows],
        "split": items.split[rows].astype(str),
        "groups": (np.arange(len(rows)) if items.groups is None else items.groups[rows]),
    }
    if aligned:
        arrays["image_embeddings"] = np.concatenate(vectors)
        arrays["class_embeddings"] = class_embeddings(encoder.embed_texts, items.class_names)
    return arrays


def _captioned(
    encoder: Encoder, items: Captioned, config: FeaturesConfig, context: Context
) -> dict[str, np.ndarray]:
    items = limited(items, config.limit)
    vectors = []
    for part in chunks(len(items.pictures)):
        rows = range(part.start, part.stop)
        pixels = items.pictures.pixels(rows, encoder.image_size, config.threads)
        vectors.append(encoder.embed_pixels(pixels))
        context.progress({"step": part.stop, "total": len(items.pictures)})
    return {
        "image_embeddings": np.concatenate(vectors),
        "text_embeddings": encoder.embed_texts(items.captions),
        "image_groups": items.image_groups,
        "text_groups": items.text_groups,
    }


def on_features(
    config: ProtocolConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    artifact = inputs["features"]
    if "not_available" in artifact.metrics:
        return {"not_available": artifact.metrics["not_available"]}
    torch.set_num_threads(config.threads)
    arrays = {n: np.load(artifact.path / f"{n}.npy") for n in artifact.metrics["arrays"]}
    return measured(config, arrays)


def measured(config: ProtocolConfig, arrays: Mapping[str, np.ndarray]) -> Result:
    """A protocol that needs features only, on them."""
    if config.protocol == "retrieval":
        return retrieved(config, arrays)
    test = arrays["split"] == "test"
    truth, groups = arrays["labels"][test], arrays["groups"][test]
    if not len(truth):
        return {"not_available": "there is no test example"}
    guess = chance(config.metric, int(arrays["labels"].max()) + 1)
    if config.protocol == "zero_shot":
        if "class_embeddings" not in arrays:
            return {"not_available": "needs names of classes and a space of texts and pictures"}
        found, _ = classify(arrays["image_embeddings"][test], arrays["class_embeddings"])
        return result_of(config, scored(config, found, truth, groups, guess), len(truth), {})
    parts = []
    for part in ("train", "valid", "test"):
        rows = arrays["split"] == part
        parts.append((arrays["features"][rows], arrays["labels"][rows]))
    train, valid, _ = (labels for _, labels in parts)
    if len(np.unique(train)) < 2 or not len(valid):
        return {"not_available": "too few labelled examples to train on and to choose by"}
    if config.protocol == "knn":
        near = knn(*parts)
        predictions, chosen = near.predictions, {"k": float(near.k)}
        chosen["validation"] = near.validation_accuracy
    else:
        probe = linear_probe(*parts, metric=metric_named(config.metric))
        predictions, chosen = probe.predictions, {"c": probe.c}
        chosen["validation"] = probe.validation_score
    value = scored(config, predictions, truth, groups, guess)
    return result_of(config, value, len(truth), chosen)


def on_model(
    config: ProtocolConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    started = _start(config, inputs)
    if isinstance(started, str):
        return {"not_available": started}
    encoder, items = started
    if isinstance(items, Captioned):
        if lack := _lacks(encoder, "aligned", "matching"):
            return {"not_available": lack}
        return _matched(config, encoder, limited(items, config.limit))
    if config.protocol == "masked_words":
        assert isinstance(items, Texts)
        return _masked_words(config, encoder, items)
    needed: Capability = "image"
    if isinstance(items, Texts):
        needed = "text" if items.pictures is None else "pair"
    if lack := _lacks(encoder, needed):
        return {"not_available": lack}
    absent = [p for p in ("train", "valid", "test") if not (items.split == p).any()]
    if absent:
        return {"not_available": f"there is no {absent[0]} example"}
    return fine_tuned(config, encoder, items, context)


def _masked_words(config: ProtocolConfig, encoder: Encoder, items: Texts) -> Result:
    if lack := _lacks(encoder, "words"):
        return {"not_available": lack}
    assert isinstance(encoder, MoMoEncoder)
    chosen = evenly(items.split, config.limit)
    chosen = chosen[items.split[chosen] == "test"]
    texts = [items.texts[i] for i in chosen]
    found = masked_words(encoder, encoder.tokenize(texts, length=items.length))
    bounds = interval_of_mean(found.right, groups=found.row, seed=config.seed)
    value = value_of(found.accuracy, bounds, 1 / encoder.model.config.vocab_size)
    return result_of(config, value, len(texts), {"words": len(found.right)})


def _matched(config: ProtocolConfig, encoder: Encoder, items: Captioned) -> Result:
    """The matching head: accuracy on true and false pairs, or on top of retrieval."""
    if len(np.unique(items.image_groups)) < 2:
        return {"not_available": "needs at least two held-out pairs"}
    rows = range(len(items.pictures))
    pixels = items.pictures.pixels(rows, encoder.image_size, config.threads)
    ids = encoder.tokenize(items.captions, length=getattr(encoder, "caption_length", None))
    if config.protocol == "matching":
        shown, own = first_captions(items.image_groups, items.text_groups)
        groups = items.image_groups[shown]
        scores, truth = matching_scores(encoder, pixels[shown], ids[own], groups, config.seed)
        count = len(np.unique(groups))
        value = scored(config, scores > 0, truth, np.concatenate([groups, groups]), 0.5)
        details = {"roc_auc": metric_named("roc_auc")(scores, truth)}
        return result_of(config, value, count, details)
    arrays = {
        "image_embeddings": encoder.embed_pixels(pixels),
        "text_embeddings": encoder.embed_texts(items.captions),
        "image_groups": items.image_groups,
        "text_groups": items.text_groups,
    }

    def rerank(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        return encoder.match(pixels, ids[others], picture=rows)

    return retrieved(config, arrays, rerank)
