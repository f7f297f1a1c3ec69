"""MoMo itself: an exported folder, or one that `momo.hf` saved for `transformers`."""

from __future__ import annotations

import dataclasses

from momo.config import ModelConfig, exported_shape
from momo.initialise.layouts.layout import Needs, Shapes, WeightLayout
from momo.initialise.source import Source

_FREE = ("image_size", "max_text_length", "linear_init", "text_init")


def config_of(source: Source) -> ModelConfig:
    """The shape of the source's model."""
    shape = exported_shape(source.config)
    assert shape is not None  # chosen by its config
    return shape


def needs(source: Source, shapes: Shapes | None) -> Needs:
    theirs = config_of(source)
    fields = {
        f.name: getattr(theirs, f.name)
        for f in dataclasses.fields(ModelConfig)
        if f.name not in _FREE
    }
    if not theirs.extra_modalities:  # a model that has some keeps them as they are drawn
        del fields["extra_modalities"]
    return Needs(fields, image_size=theirs.image_size, most_words=theirs.max_text_length)


LAYOUT = WeightLayout("MoMo", (), ("the whole model",), needs)
TRANSFORMERS = WeightLayout("MoMo", ("momo",), LAYOUT.gives, needs, prefixes=("network.",))
