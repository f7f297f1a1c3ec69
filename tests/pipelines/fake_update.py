"""One update of a preset's training stage on the fake CUDA device, as the trainer does it.

All that these tests know of the training loop's inside is in this file.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fake_cuda import Measured, fake_cuda
from torch import Tensor

from momo.masking import SpecialIds
from momo.model import build_model
from momo.tasks import MoMoTask
from momo_platform.training.diagnostics import to_device
from momo_platform.training.loop import Trainer
from momo_platform.training.task import TrainingSetup
from pipelines.presets import PRESETS
from pipelines.training import StageRecipe

STAGES = ("stage1", "stage2", "stage3")


def recipe_of(
    preset: str, stage: str, *, precision: str = "auto", chunk: int = -1, checkpointing: str = ""
) -> StageRecipe:
    """A preset's stage on GPUs. `chunk` and `checkpointing`: others than the preset's."""
    config = PRESETS[preset]()
    chosen = getattr(config, stage)
    scaling = replace(chosen.train.scaling, gpus_per_worker=1.0)
    if checkpointing:
        scaling = replace(scaling, activation_checkpointing=checkpointing)
    task = chosen.task if chunk < 0 else replace(chosen.task, contrastive_chunk=chunk)
    train = replace(chosen.train, precision=precision, scaling=scaling)
    return StageRecipe(config.model, task, train, config.pair_text_length)


def host_batch(recipe: StageRecipe, modality: str, packed_text_length: int) -> dict[str, Tensor]:
    """A worker's batch as the loaders give it, on the CPU; texts have their greatest length."""
    rows = recipe.train.batch_sizes[modality] // recipe.train.scaling.num_workers
    side = recipe.model.image_size
    length = recipe.pair_text_length if modality == "pair" else packed_text_length
    pixels = torch.zeros(rows, 3, side, side, dtype=torch.uint8)
    patches, words = torch.rand(rows, recipe.model.num_patches), torch.rand(rows, length, 3)
    ids = torch.full((rows, length), SpecialIds.first_word)
    ids[:, 0], ids[:, -1] = SpecialIds.cls, SpecialIds.sep
    if modality == "image":
        return {"pixels": pixels, "noise": patches}
    if modality == "text":
        return {"ids": ids, "noise": words}
    noise = {"noise_image": patches, "noise_text": words, "noise_match": torch.rand(rows)}
    return {"pixels": pixels, "ids": ids, **noise}


def _as_in_the_midst(trainer: Trainer) -> None:
    """As before any later update of a worker among several: the optimizer has its moments, and
    gradients stay, as DDP's buckets do, whose views they are."""
    optimizer = trainer.optimizer
    for parameter in trainer.task.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    zero = partial(optimizer.zero_grad, set_to_none=False)
    optimizer.zero_grad = lambda set_to_none=True: zero()


def measure_update(
    recipe: StageRecipe, packed_text_length: int, *, diagnose: bool = False
) -> Measured:
    """What one worker's update costs, and its waits. `diagnose`: an update that is logged."""
    task_config, device = recipe.task, torch.device("cuda")
    host = {m: host_batch(recipe, m, packed_text_length) for m in task_config.modalities}
    words = max(1, round(task_config.text_mask_ratio * packed_text_length))
    with fake_cuda(true_in_row=words) as record:
        with device:
            task = MoMoTask(build_model(recipe.model), task_config)
        setup = TrainingSetup(task, dict.fromkeys(task_config.modalities), lambda *_: None)
        trainer = Trainer(setup, recipe.train, Path("/nowhere"), device=device)
        _as_in_the_midst(trainer)
        batches: Any = {m: to_device(batch, device) for m, batch in host.items()}
        with record.measure() as measured:
            trainer._update(0, batches, diagnose=diagnose)
            trainer._asked_to_stop()
    return measured
