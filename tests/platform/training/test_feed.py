"""The feed between loaders and update: inline and a step ahead."""

import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

from momo_platform.training.feed import Feed
from tests.platform.training.toy import ToyLoader
from tests.platform.training.toy_runs import assert_same_bits, config, make_trainer, weights

CPU = torch.device("cpu")


class Facts:
    """No tensor: it stays on the host."""


class Prepared(nn.Module):
    """A task that prepares batches, and says where."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def on_host(self, modality, batch):
        self.calls.append(("host", modality, threading.current_thread().name))
        return batch | {"doubled": batch["x"] * 2, "facts": Facts()}

    def on_device(self, modality, batch):
        assert isinstance(batch["facts"], Facts)
        self.calls.append(("device", modality, threading.current_thread().name))
        return {"sum": batch["doubled"].sum(1), **batch}


def feed(loaders, *, ahead, task=None, first=0, last=6, modalities=None, used=None):
    modalities = modalities or (lambda step: tuple(loaders))
    used = used or dict.fromkeys(loaders, first)
    task = task or nn.Module()
    return Feed(task, loaders, CPU, modalities, used, first, last, ahead=ahead)


@pytest.mark.parametrize("ahead", [False, True])
def test_batches_are_the_loaders_in_order(ahead):
    loaders = {n: ToyLoader(n, 8) for n in "ab"}

    def turns(step):
        return ("a",) if step % 3 else ("a", "b")

    one = feed(loaders, ahead=ahead, first=3, modalities=turns, used={"a": 3, "b": 1})
    for step, b in ((3, 1), (4, None), (5, None)):
        batches = one.next().device
        assert tuple(batches) == turns(step)
        assert torch.equal(batches["a"]["x"], torch.from_numpy(loaders["a"].batch(step)["x"]))
        if b is not None:
            assert torch.equal(batches["b"]["x"], torch.from_numpy(loaders["b"].batch(b)["x"]))
    one.close()


@pytest.mark.parametrize("ahead", [False, True])
def test_a_task_prepares_batches_before_and_after_the_copy(ahead):
    task = Prepared()
    one = feed({"a": ToyLoader("a", 8)}, ahead=ahead, task=task, last=1)
    fed = one.next()
    one.close()
    assert [(where, modality) for where, modality, _ in task.calls] == [
        ("host", "a"),
        ("device", "a"),
    ]
    here = threading.current_thread().name
    assert all((name != here) == ahead for *_, name in task.calls)
    assert "sum" not in fed.host["a"]
    assert torch.equal(fed.device["a"]["sum"], 2 * fed.host["a"]["x"].sum(1))


class Counting(ToyLoader):
    """Counts what was taken; `broken` is the first step that fails."""

    broken = 10**9

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.taken = 0

    def batch(self, step):
        if step >= self.broken:
            raise RuntimeError(f"step {step} is broken")
        self.taken += 1
        return super().batch(step)


def eventually(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_step_ahead_and_no_further():
    loader = Counting("a", 8)
    one = feed({"a": loader}, ahead=True, last=3)
    assert loader.taken == 0
    for taken in (2, 3, 3):  # the last step has none after it
        one.next()
        eventually(lambda taken=taken: loader.taken == taken)
        time.sleep(0.02)
        assert loader.taken == taken
    one.close()


@pytest.mark.parametrize("ahead", [False, True])
def test_an_error_surfaces_at_its_step(ahead):
    loader = Counting("a", 8)
    loader.broken = 2
    one = feed({"a": loader}, ahead=ahead)
    one.next()
    one.next()
    with pytest.raises(RuntimeError, match="step 2 is broken"):
        one.next()
    one.close()


def test_close_ends_the_thread():
    before = set(threading.enumerate())
    one = feed({"a": Counting("a", 8)}, ahead=True)
    one.next()
    assert set(threading.enumerate()) - before
    one.close()
    assert not set(threading.enumerate()) - before
    with pytest.raises(ValueError, match="closed"):
        one.next()


class Resident(ToyLoader):
    def resident(self, device, report):
        report(f"loaded on {device}")
        return {"table": torch.arange(4, device=device)}


def test_what_is_resident_belongs_to_every_batch_on_the_device():
    said = []
    loaders = {"a": Resident("a", 8), "b": ToyLoader("b", 8)}
    one = Feed(
        *(nn.Module(), loaders, CPU, lambda _: tuple(loaders), {"a": 0, "b": 0}, 0, 2),
        report=said.append,
    )
    first, second = one.next(), one.next()
    assert said == ["loaded on cpu"]
    assert first.device["a"]["table"] is second.device["a"]["table"]
    assert "table" not in first.host["a"]
    assert "table" not in first.device["b"]


def test_a_run_a_step_ahead_is_the_run_inline_bit_for_bit(tmp_path, monkeypatch):
    inline = make_trainer(0, 1, tmp_path / "inline", config(steps=8, checkpoint_every=4))
    inline.run()
    from momo_platform.training import loop

    def threaded(*arguments, **options):
        return Feed(*arguments, **options, ahead=True)

    monkeypatch.setattr(loop, "Feed", threaded)
    ahead = make_trainer(0, 1, tmp_path / "ahead", config(steps=8, checkpoint_every=4))
    ahead.run()
    assert_same_bits(weights(inline), weights(ahead))


def test_arrays_that_are_not_contiguous_are_taken():
    class Transposed(ToyLoader):
        def batch(self, step):
            return {"x": np.arange(6).reshape(2, 3).T}

    found = feed({"a": Transposed("a", 8)}, ahead=False).next().device["a"]["x"]
    assert found.tolist() == [[0, 3], [1, 4], [2, 5]]
