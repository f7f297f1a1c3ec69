"""Stages of quality: the looks of pictures that models are tested on, and which rows are kept.

A score is the cosine of a picture's and a caption's vectors by any model that the evaluation knows
(of several captions, their mean), as CLIP score (arXiv 2104.08718) has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from momo.precision import FloatPrecision
from momo_platform.data.artifacts import PreparedRows
from momo_platform.data.quality.config import QualityConfig
from momo_platform.stages import Artifact, Context, UserError, by_role
from momo_platform.training.config import MECHANICS
from pipelines.artifacts import ModelFolder
from pipelines.evaluation.datasets import DataSetPlace

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from momo.evaluation.encoder import Encoder
    from pipelines.evaluation.items import Pictures

_TOGETHER = 256  # rows that are scored at a time
_TESTS = ("test", "valid")


@dataclass(frozen=True)
class LooksConfig:
    """The data sets whose pictures are looked at."""

    places: tuple[DataSetPlace, ...]


@dataclass(frozen=True)
class KeepConfig:
    """`selection`: which rows are kept; `gpus` of each actor that scores: None is one where the
    cluster has any."""

    selection: QualityConfig
    precision: FloatPrecision = "fp32"
    gpus: float | None = field(default=None, metadata=MECHANICS)


@by_role
def run_tested_pictures(
    config: LooksConfig, context: Context, *, data: Mapping[str, Artifact]
) -> dict[str, Any]:
    """Stage: the test and validation pictures of data sets → their looks (near.py)."""
    from momo_platform.data.quality.filters import LOOKS, write_looks
    from momo_platform.data.tasks import run_tasks

    tasks = [{"number": number} for number in range(len(config.places))]
    found: dict[str, list[tuple[str, bytes]]] = {}
    for task in run_tasks(tasks, partial(look_at_tests, config, data)):
        found[task["name"]] = [(key, bytes.fromhex(look)) for key, look in task["looks"]]
        if not task["looks"]:
            why = task["why"] or "it has no test pictures"
            context.progress({"note": f"{task['name']} is not compared with: {why}"})
    write_looks(context.output / LOOKS, {name: found[name] for name in sorted(found)})
    return {"pictures": {name: len(found[name]) for name in sorted(found)}}


def look_at_tests(
    config: LooksConfig, data: Mapping[str, Artifact], task: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """In a Ray task: the looks of a data set's pictures, those that have one; of one that can't be
    read none, and why."""
    from momo_platform.data.near import look_of
    from pipelines.evaluation.features import load_place

    place = config.places[task["number"]]
    try:
        items = load_place(place, data)
    except UserError as error:  # the evaluation says so, too, and goes on
        yield {"name": place.data, "looks": [], "why": str(error)}
        return
    pictures: Pictures | None = getattr(items, "pictures", None)
    looks = []
    if pictures is not None:
        for row in _tested_rows(items, pictures):
            look = look_of(pictures.open(pictures.items[row]).convert("RGB"))
            if look is not None:
                looks.append([f"picture {row}", look.hex()])
    yield {"name": place.data, "looks": looks, "why": getattr(items, "reason", "")}


def _tested_rows(items: Any, pictures: Pictures) -> Sequence[int]:
    """Which of a data set's pictures models are tested on."""
    import numpy as np

    split = getattr(items, "split", None)
    if split is None:
        return range(len(pictures))
    rows = np.flatnonzero(np.isin(split, _TESTS))
    picture = getattr(items, "picture", None)
    return np.unique(rows if picture is None else picture[rows]).tolist()


@by_role
def run_quality(
    config: KeepConfig,
    context: Context,
    *,
    prepared: PreparedRows,
    tested: Artifact | None = None,
    scorer: Artifact | None = None,
) -> dict[str, Any]:
    """Stage: prepared rows → those of them that are kept, in shards as before."""
    from momo_platform.data.quality.filters import NotTested, OfLanguages, RowFilter
    from momo_platform.data.quality.select import select_rows
    from momo_platform.data.tasks import Actors, gpus_each

    selection = config.selection
    filters: list[RowFilter] = []
    if selection.languages:
        filters.append(OfLanguages(selection.text, selection.languages))
    if tested is not None:
        filters.append(NotTested(tested.place, selection.near_duplicate_bits))
    make, gpus = None, 0.0
    if scorer is not None:
        gpus = gpus_each(config.gpus)
        device = "cuda" if gpus else "cpu"
        make = partial(PairScorer, scorer, selection.text, config.precision, device)
    return select_rows(selection, prepared, context, filters, make, Actors(gpus=gpus))


class PairScorer:
    """Rows' scores, float32 [rows]. Raises UserError for a model that has no space of pictures and
    texts, and for a folder without a model."""

    def __init__(
        self, model: Artifact, captions: str, precision: FloatPrecision, device: str
    ) -> None:
        self._model, self._captions = model, captions
        self._how = {"precision": precision, "device": device}
        self.columns = ("image", captions)

    @cached_property
    def _encoder(self) -> Encoder:
        from momo.evaluation.load import load_encoder
        from pipelines.evaluation.features import lacking

        folder = ModelFolder(self._model.path).path
        try:
            encoder = load_encoder(folder, **self._how)  # pyright: ignore[reportArgumentType]
        except (FileNotFoundError, ValueError) as error:
            raise UserError(f"--quality.score-model: {error}") from error
        if lack := lacking(encoder, "aligned"):
            raise UserError(f"--quality.score-model: {lack}; give a CLIP, a SigLIP or a MoMo")
        return encoder

    def __call__(self, table: pa.Table) -> np.ndarray:
        import numpy as np

        starts = range(0, len(table), _TOGETHER)
        return np.concatenate([self._scores(table.slice(start, _TOGETHER)) for start in starts])

    def _scores(self, table: pa.Table) -> np.ndarray:
        import numpy as np

        from momo.transforms import decode
        from pipelines.evaluation.items import Pictures

        encoder = self._encoder
        captions = [list(some) for some in table[self._captions].to_pylist()]
        rows = np.repeat(np.arange(len(table)), [len(some) for some in captions])
        pictures = Pictures(table["image"].to_pylist(), decode)
        seen = encoder.embed_pixels(pictures.pixels(range(len(table)), encoder.image_size))
        told = encoder.embed_texts([caption for some in captions for caption in some])
        cosines = (seen[rows] * told).sum(axis=1)
        return np.bincount(rows, cosines, len(table)) / np.bincount(rows, minlength=len(table))
