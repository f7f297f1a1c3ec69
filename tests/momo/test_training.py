"""MoMo's task under the training loop: sharding, precision, checkpointing, caching, averages."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from making_batches import CONFIG, make_batch
from torch.utils.flop_counter import FlopCounterMode

from momo.config import TaskConfig
from momo.cost import encoder_passes, training_flops
from momo.model import build_model
from momo.tasks import MoMoTask
from momo_platform.training.config import (
    LoggingConfig,
    OptimizerConfig,
    ScalingConfig,
    TrainConfig,
)
from momo_platform.training.gradients import backward_pass, flat_gradient
from momo_platform.training.loop import Trainer
from momo_platform.training.records import read_records
from momo_platform.training.task import TouchedTask, TrainingSetup
from tests.ranks import run_ranks

ALL = ("image", "text", "pair")
# Matching negatives are drawn among a rank's own rows, so they depend on the world size.
TASK = TaskConfig(matching=0)
TRAIN = TrainConfig(
    steps=6,
    batch_sizes=dict.fromkeys(ALL, 8),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=2),
    logging=LoggingConfig(every_steps=1, checkpoint_every_steps=3, tensorboard=False),
)


def make_task(config=TASK):
    return MoMoTask(build_model(CONFIG, seed=1), config)


class Batches:
    seconds_waiting = 0.0

    def __init__(self, modality, rank=0, world_size=1):
        self.modality, self.rows = modality, slice(rank * 8 // world_size, None)
        self.rows = slice(rank * 8 // world_size, (rank + 1) * 8 // world_size)

    def iterate(self, start):
        step = start
        while True:
            batch = make_batch(self.modality, seed=step)
            yield {k: np.asarray(v[self.rows]) for k, v in batch.items()}
            step += 1

    def close(self):
        pass


def make_trainer(folder, train=TRAIN, rank=0, world_size=1, task=None):
    loaders = {n: Batches(n, rank, world_size) for n in ALL}
    setup = TrainingSetup(task or make_task(), loaders, lambda *_: None)
    return Trainer(setup, train, Path(folder), rank=rank)


def losses(folder):
    records = read_records(Path(folder) / "metrics.jsonl")
    return torch.tensor([v for r in records for k, v in sorted(r.items()) if "loss/" in k])


def gradient(task, schedule="accumulate"):
    module = TouchedTask(task)
    batches = {n: make_batch(n) for n in ALL}
    result = backward_pass(module, batches, task.weights, schedule)
    return flat_gradient(module), result.read()


def relative_error(value, expected):
    return ((value - expected).norm() / expected.norm()).item()


def test_accumulate_gives_the_joint_gradient():
    assert relative_error(gradient(make_task())[0], gradient(make_task(), "joint")[0]) < 1e-6


def test_activation_checkpointing_changes_no_bit():
    plain, checkpointed = make_task(TaskConfig()), make_task(TaskConfig())
    checkpointed.enable_activation_checkpointing()
    calls = []
    checkpointed.model.blocks[0].norm1.register_forward_hook(lambda *_: calls.append(1))
    (first, first_losses), (second, second_losses) = gradient(plain), gradient(checkpointed)
    assert len(calls) == 2 * 4  # image, text, and two passes of the pairs, each twice
    assert torch.equal(first, second)
    assert first_losses == second_losses


def test_elementwise_checkpointing_changes_no_bit_and_computes_no_product_twice():
    plain, lean = make_task(TaskConfig()), make_task(TaskConfig())
    lean.enable_activation_checkpointing("elementwise")
    products, kept = [], []
    for task in (plain, lean):
        held: dict[int, torch.Tensor] = {}
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda t, held=held: held.setdefault(t.data_ptr(), t), lambda t: t
        )
        with hooks:
            for modality in ("image", "pair"):
                task(modality, make_batch(modality))
        kept.append(sum(t.numel() for t in held.values()))
        with FlopCounterMode(display=False) as counter:
            gradient(task)
        products.append(counter.get_total_flops())
        del held
    assert products[1] == products[0]
    assert kept[1] < 0.8 * kept[0]
    (first, first_losses), (second, second_losses) = gradient(plain), gradient(lean)
    assert torch.equal(first, second)
    assert first_losses == second_losses


@pytest.mark.parametrize("chunk", [1, 3, 8, 20])
def test_cached_contrastive_gradients_equal_uncached_ones(chunk):
    plain, chunked = make_task(TaskConfig()), make_task(TaskConfig(contrastive_chunk=chunk))
    sizes = []
    projection = chunked.model.image_embedding.projection
    projection.register_forward_hook(lambda _, __, y: sizes.append(len(y)))
    first, second = gradient(plain)[0], gradient(chunked)[0]
    assert relative_error(second, first) < 1e-6
    assert sizes.count(min(chunk, 8)) >= 2 * (8 // min(chunk, 8))  # forward and replay


def test_cached_contrastive_keeps_activations_of_one_chunk_only():
    """What autograd saves between forward and backward."""

    def saved(chunk):
        task = make_task(TaskConfig(modalities=("pair",), contrastive_chunk=chunk, matching=0))
        task = MoMoTask(task.model, replace(task.config, pair_mlm=0, pair_mim=0))
        held = []
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda t: held.append(t.numel()) or t, lambda t: t
        )
        with hooks:
            task("pair", make_batch("pair"))
        return sum(held)

    assert saved(2) < saved(0) / 4


def test_bf16_keeps_weights_in_fp32_and_losses_near(tmp_path):
    for precision in ("fp32", "bf16", "auto"):
        trainer = make_trainer(tmp_path / precision, replace(TRAIN, precision=precision))
        trainer.run()
        assert {p.dtype for p in trainer.task.parameters()} == {torch.float32}
    exact, bf16, auto = (losses(tmp_path / p) for p in ("fp32", "bf16", "auto"))
    assert torch.equal(exact, auto)  # no CUDA here
    assert not torch.equal(exact, bf16)
    torch.testing.assert_close(bf16, exact, rtol=0.03, atol=0.03)


@pytest.mark.slow
def test_compiled_blocks_give_the_same_losses(tmp_path):
    compiled = replace(TRAIN, scaling=ScalingConfig(compile=True))
    make_trainer(tmp_path / "plain").run()
    make_trainer(tmp_path / "compiled", compiled).run()
    torch.testing.assert_close(
        losses(tmp_path / "compiled"), losses(tmp_path / "plain"), rtol=1e-4, atol=1e-4
    )


def _rank(rank, world_size, folder, name, train):
    trainer = make_trainer(f"{folder}/{name}", train, rank, world_size)
    assert trainer.sharded == (train.scaling.sharding == "fsdp2")
    trainer.run()
    task = trainer.finish()
    torch.save(task.state_dict(), f"{folder}/{name}-{rank}.pt")


def in_two(folder, name, train):
    run_ranks(_rank, 2, str(folder), name, train)
    first, second = (torch.load(folder / f"{name}-{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(first[n], second[n]) for n in first)
    return first


def assert_close_weights(weights, expected):
    """To 1e-5, but for the biases of attention keys: softmax takes no notice of them, so their
    gradient is zero but for rounding, which Adam scales up to whole steps."""
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        difference = (weights[name] - value).abs()
        if name.endswith("attn.qkv.bias"):
            keys = slice(len(value) // 3, 2 * len(value) // 3)
            assert difference[keys].max() < TRAIN.steps * TRAIN.optimizer.learning_rate
            difference[keys] = 0.0
        assert (difference <= 1e-5 + 1e-5 * value.abs()).all(), (name, difference.max())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gradient_schedule": "joint"},
        pytest.param({"gradient_schedule": "alternate", "ema_decay": 0.8}, marks=pytest.mark.slow),
    ],
)
def test_sharded_equals_ddp(tmp_path, changes):
    ddp = replace(TRAIN, **changes)
    checkpointing = "none" if changes else "blocks"
    sharded = replace(
        ddp, scaling=ScalingConfig(sharding="fsdp2", activation_checkpointing=checkpointing)
    )
    expected = in_two(tmp_path, "ddp", ddp)
    weights = in_two(tmp_path, "fsdp2", sharded)
    assert_close_weights(weights, expected)
    torch.testing.assert_close(
        losses(tmp_path / "fsdp2"), losses(tmp_path / "ddp"), rtol=1e-5, atol=1e-5
    )


def test_a_sharded_run_goes_on_bit_for_bit_and_as_ddp(tmp_path):
    sharded = replace(TRAIN, ema_decay=0.8, scaling=ScalingConfig(sharding="fsdp2"))
    whole = in_two(tmp_path, "whole", sharded)
    for name, train in (("again", sharded), ("ddp", replace(sharded, scaling=ScalingConfig()))):
        source = tmp_path / "whole" / "step-00000003"
        (tmp_path / name).mkdir()
        (tmp_path / name / source.name).symlink_to(source)
        weights = in_two(tmp_path, name, train)
        assert_close_weights(weights, whole)
        assert name == "ddp" or all(torch.equal(weights[key], whole[key]) for key in whole)


def test_costs_are_logged(tmp_path):
    record = make_trainer(tmp_path).run()
    assert record["tokens_per_second"] > 0
    assert record["model_flops_per_second"] > 0
    assert record["peak_memory_bytes"] > 0
    assert "mfu" not in record  # a CPU's peak is not known


@pytest.mark.parametrize("modality", ALL)
def test_flops_are_what_torch_counts(modality):
    from torch.utils.flop_counter import FlopCounterMode

    task = make_task(TaskConfig())
    batch = make_batch(modality)
    with FlopCounterMode(display=False) as counter:
        sum(loss.sum for loss in task(modality, batch).values()).backward()
    passes = encoder_passes(task.config, modality, batch)
    estimate = training_flops(CONFIG, passes)
    assert estimate == task.flops(modality, batch)
    assert estimate == pytest.approx(counter.get_total_flops(), rel=0.25)
