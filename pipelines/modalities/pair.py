"""Pictures with captions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from momo_platform.data.artifacts import PreparedRows
from momo_platform.data.columns import CAPTION_NAMES, IMAGE_NAMES
from momo_platform.data.config import Kind, MixConfig, PrepareConfig
from momo_platform.stages import Context, by_role
from pipelines.modalities.base import Inputs, Metrics, ModalityData, Others, Reading
from pipelines.modalities.image import look_at_pictures, picture_options


def run_prepare_pair(config: PrepareConfig, inputs: Inputs, context: Context) -> Metrics:
    """Stage: pictures with captions → rows in shards."""
    from momo_platform.data.prepare import prepare_pictures

    return prepare_pictures(config, inputs, context, MODALITY.kind)


@by_role
def run_mix_pair(
    config: MixConfig, context: Context, *, prepared: PreparedRows, image: Others = None
) -> Metrics:
    """Stage: prepared pairs → shards with the columns `image`, `captions` and `group`."""
    from momo_platform.data.mix import mix_pictures

    # Of pictures only the test part is left out: it is what their labels are tested on.
    columns = ["image", "captions", "group"]
    return mix_pictures(config, prepared, context, columns, image, "test")


def _pairs(reading: Reading) -> Callable[..., dict[str, Any]]:
    from momo.transforms import pair_batch

    words = {"tokenizer": reading.tokenizer.load(), "length": reading.caption_length}
    return partial(pair_batch, **words, **picture_options(reading))


MODALITY = ModalityData(
    Kind(
        "pair",
        hint="give Parquet, JSONL or CSV with a picture and a caption a row, a folder of them, "
        "WebDataset tars or hf://<data set>",
        columns=(("picture", IMAGE_NAMES), ("caption", CAPTION_NAMES)),
        content="image",
        measured=("width", "height"),
        look=look_at_pictures,
    ),
    "captioned pictures",
    run_prepare_pair,
    run_mix_pair,
    _pairs,
    pictured=True,
    texts="captions",
    leaves_out="image",
    of_own=True,  # the demo's divide one set of pictures
)
