"""Training on many GPUs, foretold."""

from dataclasses import replace

import pytest

from momo.cost import trained_parameters
from pipelines.estimates import device_named, estimate_stage
from pipelines.presets import PRESETS
from pipelines.scaling import Links, counts_up_to, project, ring_bytes, ring_seconds
from pipelines.training import StageRecipe

A100 = device_named("A100")


def recipe(preset="base", stage="stage3-pair"):
    config = PRESETS[preset]()
    chosen = config.training[stage]
    return StageRecipe(config.model, chosen.task, chosen.train, config.pair_text_length), config


def points(counts, **options):
    found, config = recipe()
    return [
        project("s", found, config.packed_text_length, n, A100, 0.35, **options) for n in counts
    ]


def test_a_ring_sends_what_its_paper_says():
    assert ring_bytes(100, 1) == 0
    assert ring_bytes(100, 2) == 100
    assert ring_bytes(100, 4) == 150
    assert ring_seconds(100, 4, 10.0, 1.0) == 15 + 6


def test_one_gpu_takes_what_plan_says_and_sends_nothing():
    found, config = recipe()
    (one,) = points([1])
    train = found.train
    alone = replace(train, scaling=replace(train.scaling, num_workers=1))
    planned = estimate_stage("s", replace(found, train=alone), config.packed_text_length)
    assert one.hours == pytest.approx(planned.hours(A100, 0.35))
    assert (one.sent, one.communication, one.efficiency) == (0, 0, 1)


def test_more_gpus_are_faster_and_less_efficient():
    found = points(counts_up_to(256))
    assert [p.gpus for p in found] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    hours = [p.hours for p in found]
    assert hours == sorted(hours, reverse=True)
    efficiency = [p.efficiency for p in found]
    assert efficiency == sorted(efficiency, reverse=True)
    assert all(p.hidden <= p.communication for p in found)
    memory = [p.memory for p in found[1:]]
    assert memory == sorted(memory, reverse=True)


def test_gradients_and_features_are_counted():
    found, _ = recipe()
    two = points([2])[0]
    gradients = 4 * trained_parameters(found.model, found.task)
    features = 2 * 2 * 4 * found.train.batch_sizes["pair"] * found.model.embed_dim / 2
    assert two.sent == pytest.approx(gradients + features)


def test_slow_links_cost_time_only_between_nodes():
    slow = Links(between=1e9)
    inside, outside = points([8, 16], links=slow)
    fast_inside, fast_outside = points([8, 16])
    assert inside == fast_inside
    assert outside.seconds > fast_outside.seconds
    assert outside.computing == fast_outside.computing
