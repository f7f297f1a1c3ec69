"""Costs from shapes alone, beside what torch has."""

import dataclasses
import subprocess
import sys

import pytest
import torch

from momo.config import SIZES, ModelConfig, TaskConfig
from momo.cost import (
    activation_bytes,
    encoder_passes,
    parameter_counts,
    state_bytes,
    trained_parameters,
)
from momo.model import build_model, encoder_parameters
from momo.tasks import MoMoTask

CONFIG = ModelConfig(64, 8, 512, 128, 4, 4, 4.0, 64, 64, 2, 4, 64)
TASKS = {
    "image": TaskConfig(modalities=("image",)),
    "text": TaskConfig(modalities=("text",)),
    "pair": TaskConfig(modalities=("pair",)),
    "pair, separate passes": TaskConfig(modalities=("pair",), shared_passes=False),
}


def batch_of(modality: str, rows: int = 16, length: int = 48) -> dict[str, torch.Tensor]:
    pixels = torch.randint(0, 255, (rows, 3, 64, 64), dtype=torch.uint8)
    ids = torch.randint(5, CONFIG.vocab_size, (rows, length))
    patches, words = torch.rand(rows, CONFIG.num_patches), torch.rand(rows, length, 3)
    if modality == "image":
        return {"pixels": pixels, "noise": patches}
    if modality == "text":
        return {"ids": ids, "noise": words}
    noise = {"noise_image": patches, "noise_text": words, "noise_match": torch.rand(rows)}
    return {"pixels": pixels, "ids": ids, **noise}


WITH_NORMS = dataclasses.replace(CONFIG, image_norm=True, text_norm=True, mlp_ratio=3.7361112)


@pytest.mark.parametrize("config", [CONFIG, SIZES["demo"], SIZES["base"], WITH_NORMS], ids=str)
def test_parameters_are_counted_without_torch(config):
    with torch.device("meta"):
        model = build_model(config)
    counts = parameter_counts(config)
    assert sum(counts.values()) == sum(p.numel() for p in model.parameters())
    encoder = counts["blocks"] + counts["image_embedding"] + counts["text_embedding"]
    assert encoder == encoder_parameters(model)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_trained_parameters_are_those_that_are_not_frozen(task):
    model = MoMoTask(build_model(CONFIG), task)
    found = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained_parameters(CONFIG, task) == found


def kept_bytes(task: MoMoTask, modality: str, *, half: bool = False) -> int:
    """Bytes that autograd keeps, each storage once, weights not counted."""
    weights = {p.untyped_storage().data_ptr() for p in task.parameters()}
    kept: dict[int, int] = {}
    alive = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            alive.append(tensor)  # so that no storage takes another's address
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        task(modality, batch_of(modality))
    return sum(kept.values())


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("modality", TASKS)
def test_activations_are_what_autograd_keeps(modality, half):
    """And what the last loss makes on its way, which is much where pictures are small."""
    torch.manual_seed(0)
    task = MoMoTask(build_model(CONFIG), TASKS[modality])
    modality = modality.partition(",")[0]
    passes = encoder_passes(task.config, modality, batch_of(modality))
    estimate = activation_bytes(CONFIG, passes, half=half)
    found = estimate / kept_bytes(task, modality, half=half)
    assert 0.8 < found < (1.3 if modality == "image" else 1.2)


def test_less_is_kept_with_checkpointing_and_gradient_caching():
    passes = encoder_passes(TASKS["pair"], "pair", batch_of("pair"))
    plain = activation_bytes(CONFIG, passes)
    cached = activation_bytes(CONFIG, passes, chunk=4)
    assert activation_bytes(CONFIG, passes, checkpointing="blocks", chunk=4) < cached < plain


def test_rows_are_those_of_the_noise():
    batch = {"flat": torch.zeros(999), **batch_of("image")}
    assert encoder_passes(TASKS["image"], "image", batch)[0].rows == 16


def test_state_is_sixteen_bytes_a_parameter():
    assert state_bytes(10) == 160
    assert state_bytes(10, frozen=5, ema=True) == 220
    assert state_bytes(10, shards=4) == 40


def test_no_torch_is_imported():
    code = "import momo.cost, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
