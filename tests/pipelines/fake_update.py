"""One update of a preset's training stage on the fake CUDA device, as the trainer does it.

All that the tests on the fake device know of the training loop's inside is in this file.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fake_cuda import fake_cuda
from fake_cuda_record import Measured
from torch import Tensor

from momo.masking import SpecialIds
from momo.model import build_model
from momo.tasks import MoMoTask
from momo_platform.training.feed import to_device
from momo_platform.training.loop import Trainer
from momo_platform.training.task import TrainingSetup
from pipelines.estimates import StageEstimate, estimate_stage
from pipelines.presets import PRESETS
from pipelines.training import StageRecipe

STAGES = ("stage1-image", "stage2-joint", "stage3-pair")


@dataclass(frozen=True)
class GPUStage:
    """A training stage on GPUs; texts packed to `packed_text_length` tokens."""

    recipe: StageRecipe
    packed_text_length: int

    @property
    def plan(self) -> StageEstimate:
        return estimate_stage("stage", self.recipe, self.packed_text_length)

    @property
    def updates(self) -> int:
        """Of all workers together."""
        return self.recipe.train.steps * self.recipe.train.scaling.num_workers


def on_gpus(
    preset: str, stage: str, *, precision: str = "auto", chunk: int = -1, checkpointing: str = ""
) -> GPUStage:
    """A preset's stage with a GPU a worker. `chunk`, `checkpointing`: others than the preset's."""
    config = PRESETS[preset]()
    chosen = config.training[stage]
    scaling = replace(chosen.train.scaling, gpus_per_worker=1.0)
    if checkpointing:
        scaling = replace(scaling, activation_checkpointing=checkpointing)
    task = chosen.task if chunk < 0 else replace(chosen.task, contrastive_chunk=chunk)
    train = replace(chosen.train, precision=precision, scaling=scaling)
    recipe = StageRecipe(config.model, task, train, config.pair_text_length)
    return GPUStage(recipe, config.packed_text_length)


def _loaded(recipe: StageRecipe, modality: str, lengths: range) -> dict[str, Tensor]:
    """A worker's batch as the loaders give it, on the CPU, with texts of `lengths` in turn."""
    rows = recipe.train.batch_sizes[modality] // recipe.train.scaling.num_workers
    side = recipe.model.image_size
    pixels = torch.zeros(rows, 3, side, side, dtype=torch.uint8)
    patches = torch.rand(rows, recipe.model.num_patches)
    if modality == "image":
        return {"pixels": pixels, "noise": patches}
    ids = torch.full((rows, max(lengths)), SpecialIds.first_word)
    ids[:, 0] = SpecialIds.cls
    for row, length in zip(ids, itertools.cycle(lengths), strict=False):
        row[length - 1], row[length:] = SpecialIds.sep, SpecialIds.pad
    words = torch.rand(*ids.shape, 3)
    if modality == "text":
        return {"ids": ids, "noise": words}
    noise = {"noise_image": patches, "noise_text": words, "noise_match": torch.rand(rows)}
    return {"pixels": pixels, "ids": ids, **noise}


def _on_host(stage: GPUStage, shortest: float) -> dict[str, Any]:
    """The batches of a step, as a task prepares them before they are copied."""
    recipe, found = stage.recipe, {}
    with torch.device("meta"):
        task = MoMoTask(build_model(recipe.model), recipe.task)
    for modality in recipe.task.modalities:
        longest = recipe.pair_text_length if modality == "pair" else stage.packed_text_length
        lengths = range(max(3, round(shortest * longest)), longest + 1)
        found[modality] = task.on_host(modality, _loaded(recipe, modality, lengths))
    return found


def _as_in_the_midst(trainer: Trainer) -> None:
    """As before any later update of a worker among several: the optimizer has its moments, and
    gradients stay, as DDP's buckets do, whose views they are."""
    optimizer: Any = trainer.optimizer
    for parameter in trainer.task.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    zero = partial(optimizer.zero_grad, set_to_none=False)
    optimizer.zero_grad = lambda set_to_none=True: zero()


def measure_update(stage: GPUStage, *, diagnose: bool = False, shortest: float = 1.0) -> Measured:
    """What one worker's update costs, and its waits. `diagnose`: an update that is logged.
    `shortest`: texts have from so much of their greatest length up to all of it."""
    device = torch.device("cuda")
    batches, recipe = _on_host(stage, shortest), stage.recipe
    with fake_cuda() as record:
        with device:
            task = MoMoTask(build_model(recipe.model), recipe.task)
        setup = TrainingSetup(task, dict.fromkeys(recipe.task.modalities), lambda *_: None)
        trainer = Trainer(setup, recipe.train, Path("/nowhere"), device=device)
        _as_in_the_midst(trainer)
        there: Any = {m: to_device(batch, device) for m, batch in batches.items()}
        with record.measure() as measured:
            result = trainer._update(0, there, diagnose=diagnose)
            trainer._verdicts.add(0, dict.fromkeys(there, 0), result, trainer._stop_flag())
            # The loop asks a step later: as many waits.
            trainer._settle(None, everything=True)
    return measured
