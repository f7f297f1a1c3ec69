"""FLAVA as the comparison trains it, beside `transformers`' own class."""

import dataclasses

import pytest
import torch

from experiments.budget import base_config
from experiments.flava import NAMES, arms, compute, recipes, shape_of
from experiments.flava_baseline.config import FlavaRecipe, FlavaShape
from experiments.flava_baseline.task import FlavaTask, build_flava
from momo.embeddings import normalise_pixels
from momo.model import build_model, encoder_parameters
from momo_platform.training.config import TrainConfig
from momo_platform.training.gradients import modalities_of_step
from tests.momo.test_cost import batch_of

SHAPE = FlavaShape(image_size=64, patch_size=8, vocab_size=512, width=32, depth=2, heads=2)
CODES = torch.randn(SHAPE.codebook_size, 3 * 8**2, generator=torch.Generator().manual_seed(0))


def task_of(*modalities, itm_ratio=0.1):
    recipe = FlavaRecipe(SHAPE, modalities, TrainConfig(1, {}), 32, itm_ratio=itm_ratio)
    return FlavaTask(build_flava(SHAPE, 3), recipe, CODES)


def test_pictures_and_texts_alone_have_the_losses_of_the_published_class():
    task = task_of("image", "text")
    batch = batch_of("image")
    masked = task._patch_mask(batch["noise"])
    theirs = task.model(
        pixel_values=normalise_pixels(batch["pixels"]),
        bool_masked_pos=masked,
        mim_labels=task._visual_words(batch["pixels"]),
        return_loss=True,
    )
    ours = task("image", batch)["mim"]
    assert (ours.sum / ours.count).item() == pytest.approx(theirs.loss_info.mim.item(), rel=1e-5)
    assert masked.float().mean().item() == pytest.approx(0.4, abs=0.01)

    batch = batch_of("text")
    ids, labels = task._masked(batch["ids"], batch["noise"])
    theirs = task.model(
        input_ids=batch["ids"],
        input_ids_masked=ids,
        attention_mask=torch.ones_like(ids),
        mlm_labels=labels,
        return_loss=True,
    )
    ours = task("text", batch)["mlm"]
    assert (ours.sum / ours.count).item() == pytest.approx(theirs.loss_info.mlm.item(), rel=1e-5)


def test_a_true_pairs_text_is_nobody_elses():
    task = task_of("pair", itm_ratio=0.5)
    batch = batch_of("pair", rows=40)
    seen = {}

    def note(**given):
        seen.update(given)
        raise InterruptedError

    task.model.forward = note
    with pytest.raises(InterruptedError):
        task("pair", batch)
    true = seen["itm_labels"].bool()
    texts = seen["input_ids"]
    assert 5 < int(true.sum()) < 35
    assert torch.equal(texts[true], batch["ids"][true])
    for row in torch.nonzero(~true).flatten():
        assert not torch.equal(texts[row], batch["ids"][row])
        assert any(torch.equal(texts[row], other) for other in batch["ids"][~true])


@pytest.mark.parametrize("modality", ["image", "text", "pair"])
def test_only_what_a_stage_uses_is_trained(modality):
    task = task_of(modality)
    losses = task(modality, batch_of(modality))
    torch.stack([loss.sum for loss in losses.values()]).sum().backward()
    trained = [(n, p) for n, p in task.named_parameters() if p.requires_grad]
    assert [n for n, p in trained if p.grad is None] == []


def test_it_has_more_than_twice_the_parameters_and_sees_the_same_samples():
    base = base_config("hour")
    theirs = build_flava(shape_of(base), 0).flava
    ours = encoder_parameters(build_model(base.model))
    assert sum(p.numel() for p in theirs.parameters()) >= 2.2 * ours
    images, text, joint = (recipe.train for recipe in recipes(base))
    assert len(NAMES) == 3

    def samples(stage, modality):
        return stage.train.steps * stage.train.batch_sizes[modality]

    assert images.steps * images.batch_sizes["image"] == samples(base.stage1, "image")
    assert text.steps * text.batch_sizes["text"] == samples(base.stage2, "text")
    order = [
        modalities_of_step("alternate", ("image", "text", "pair"), 7, step, joint.steps)[0]
        for step in range(joint.steps)
    ]
    used = {m: order.count(m) * joint.batch_sizes[m] for m in ("image", "text", "pair")}
    assert used["text"] == samples(base.stage3, "text")
    assert used["pair"] == samples(base.stage3, "pair")
    assert used["image"] == pytest.approx(samples(base.stage2, "image"), rel=0.01)
    equal = arms(base)["FLAVA, equal compute"]["steps"]
    assert compute(base, recipes(base, steps=equal)) == pytest.approx(compute(base), rel=0.02)


def test_the_shape_follows_momos():
    config = base_config("hour")
    wide = dataclasses.replace(config, model=dataclasses.replace(config.model, width=256, heads=8))
    assert (shape_of(wide).width, shape_of(wide).heads) == (256, 8)
