"""FLAVA as the comparison trains it, beside `transformers`' own class."""

import dataclasses
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from prepared_rows import artifact, mixed, prepared
from pretend_cuda import cuda_device

from experiments.budget import base_config
from experiments.flava import NAMES, arms, compute, recipes, shape_of
from experiments.flava_baseline.config import CodebookConfig, FlavaRecipe, FlavaShape
from experiments.flava_baseline.stages import Codebook, run_codebook
from experiments.flava_baseline.task import FlavaTask, build_flava
from momo.embeddings import normalise_pixels
from momo.model import build_model, encoder_parameters
from momo_platform.stages import UserError
from momo_platform.training.config import TrainConfig
from momo_platform.training.turns import modalities_of_step
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


@pytest.mark.parametrize("modality", ["image", "text", "pair"])
def test_losses_and_counts_are_where_the_batch_is(modality):
    task, batch = task_of(modality).eval(), batch_of(modality)
    with torch.inference_mode():
        expected = task(modality, batch)
    with cuda_device() as device, torch.inference_mode():
        there = task_of(modality).eval().to(device)
        found = there(modality, {name: value.to(device) for name, value in batch.items()})
        for name, loss in found.items():
            assert loss.sum.device.type == loss.count.device.type == "cuda"
            torch.testing.assert_close(loss.sum.cpu(), expected[name].sum, rtol=1e-4, atol=1e-4)


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

    assert images.steps * images.batch_sizes["image"] == samples(
        base.training["stage1-image"], "image"
    )
    assert text.steps * text.batch_sizes["text"] == samples(base.training["stage2-joint"], "text")
    order = [
        modalities_of_step("alternate", ("image", "text", "pair"), 7, step, joint.steps)[0]
        for step in range(joint.steps)
    ]
    used = {m: order.count(m) * joint.batch_sizes[m] for m in ("image", "text", "pair")}
    assert used["text"] == samples(base.training["stage3-pair"], "text")
    assert used["pair"] == samples(base.training["stage3-pair"], "pair")
    assert used["image"] == pytest.approx(samples(base.training["stage2-joint"], "image"), rel=0.01)
    equal = arms(base)["FLAVA, equal compute"]["steps"]
    assert compute(base, recipes(base, steps=equal)) == pytest.approx(compute(base), rel=0.02)


def test_the_shape_follows_momos():
    config = base_config("hour")
    wide = dataclasses.replace(config, model=dataclasses.replace(config.model, width=256, heads=8))
    assert (shape_of(wide).width, shape_of(wide).heads) == (256, 8)


def codebook_of(folder, pictures, size=8):
    """The stage's codes and what it reports, from pictures uint8 [B, 16, 16, 3]."""
    raw = []
    for pixels in pictures:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        raw.append(buffer.getvalue())
    rows = prepared(folder / "rows", {"image": raw})
    inputs = {"image": artifact(mixed(folder, rows, ["image"])), "rows": artifact(rows)}
    config = CodebookConfig(size=size, image_size=16, patch_size=8)
    reported = run_codebook(config, inputs, SimpleNamespace(output=folder))
    return np.load(Codebook(folder).file), reported


def test_a_patch_counts_once_for_the_codebook_however_often_and_wherever_it_is(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3)).astype(np.uint8)
    pictures[10:, :, 8:] = 255  # blank halves
    codes, reported = codebook_of(tmp_path / "a", pictures)
    again, same = codebook_of(tmp_path / "b", np.concatenate([pictures[::-1], pictures[10:]]))
    assert codes.shape == (8, 3 * 8**2)
    assert codes.dtype == np.float32
    assert (reported["patches"], reported["used"]) == (10 * 4 + 20 * 2 + 1, 8)
    assert same == reported
    assert np.array_equal(codes, again)


def test_a_codebook_larger_than_its_patches_says_so(tmp_path):
    white = np.full((5, 16, 16, 3), 255, np.uint8)
    with pytest.raises(UserError, match="1 distinct patches for 8 visual words: more pictures"):
        codebook_of(tmp_path, white)
