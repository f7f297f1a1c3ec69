"""A model's held-out pairs, and how a smaller form of it compares on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from momo_platform.stages import UserError
from pipelines.modalities import PAIR

if TYPE_CHECKING:
    import numpy as np

    from momo.embedder import AnyEmbedder
    from pipelines.evaluation.items import Captioned

_MOST = 2_000
"""Pairs that are compared: both forms of the model embed them while a person waits."""


@dataclass(frozen=True)
class Likeness:
    """A model's form beside its fp32 on the same `pictures` and `texts`: the mean cosine of their
    vectors, and R@10, the mean of both directions."""

    pictures: int
    texts: int
    image_cosine: float
    text_cosine: float
    recall: float
    whole_recall: float


def held_out_pairs(model: Path) -> Captioned | None:
    """Those of the corpus that the model in a storage says it was trained on, the split `test`;
    None for a model elsewhere, and where the rows are gone or there are none."""
    from momo_platform.stages.catalog import Catalog, storage_at
    from momo_platform.stages.storage.open import open_storage
    from pipelines.evaluation.datasets import DataSet, Roots
    from pipelines.evaluation.items import Captioned
    from pipelines.evaluation.loaders.own import pairs

    place = storage_at(model)
    if place is None:
        return None
    storage = open_storage(str(place))
    catalog = Catalog(storage)
    try:
        made_by = catalog.find(str(model))
    except UserError:  # a copy of another storage's: its rows are not here
        return None
    prepared = [m for m in catalog.upstream(made_by) if m.stage == f"prepare-{PAIR.name}"]
    if not prepared:
        return None
    artifact = storage.artifact_of(prepared[-1])
    found = pairs(DataSet("held-out", "pairs", "", ""), Roots(artifacts={"own-pair": artifact}))
    return found if isinstance(found, Captioned) else None


def likeness(form: AnyEmbedder, whole: AnyEmbedder, items: Captioned) -> Likeness:
    """Of the first pairs, at most 2,000 pictures with the captions of their groups."""
    import numpy as np

    size = min(_MOST, len(items.pictures))
    groups = items.image_groups[:size]
    kept = np.flatnonzero(np.isin(items.text_groups, groups))
    captions = [items.captions[row] for row in kept]
    pixels = items.pictures.pixels(range(size), whole.config.image_size)
    found = [(one.embed_pixels(pixels), one.embed(texts=captions)) for one in (form, whole)]
    recalls = [_recall(*vectors, groups, items.text_groups[kept]) for vectors in found]
    (image, text), (whole_image, whole_text) = found
    return Likeness(
        *(size, len(captions), _cosine(image, whole_image), _cosine(text, whole_text)),
        *recalls,
    )


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum(axis=1).mean())


def _recall(
    image: np.ndarray, text: np.ndarray, image_groups: np.ndarray, text_groups: np.ndarray
) -> float:
    from momo.evaluation.retrieval import zero_shot_retrieval

    found = zero_shot_retrieval(image, text, image_groups, text_groups, (10,)).recalls
    return sum(found.values()) / len(found)
