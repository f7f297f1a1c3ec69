"""On a training worker: FLAVA, its task and its loaders. Imports torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import FlavaForPreTraining, FlavaImageProcessor

from experiments.flava_baseline.config import FlavaRecipe
from experiments.flava_baseline.stages import FlavaInputs
from experiments.flava_baseline.task import FlavaTask, build_flava
from momo.config import ModelConfig
from momo.embeddings import PIXEL_MEAN, PIXEL_STD
from momo.hf.processing import make_tokenizer
from momo_platform.training.config import TrainConfig
from momo_platform.training.task import TrainingSetup
from pipelines.artifacts import ModelFolder
from pipelines.build import build_loaders


def build_setup(
    recipe: FlavaRecipe,
    inputs: FlavaInputs,
    train: TrainConfig,
    rank: int,
    world_size: int,
    cores: int | None = None,
) -> TrainingSetup:
    """The same batches as MoMo's, in the same order."""
    shape = recipe.shape
    if inputs.previous is not None:
        model = FlavaForPreTraining.from_pretrained(inputs.previous.path)
    else:
        model = build_flava(shape, train.seed)
    codes = torch.from_numpy(np.load(inputs.codebook.file, allow_pickle=False))
    pictures = ModelConfig(
        image_size=shape.image_size, patch_size=shape.patch_size, vocab_size=shape.vocab_size
    )
    loaders = build_loaders(
        *(recipe.modalities, inputs, train, pictures, recipe.pair_text_length),
        *(rank, world_size, cores),
    )

    def save(task: nn.Module, folder: Path) -> None:
        assert isinstance(task, FlavaTask)
        output = ModelFolder(folder).path
        task.model.requires_grad_(True).save_pretrained(output)
        tokenizer = inputs.tokenizer.load()
        make_tokenizer(tokenizer, shape.max_text_length).save_pretrained(output)
        size = {"height": shape.image_size, "width": shape.image_size}
        FlavaImageProcessor(
            size=size, crop_size=size, image_mean=list(PIXEL_MEAN), image_std=list(PIXEL_STD)
        ).save_pretrained(output)

    return TrainingSetup(FlavaTask(model, recipe, codes), loaders, save)
