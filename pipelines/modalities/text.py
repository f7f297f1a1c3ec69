"""Documents."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from momo_platform.data.artifacts import PreparedRows
from momo_platform.data.columns import TEXT_NAMES
from momo_platform.data.config import Kind, MixConfig, PrepareConfig
from momo_platform.stages import Context, by_role
from pipelines.artifacts import TokenizerFile
from pipelines.modalities.base import Inputs, Metrics, ModalityData, Others, Reading


def run_prepare_text(config: PrepareConfig, inputs: Inputs, context: Context) -> Metrics:
    """Stage: text → rows in shards."""
    from momo_platform.data.prepare import prepare_text

    return prepare_text(config, inputs, context, MODALITY.kind)


@by_role
def run_mix_text(
    config: MixConfig,
    context: Context,
    *,
    prepared: PreparedRows,
    tokenizer: TokenizerFile,
    pair: Others = None,
) -> Metrics:
    """Stage: prepared text, or pairs for their captions → shards with the column `ids`."""
    from momo_platform.data.packing import mix_text

    return mix_text(config, prepared, tokenizer.path, context, pair)


def _look_at_text(*listing: Any) -> None:
    from momo_platform.data.look import look_at_text

    look_at_text(*listing)


def _documents(reading: Reading) -> Callable[..., dict[str, Any]]:
    from momo.transforms import text_batch
    from momo_platform.data.order import uniform

    return partial(text_batch, uniform=uniform)


MODALITY = ModalityData(
    Kind(
        "text",
        hint="give a .txt file (one document a line), a folder of them, JSONL, CSV, Parquet, "
        "WebDataset tars or hf://<data set>",
        columns=(("text", TEXT_NAMES),),
        content="text",
        look=_look_at_text,
    ),
    "texts",
    run_prepare_text,
    run_mix_text,
    _documents,
    texts="text",
    tokenized=True,
    given_by="pair",
    leaves_out="pair",
    of_own=True,
)
