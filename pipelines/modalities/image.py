"""Pictures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from momo_platform.data.artifacts import PreparedRows
from momo_platform.data.columns import IMAGE_NAMES
from momo_platform.data.config import Kind, MixConfig, PrepareConfig
from momo_platform.stages import Context, by_role
from pipelines.modalities.base import Inputs, Metrics, ModalityData, Others, Reading


def run_prepare_image(config: PrepareConfig, inputs: Inputs, context: Context) -> Metrics:
    """Stage: pictures → rows in shards."""
    from momo_platform.data.prepare import prepare_pictures

    return prepare_pictures(config, inputs, context, MODALITY.kind)


@by_role
def run_mix_image(
    config: MixConfig, context: Context, *, prepared: PreparedRows, pair: Others = None
) -> Metrics:
    """Stage: prepared pictures → shards with the column `image`."""
    from momo_platform.data.mix import mix_pictures

    return mix_pictures(config, prepared, context, ["image"], pair)


def look_at_pictures(*listing: Any) -> None:
    """Before anything runs: whether the listing has pictures that can be used."""
    from momo_platform.data.look import look_at_pictures

    look_at_pictures(*listing)


def picture_options(reading: Reading) -> dict[str, Any]:
    """What a batch's function is told of its pictures."""
    from momo_platform.data.order import uniform

    chosen = {"config": reading.model, "form": reading.form, "augment": reading.augment}
    return {"uniform": uniform, **chosen}


def _images(reading: Reading) -> Callable[..., dict[str, Any]]:
    from momo.transforms import image_batch

    return partial(image_batch, **picture_options(reading))


MODALITY = ModalityData(
    Kind(
        "image",
        hint="give a folder of pictures, a Parquet file, JSONL/CSV with picture paths, WebDataset "
        "tars or hf://<data set>",
        columns=(("picture", IMAGE_NAMES),),
        content="image",
        measured=("width", "height"),
        look=look_at_pictures,
    ),
    "pictures",
    run_prepare_image,
    run_mix_image,
    _images,
    pictured=True,
    given_by="pair",
    leaves_out="pair",
)
