"""The items of a data set, and a model's features of them. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from momo.evaluation.encoder import Encoder, chunks
from momo.evaluation.zero_shot import TEMPLATES, class_embeddings
from momo_platform.stages import Artifact, Context
from pipelines.evaluation.configs import FeaturesConfig
from pipelines.evaluation.datasets import DataSetPlace, Roots
from pipelines.evaluation.items import Captioned, Items, Labelled, Texts, Usable, evenly, limited
from pipelines.evaluation.loaders import load_given, load_items


def load_place(place: DataSetPlace, data: Mapping[str, Artifact]) -> Items:
    """The items of a data set, from its folder or from the graph's own artifacts.

    Raises UserError for files of another shape.
    """
    if place.loader:
        return load_given(place.loader, place.folder)
    return load_items(place.data, Roots(Path(place.folder), data))


def lacking(encoder: Encoder, *needed: str) -> str | None:
    """What of the `needed` a model can't do, as a reason; None where it can do all."""
    absent = [n for n in needed if n not in encoder.seen]
    names = {"pair": "pairs", "aligned": "a space of texts and pictures", "words": "a word head"}
    shown = ", ".join(names.get(n, f"a {n} encoder" if n != "matching" else n) for n in absent)
    return f"the model lacks {shown}" if absent else None


def arrays_of(
    encoder: Encoder, items: Usable, config: FeaturesConfig, context: Context
) -> dict[str, np.ndarray] | str:
    """Features of a data set by name, or why the model has none."""
    if isinstance(items, Labelled):
        return lacking(encoder, "image") or _labelled(encoder, items, config, context)
    if isinstance(items, Captioned):
        return lacking(encoder, "aligned") or _captioned(encoder, items, config, context)
    if isinstance(items, Texts) and items.pictures is None and items.classes > 1:
        return lacking(encoder, "text") or _worded(encoder, items, config)
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
        templates = items.templates or TEMPLATES
        described = class_embeddings(encoder.embed_texts, items.class_names, templates)
        arrays["class_embeddings"] = described
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
