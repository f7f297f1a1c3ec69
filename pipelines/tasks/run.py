"""Running the protocols on a worker: data in, values with intervals out. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from momo.evaluation.bootstrap import interval, interval_of_mean
from momo.evaluation.diagnostics import alignment, effective_rank, modality_gap, uniformity
from momo.evaluation.encoder import Capability, Encoder, MoMoEncoder, chunks, load_encoder
from momo.evaluation.finetune import Examples, FineTuneConfig, fine_tune
from momo.evaluation.heads import masked_words, matching_scores
from momo.evaluation.knn import knn
from momo.evaluation.metrics import metric_named, soft_vqa_scores
from momo.evaluation.probe import linear_probe
from momo.evaluation.retrieval import Rerank, zero_shot_retrieval
from momo.evaluation.zero_shot import class_embeddings, classify
from momo_platform.stages import Artifact, Context, UserError
from pipelines.tasks.items import (
    Captioned,
    Items,
    Labelled,
    LazyPixels,
    NotAvailable,
    Pictures,
    Texts,
    evenly,
    limited,
)
from pipelines.tasks.loaders import load_items
from pipelines.tasks.stages import FeaturesConfig, Place, ProtocolConfig

_RERANKED = 16  # of a query's nearest
_KS = (1, 5, 10)
Result = dict[str, Any]


def _roots(place: Place, inputs: Mapping[str, Artifact]) -> dict[str, Path]:
    return {role: a.path for role, a in inputs.items()} | {"data": Path(place.folder)}


def _start(
    config: FeaturesConfig | ProtocolConfig, inputs: Mapping[str, Artifact]
) -> tuple[Encoder, Items] | str:
    """The model and the data, or why there is nothing to do."""
    torch.set_num_threads(config.threads)
    try:
        items = load_items(config.place.data, _roots(config.place, inputs))
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
    encoder, items = started
    if isinstance(items, Labelled):
        if lack := _lacks(encoder, "image"):
            return {"not_available": lack}
        arrays = _labelled(encoder, items, config, context)
    elif isinstance(items, Captioned):
        if lack := _lacks(encoder, "aligned"):
            return {"not_available": lack}
        arrays = _captioned(encoder, items, config, context)
    else:
        raise ValueError(f"{config.place.data} has no features: it is fine-tuned on")
    for name, array in arrays.items():
        np.save(context.output / f"{name}.npy", array, allow_pickle=False)
    return {"arrays": {name: list(array.shape) for name, array in arrays.items()}}


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


def _value(value: float, bounds: tuple[float, float]) -> dict[str, float]:
    return {"value": float(value), "low": bounds[0], "high": bounds[1]}


def _scored(
    config: ProtocolConfig, predictions: Any, truth: Any, groups: np.ndarray | None = None
) -> dict[str, float]:
    """The metric with its interval; by the mean of scores where it is one."""
    if config.metric in ("accuracy", "vqa_accuracy"):
        if config.metric == "accuracy":
            scores = np.asarray(predictions) == np.asarray(truth)
        else:
            scores = soft_vqa_scores(predictions, truth)
        bounds = interval_of_mean(scores, groups=groups, seed=config.seed)
        return _value(float(np.mean(scores)), bounds)
    metric = metric_named(config.metric)
    bounds = interval(metric, predictions, truth, groups=groups, seed=config.seed)
    return _value(metric(predictions, truth), bounds)


def on_features(
    config: ProtocolConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    artifact = inputs["features"]
    if "not_available" in artifact.metrics:
        return {"not_available": artifact.metrics["not_available"]}
    torch.set_num_threads(config.threads)
    arrays = {n: np.load(artifact.path / f"{n}.npy") for n in artifact.metrics["arrays"]}
    if config.protocol == "retrieval":
        return _retrieved(config, arrays)
    if config.protocol == "zero_shot":
        if "class_embeddings" not in arrays:
            return {"not_available": "needs names of classes and a space of texts and pictures"}
        test = arrays["split"] == "test"
        found, _ = classify(arrays["image_embeddings"][test], arrays["class_embeddings"])
        groups = arrays["groups"][test]
        return _result(config, _scored(config, found, arrays["labels"][test], groups), {})
    parts = []
    for part in ("train", "valid", "test"):
        rows = arrays["split"] == part
        parts.append((arrays["features"][rows], arrays["labels"][rows]))
    groups = arrays["groups"][arrays["split"] == "test"]
    if config.protocol == "knn":
        near = knn(*parts)
        details: dict[str, float] = {"k": near.k, "validation": near.validation_accuracy}
        return _result(config, _scored(config, near.predictions, parts[2][1], groups), details)
    probe = linear_probe(*parts, metric=metric_named(config.metric))
    details = {"c": probe.c, "validation": probe.validation_score}
    return _result(config, _scored(config, probe.predictions, parts[2][1], groups), details)


def _result(config: ProtocolConfig, value: dict[str, float], details: Mapping[str, Any]) -> Result:
    return {"values": {config.metric: value}, "details": dict(details), **_settings(config)}


def _settings(config: ProtocolConfig) -> dict[str, int]:
    return {"seed": config.seed, "limit": config.limit}


def _first_captions(
    image_groups: np.ndarray, text_groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the pictures that have a caption, and of the first caption of each: int64 [M]."""
    row_of: dict[Any, int] = {}
    for row, group in enumerate(text_groups.tolist()):
        row_of.setdefault(group, row)
    own = [(i, row_of[g]) for i, g in enumerate(image_groups.tolist()) if g in row_of]
    rows, captions = zip(*own, strict=True)
    return np.array(rows), np.array(captions)


