"""Training FLOP a row, counted by torch over a forward and a backward of both models."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments.flava_baseline.config import FlavaRecipe, FlavaShape
from experiments.flava_baseline.task import FlavaTask, build_flava
from momo.config import ModelConfig, TaskConfig
from momo.model import build_model
from momo.tasks import MoMoTask
from momo_platform.training.config import TrainConfig
from pipelines.modalities import MODALITIES

_ROWS = 16  # enough that hard negatives are a part of the batch


def _batch(
    modality: str, side: int, patches: int, vocabulary: int, length: int
) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    noise = torch.rand(_ROWS, patches, generator=draw)
    batch: dict[str, torch.Tensor] = {}
    if modality != "text":
        batch["pixels"] = torch.randint(0, 256, (_ROWS, 3, side, side), generator=draw).byte()
        batch["noise" if modality == "image" else "noise_image"] = noise
    if modality != "image":
        ids = torch.randint(5, vocabulary, (_ROWS, length), generator=draw)
        ids[:, 0], ids[:, -1] = 2, 3
        batch["ids"] = ids
        words = torch.rand(_ROWS, length, 3, generator=draw)
        batch["noise" if modality == "text" else "noise_text"] = words
    if modality == "pair":
        batch["noise_match"] = torch.rand(_ROWS, generator=draw)
    return batch


def _counted(task: torch.nn.Module, modality: str, batch: dict[str, torch.Tensor]) -> float:
    with FlopCounterMode(display=False) as counter:
        losses = task(modality, batch)
        torch.stack(
            [loss.sum / loss.count.clamp_min(1) for loss in losses.values()]
        ).sum().backward()
    return counter.get_total_flops() / _ROWS


def momo_flops(
    model: ModelConfig, task: TaskConfig, text_length: int, packed_length: int
) -> dict[str, float]:
    """Modality → FLOP a row, of the modalities that the task has; texts at their full length."""
    ours = MoMoTask(build_model(model), task)
    lengths = {m: MODALITIES[m].text_length(packed_length, text_length) for m in task.modalities}
    size = (model.image_size, model.num_patches, model.vocab_size)
    return {m: _counted(ours, m, _batch(m, *size, lengths[m])) for m in task.modalities}


def flava_flops(shape: FlavaShape, text_length: int, packed_length: int) -> dict[str, float]:
    """As `momo_flops`, for FLAVA's joint stage."""
    modalities = ("image", "text", "pair")
    recipe = FlavaRecipe(shape, modalities, TrainConfig(1, {}), text_length)
    codes = torch.zeros(shape.codebook_size, 3 * shape.patch_size**2)
    theirs = FlavaTask(build_flava(shape, 0), recipe, codes)
    lengths = {m: MODALITIES[m].text_length(packed_length, text_length) for m in modalities}
    size = (shape.image_size, shape.num_patches, shape.vocab_size)
    return {m: _counted(theirs, m, _batch(m, *size, lengths[m])) for m in modalities}
