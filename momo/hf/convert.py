"""From an exported folder to `transformers`."""

from __future__ import annotations

import os

from momo.export import load_embedder
from momo.hf.configuration import MoMoConfig
from momo.hf.modeling import MoMoModel
from momo.hf.processing import MoMoImageProcessor, MoMoProcessor, make_tokenizer
from momo.initialise.origin import origin_of, published


def from_exported(path: str | os.PathLike[str]) -> tuple[MoMoModel, MoMoProcessor]:
    """Model (in evaluation mode) and processor from what `momo.export.save` wrote.

    Both have `save_pretrained`. Raises FileNotFoundError naming the missing file.
    """
    exported = load_embedder(path, "cpu")
    config = MoMoConfig.from_model_config(
        exported.model.config, exported.text_length, published(origin_of(path)) or None
    )
    model = MoMoModel(config)
    model.network.load_state_dict(exported.model.state_dict())
    processor = MoMoProcessor(
        MoMoImageProcessor(size=config.image_size),
        make_tokenizer(exported.tokenizer, exported.text_length),
    )
    return model.eval(), processor
