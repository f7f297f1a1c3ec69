"""FLAVA's topology by `tower_depth`: counts, cost, gradients, fine-tuning's layers."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from momo.config import ModelConfig, TaskConfig
from momo.cost import encoder_passes, parameter_counts, trained_parameters, training_flops
from momo.evaluation.momo_encoder import MoMoTrunk
from momo.model import build_model, encoder_parameters
from momo.tasks import MoMoTask
from tests.momo.test_cost import CONFIG as SHARED
from tests.momo.test_cost import batch_of

CONFIG = dataclasses.replace(SHARED, depth=2, tower_depth=3)


def test_parameters_are_counted_by_part():
    model, counts = build_model(CONFIG), parameter_counts(CONFIG)
    assert sum(counts.values()) == sum(p.numel() for p in model.parameters())
    towers = counts["image_tower"] + counts["text_tower"]
    embeddings = counts["image_embedding"] + counts["text_embedding"]
    assert encoder_parameters(model) == towers + counts["blocks"] + embeddings
    assert len(model.encoder_blocks()) == 3 + 3 + 2
    shared = dataclasses.replace(CONFIG, tower_depth=0)
    assert build_model(shared).image_tower is None
    assert parameter_counts(shared)["image_tower"] == 0


@pytest.mark.parametrize("modality", ["image", "text", "pair"])
def test_only_what_a_modality_uses_is_trained_and_all_of_it_gets_a_gradient(modality):
    config = TaskConfig(modalities=(modality,))
    task = MoMoTask(build_model(CONFIG), config)
    losses = task(modality, batch_of(modality))
    torch.stack([loss.sum for loss in losses.values()]).sum().backward()
    trained = [(n, p) for n, p in task.named_parameters() if p.requires_grad]
    assert [n for n, p in trained if p.grad is None] == []
    assert trained_parameters(CONFIG, config) == sum(p.numel() for _, p in trained)
    names = {n.split(".")[1] for n, _ in trained}
    assert ("image_tower" in names, "text_tower" in names, "blocks" in names) == {
        "image": (True, False, False),
        "text": (False, True, False),
        "pair": (True, True, True),
    }[modality]


@pytest.mark.parametrize("modality", ["image", "text", "pair"])
def test_training_flops_are_those_that_torch_counts(modality):
    config = TaskConfig(modalities=(modality,))
    task = MoMoTask(build_model(CONFIG), config)
    batch = batch_of(modality)
    with FlopCounterMode(display=False) as counter:
        losses = task(modality, batch)
        torch.stack([loss.sum for loss in losses.values()]).sum().backward()
    counted = training_flops(CONFIG, encoder_passes(config, modality, batch))
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.12)


def test_a_pair_goes_through_both_towers_and_then_on():
    model = build_model(CONFIG).eval()
    batch = batch_of("pair")
    pixels = torch.randn(len(batch["ids"]), 3, 64, 64)
    mask = batch["ids"] != 0
    with torch.no_grad():
        image, text = model.encode_pair(pixels, batch["ids"], mask)
        alone_image, alone_text = model.encode_image(pixels), model.encode_text(batch["ids"], mask)
        joint = torch.cat([alone_image, alone_text], dim=1)
        seen = torch.cat([torch.ones(len(mask), image.shape[1], dtype=torch.bool), mask], dim=1)
        for block in model.blocks:
            joint = block(joint, seen[:, None, None, :])
        joint = model.norm(joint)
    torch.testing.assert_close(image, joint[:, : image.shape[1]])
    torch.testing.assert_close(text[mask], joint[:, image.shape[1] :][mask])


def test_layers_of_fine_tuning_hold_every_encoder_parameter_once():
    model = build_model(CONFIG)
    layers = MoMoTrunk(model).layers()
    found = [id(p) for layer in layers for p in layer]
    assert len(found) == len(set(found))
    assert sum(p.numel() for layer in layers for p in layer) == encoder_parameters(model)


def test_words_are_drawn_as_asked():
    unit = build_model(dataclasses.replace(CONFIG, text_init="unit"))
    ids = torch.randint(5, CONFIG.vocab_size, (8, 12))
    pixels = torch.randn(8, 3, CONFIG.image_size, CONFIG.image_size)
    small = build_model(CONFIG).text_embedding(ids).std().item()
    assert small == pytest.approx(0.035, rel=0.1)
    patches = unit.image_embedding(pixels)[:, 1:].std().item()
    assert 0.5 < unit.text_embedding(ids).std().item() / patches < 2.0
    hidden = torch.randn(64, CONFIG.width)
    assert unit.word_logits(hidden).std().item() == pytest.approx(1.0, rel=0.2)
    with pytest.raises(ValueError, match="text_init='large'"):
        ModelConfig(text_init="large")  # type: ignore[arg-type]


def test_linear_layers_are_drawn_as_asked():
    normal = build_model(dataclasses.replace(CONFIG, linear_init="normal"))
    xavier = build_model(CONFIG)
    assert normal.blocks[0].mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert xavier.blocks[0].mlp.fc1.weight.std().item() == pytest.approx(0.056, rel=0.05)
    with pytest.raises(ValueError, match="linear_init='he'"):
        ModelConfig(linear_init="he")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tower_depth=-1"):
        ModelConfig(tower_depth=-1)
