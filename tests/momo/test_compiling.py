"""The task's regions compiled: the same losses and gradients, few graphs, none of them broken.

`COMPILED` stands for inductor up to the code that it writes: the same graphs, divided in the same
way between forward and backward, run by eager kernels.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from making_batches import CONFIG, make_batch
from torch._dynamo.utils import counters

from momo import packing
from momo.block import Block
from momo.config import TaskConfig
from momo.model import build_model
from momo.packing import Sequences
from momo.tasks import MoMoTask
from momo_platform.training.compiling import compile_regions
from momo_platform.training.gradients import backward_pass, flat_gradient
from momo_platform.training.task import TouchedTask

ALL = ("image", "text", "pair")
COMPILED = "aot_eager_decomp_partition"
LIMIT = 8
"""torch's own for the graphs of one function."""


@pytest.fixture(autouse=True)
def compiler(tmp_path, monkeypatch):
    """As `compile_regions` sets it up, but with torch's own limit, whose excess fails."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    compile_regions(torch.nn.Linear(1, 1))
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True, recompile_limit=LIMIT):
        yield
    torch._dynamo.reset()


def make_task(config=None, model=CONFIG, checkpointing: Any = "none"):
    task = MoMoTask(build_model(model, seed=1), config or TaskConfig())
    if checkpointing != "none":
        task.enable_activation_checkpointing(checkpointing)
    return task


def compiled(task, backend=COMPILED):
    for region in task.regions():
        region.compile(backend=backend, dynamic=True, fullgraph=True)  # no breaks
    return task


def gradient(task, modalities=ALL, rows=8, size=0):
    batches = {name: make_batch(name, rows=rows, seed=rows) for name in modalities}
    prepared = {name: task.on_host(name, batch) for name, batch in batches.items()}
    task.zero_grad()
    module = TouchedTask(task)

    def split(modality, batch):
        return task.split(modality, batch, size) if size else (batch,)

    result = backward_pass(module, prepared, task.weights, "accumulate", split=split)
    return flat_gradient(module), result.read()


def assert_equal_to_eager(task, eager, **options):
    (found, losses), (expected, eager_losses) = (
        gradient(task, **options),
        gradient(eager, **options),
    )
    assert losses == pytest.approx(eager_losses, rel=1e-5)
    assert (found - expected).norm() < 1e-5 * expected.norm()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def assert_equal_in_all_ways(task, eager, modalities):
    for rows in (8, 6):
        assert_equal_to_eager(task, eager, modalities=modalities, rows=rows)
    assert_equal_to_eager(task, eager, modalities=modalities, size=4)
    if "pair" in modalities:
        task.config = replace(task.config, contrastive_chunk=3)
        assert_equal_to_eager(task, eager, modalities=modalities)
    assert counters["stats"]["unique_graphs"] <= 6
    assert not counters["graph_break"]


@pytest.mark.parametrize(("checkpointing", "towers"), [("elementwise", 0), ("none", 1)])
def test_batches_of_all_shapes_fit_into_the_compilers_limit(checkpointing, towers):
    task = make_task(model=replace(CONFIG, tower_depth=towers), checkpointing=checkpointing)
    compiled(task, "eager")
    for rows in (8, 6, 4, 7):
        for length in (6, 12, 9):
            pair = make_batch("pair", rows=rows)
            for name in ("ids", "noise_text"):
                pair[name] = pair[name][:, :length]
            for batch in (pair, pair | {"ids": pair["ids"].clamp_min(5)}):  # and no padding
                torch.stack([x.sum for x in task("pair", batch).values()]).sum().backward()
        task("image", make_batch("image", rows=rows))
        task("text", make_batch("text", rows=rows))
    blocks = 5 if towers else 4
    assert counters["stats"]["unique_graphs"] == blocks + 2  # the heads for words and matching


def test_compiled_with_elementwise_it_is_equal_to_eager():
    """All that inductor is given, in all modalities."""
    config = TaskConfig(matching_group=2)
    eager, task = make_task(config), compiled(make_task(config, checkpointing="elementwise"))
    assert_equal_in_all_ways(task, eager, ALL)


@pytest.mark.slow
@pytest.mark.parametrize("modalities", [("text",), ALL], ids=["text", "all"])
def test_inductors_code_with_elementwise_is_equal_to_eager(modalities):
    config = TaskConfig(modalities=modalities, matching_group=2)
    eager, task = make_task(config), make_task(config, checkpointing="elementwise")
    compile_regions(task)
    assert_equal_in_all_ways(task, eager, modalities)


def packed_block(device="cpu"):
    """A block in bf16 and what it takes: tokens of five sequences, of which it makes some."""
    torch.manual_seed(0)
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16)
        try:
            block, x = Block(64, 4), torch.empty(50, 64)
        finally:
            torch.set_default_dtype(torch.float32)
        offsets, asked = (torch.empty(6, dtype=torch.int32) for _ in range(2))
        wanted = torch.empty(20, dtype=torch.int64)
    return block, (x, None, wanted, Sequences(offsets, 17), Sequences(asked, 9))


@pytest.mark.skipif(packing.varlen_attn is None, reason="this torch has no varlen_attn")
@pytest.mark.parametrize("checkpointing", [False, True], ids=["none", "elementwise"])
def test_attention_of_unequal_lengths_is_one_operator_of_a_compiled_block(checkpointing):
    """On a GPU in bf16, of which there are only the shapes here."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    with FakeTensorMode():
        block, inputs = packed_block("cuda")
        block.recompute_elementwise = checkpointing
        block.compile(backend=backend, dynamic=True, fullgraph=True)
        tokens = block(*inputs)
    assert (tokens.shape, tokens.dtype, tokens.device.type) == ((20, 64), torch.bfloat16, "cuda")
    [graph] = graphs
    called = [str(node.target) for node in graph.graph.nodes]
    assert sum("_varlen_attn" in name for name in called) == 1
    assert not any("scaled_dot_product" in name or "repeat_interleave" in name for name in called)


@pytest.mark.skipif(packing.varlen_attn is None, reason="this torch has no varlen_attn")
def test_attention_of_unequal_lengths_has_a_compiled_backward(monkeypatch):
    """The operator's shapes are the same on every device, and autograd's engine wants a real one:
    so on the CPU, again without values."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    monkeypatch.setattr(packing, "has_kernel", lambda query: True)
    with FakeTensorMode():
        block, inputs = packed_block()
        block.recompute_elementwise = True
        block.compile(backend=COMPILED, dynamic=True, fullgraph=True)
        tokens = block(*inputs)
        tokens.sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.shape == parameter.shape