def _retrieved(
    config: ProtocolConfig, arrays: Mapping[str, np.ndarray], rerank: Rerank | None = None
) -> Result:
    """R@k both ways; whole groups are drawn for the intervals."""
    images, texts = arrays["image_embeddings"], arrays["text_embeddings"]
    both = arrays["image_groups"], arrays["text_groups"]
    result = zero_shot_retrieval(images, texts, *both, _KS, rerank=rerank, rerank_top=_RERANKED)
    values = {}
    for direction, ranks, groups in (
        ("image_to_text", result.image_ranks, both[0]),
        ("text_to_image", result.text_ranks, both[1]),
    ):
        for k in _KS:
            hits = (ranks >= 0) & (ranks < k)
            bounds = interval_of_mean(hits, groups=groups, seed=config.seed)
            values[f"{direction}_r@{k}"] = _value(float(hits.mean()), bounds)
    rows, others = _first_captions(*both)
    details = {
        "alignment": alignment(images[rows], texts[others]),
        "uniformity_images": uniformity(images),
        "uniformity_texts": uniformity(texts),
        "modality_gap": modality_gap(images, texts),
        "effective_rank_images": effective_rank(images),
    }
    return {"values": values, "details": details, **_settings(config)}


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
    assert isinstance(items, Texts)
    if config.protocol == "masked_words":
        if lack := _lacks(encoder, "words"):
            return {"not_available": lack}
        assert isinstance(encoder, MoMoEncoder)
        chosen = evenly(items.split, config.limit)
        chosen = chosen[items.split[chosen] == "test"]
        texts = [items.texts[i] for i in chosen]
        found = masked_words(encoder, encoder.tokenize(texts, length=items.length))
        bounds = interval_of_mean(found.right, groups=found.row, seed=config.seed)
        return _result(config, _value(found.accuracy, bounds), {"words": len(found.right)})
    if lack := _lacks(encoder, "text" if items.pictures is None else "pair"):
        return {"not_available": lack}
    return _fine_tuned(config, encoder, items, context)


def _matched(config: ProtocolConfig, encoder: Encoder, items: Captioned) -> dict[str, Any]:
    """The matching head: accuracy on true and false pairs, or on top of retrieval."""
    rows = range(len(items.pictures))
    pixels = items.pictures.pixels(rows, encoder.image_size, config.threads)
    ids = encoder.tokenize(items.captions, length=getattr(encoder, "caption_length", None))
    if config.protocol == "matching":
        shown, own = _first_captions(items.image_groups, items.text_groups)
        groups = items.image_groups[shown]
        scores, truth = matching_scores(encoder, pixels[shown], ids[own], groups, config.seed)
        groups = np.concatenate([groups, groups])
        value = _scored(config, scores > 0, truth, groups)
        return _result(config, value, {"roc_auc": metric_named("roc_auc")(scores, truth)})
    arrays = {
        "image_embeddings": encoder.embed_pixels(pixels),
        "text_embeddings": encoder.embed_texts(items.captions),
        "image_groups": items.image_groups,
        "text_groups": items.text_groups,
    }

    def rerank(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        return encoder.match(pixels, ids[others], picture=rows)

    return _retrieved(config, arrays, rerank)


def _fine_tuned(
    config: ProtocolConfig, encoder: Encoder, items: Texts, context: Context
) -> dict[str, Any]:
    assert config.tuning is not None
    tuning = config.tuning
    ids = encoder.tokenize(items.texts, items.second, items.length)
    allowed = np.zeros(len(items.texts), dtype=bool)
    allowed[evenly(items.split, config.limit)] = True
    rows_of = {p: np.flatnonzero(allowed & (items.split == p)) for p in ("train", "valid", "test")}
    if tuning.limit and len(rows_of["train"]) > tuning.limit:
        rows_of["train"] = rows_of["train"][:: -(-len(rows_of["train"]) // tuning.limit)]
    pixels, pictures_of = None, dict[str, np.ndarray]()
    if items.pictures is not None and items.picture is not None:
        used, picture = np.unique(
            items.picture[np.concatenate(list(rows_of.values()))], return_inverse=True
        )
        shown = Pictures([items.pictures.items[i] for i in used], items.pictures.open)
        pixels = LazyPixels(shown, encoder.image_size, config.threads)
        ends = np.cumsum([len(rows) for rows in rows_of.values()])[:-1]
        pictures_of = dict(zip(rows_of, np.split(picture.reshape(-1), ends), strict=True))
    train, valid, test = (
        Examples(
            ids[rows],
            items.labels[rows],
            pixels,
            pictures_of.get(part),
            [items.references[i] for i in rows] if items.references is not None else None,
        )
        for part, rows in rows_of.items()
    )
    settings = FineTuneConfig(
        epochs=tuning.epochs,
        batch_size=tuning.batch_size,
        learning_rate=tuning.learning_rate,
        dropout=tuning.dropout,
        layer_decay=tuning.layer_decay,
        objective="regression" if items.classes == 1 else "classification",
        metric=config.metric,
        seed=config.seed,
        precision=config.precision,
    )
    result = fine_tune(
        encoder.trunk(),
        train,
        valid,
        test,
        items.classes,
        settings,
        lambda message: context.progress({"message": message}),
        answers=items.answers if items.references is not None else None,
    )
    groups = items.groups[rows_of["test"]] if items.groups is not None else None
    value = _scored(config, result.predictions, test.truth, groups)
    details = {
        "validation": result.validation_score,
        "best_epoch": result.best_epoch,
        "training_examples": len(train),
        "learning_rate": tuning.learning_rate,
    }
    return _result(config, value, details)
