"""Batches in parts: losses and gradients of the whole."""

from functools import partial

import pytest
import torch
from making_batches import CONFIG, make_batch

from momo.config import TaskConfig
from momo.modalities import MODALITIES
from momo.model import build_model
from momo.tasks import MoMoTask
from momo_platform.training.gradients import backward_pass, flat_gradient
from momo_platform.training.task import TouchedTask

CONFIGS = {
    "all": TaskConfig(matching_group=4),
    "chunk": TaskConfig(matching_group=4, contrastive_chunk=3),
    "separate": TaskConfig(matching_group=4, shared_passes=False),
    "no-contrast": TaskConfig(matching_group=4, contrastive=0.0),
    "no-matching": TaskConfig(matching=0.0),
    "contrast": TaskConfig(matching=0.0, pair_mlm=0.0, pair_mim=0.0),
}


def update(config, size, batches):
    task = MoMoTask(build_model(CONFIG, seed=1), config)
    module = TouchedTask(task)
    prepared = {name: task.on_host(name, batch) for name, batch in batches.items()}
    divide = partial(task.split, size=size)
    result = backward_pass(module, prepared, task.weights, "accumulate", split=divide)
    assert result.finite
    return result.read(), flat_gradient(module)


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("name", CONFIGS)
def test_parts_equal_the_whole(name, size):
    batches = {m: make_batch(m, rows=12) for m in MODALITIES}
    expected, gradient = update(CONFIGS[name], 12, batches)
    found, of_parts = update(CONFIGS[name], size, batches)
    assert found == pytest.approx(expected, rel=1e-5)
    assert ((of_parts - gradient).norm() / gradient.norm()).item() < 1e-6


def test_false_pairs_that_can_not_be_drawn_count_nowhere():
    batch = make_batch("pair", rows=12)
    batch["ids"][:4] = batch["ids"][:1]
    config = TaskConfig(modalities=("pair",), matching_group=4)
    expected, _ = update(config, 12, {"pair": batch})
    found, _ = update(config, 4, {"pair": batch})
    assert found == pytest.approx(expected, rel=1e-5)


def test_parts_keep_fewer_activations():
    """What autograd keeps of a part at a time is a third of what it keeps of the batch."""
    task = MoMoTask(build_model(CONFIG, seed=1), TaskConfig(modalities=("image",)))
    batch = make_batch("image", rows=12)

    def kept_of(part):
        sizes = []
        pack = lambda t: sizes.append(t.numel()) or t  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            task("image", part)
        return sum(sizes)

    def kept(parts):
        return max(kept_of(part) for part in parts)

    weights = sum(p.numel() for p in task.parameters())
    whole, parts = kept([batch]), kept(task.split("image", batch, 4))
    assert parts < whole / 3 + weights


def test_groups_are_not_cut():
    with pytest.raises(ValueError, match="multiple of task.matching_group=8"):
        update(TaskConfig(matching_group=8), 4, {"pair": make_batch("pair", rows=16)})
