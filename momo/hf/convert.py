"""From an exported folder to `transformers`."""

from __future__ import annotations

import os
from pathlib import Path

from momo.export import load_embedder
from momo.hf.configuration import MoMoConfig
from momo.hf.modeling import MoMoModel
from momo.hf.processing import MoMoImageProcessor, MoMoProcessor, make_tokenizer
from momo.hf.sentences import write_sentence_transformers
from momo.initialise.origin import origin_of, published
from momo.weight_files import with_mode


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


def export_folder(path: str | os.PathLike[str], output: str | os.PathLike[str]) -> MoMoModel:
    """Write `output` for transformers and sentence-transformers, with the code that opens it where
    this package is not installed; without a card. Returns the model.

    Raises FileNotFoundError naming what is missing in `path`.
    """
    model, processor = from_exported(path)
    folder = Path(output)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_sentence_transformers(folder)
    for file in folder.glob("*.safetensors"):  # transformers leaves them readable by their owner
        with_mode(file, (folder / "config.json").stat().st_mode)
    return model
