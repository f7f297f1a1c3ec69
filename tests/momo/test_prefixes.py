"""The contrastive loss over prefixes: what it is, what it changes, that it is off by default."""

import json

import numpy as np
import pytest
import torch
from making_batches import CONFIG, make_batch

from momo.config import TaskConfig
from momo.embeddings import normalise_pixels
from momo.losses import contrastive_loss, pair_keys
from momo.model import build_model
from momo.tasks import MoMoTask
from momo.vectors import truncate
from momo_platform.stages import canonical

ONLY = {"matching": 0.0, "pair_mlm": 0.0, "pair_mim": 0.0}


def vectors(rows, seed):
    g = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, 16, generator=g), dim=-1)


def test_it_is_the_mean_over_prefixes_and_the_whole():
    image, text = vectors(6, 0).requires_grad_(), vectors(6, 1).requires_grad_()
    ids = torch.tensor([[2, 5, 3], [2, 6, 3], [2, 5, 3], [2, 7, 3], [2, 8, 3], [2, 9, 3]])
    scale, keys = torch.tensor(1.5, requires_grad=True), pair_keys(ids)

    def part(length):
        cut = [image, text]
        if length < 16:
            cut = [torch.nn.functional.normalize(v[:, :length], dim=-1) for v in cut]
        return contrastive_loss(*cut, scale, keys)

    parts = [part(length) for length in (16, 3, 8)]
    found = contrastive_loss(image, text, scale, keys, prefixes=(3, 8))
    torch.testing.assert_close(found.sum, sum(p.sum for p in parts) / 3)
    assert found.count == 6
    for name, one in (("accuracy", 0), ("accuracy_3", 1), ("accuracy_8", 2)):
        assert found.metrics[name] == parts[one].metrics["accuracy"]
    gradients = torch.autograd.grad(found.sum, (image, text, scale))
    wanted = torch.autograd.grad(sum(p.sum for p in parts) / 3, (image, text, scale))
    torch.testing.assert_close(gradients, wanted)


def test_without_prefixes_nothing_changes():
    image, text = vectors(6, 0), vectors(6, 1)
    scale = torch.tensor(1.5)
    logits = scale.exp() * image @ text.T
    labels = torch.arange(6)
    cross = torch.nn.functional.cross_entropy
    wanted = 0.5 * (
        cross(logits, labels, reduction="sum") + cross(logits.T, labels, reduction="sum")
    )
    found = contrastive_loss(image, text, scale)
    torch.testing.assert_close(found.sum, wanted)
    assert set(found.metrics) == {"accuracy", "scale"}
    assert "prefixes" not in json.dumps(canonical(TaskConfig()))
    assert "prefixes" in json.dumps(canonical(TaskConfig(contrastive_prefixes=(4,))))


def trained(prefixes):
    torch.manual_seed(0)
    config = TaskConfig(modalities=("pair",), contrastive_prefixes=prefixes, **ONLY)
    task, batch = MoMoTask(build_model(CONFIG, seed=1), config), make_batch("pair", rows=64)
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=2e-3)
    for _ in range(120):
        (loss,) = task("pair", batch).values()
        optimizer.zero_grad()
        (loss.sum / loss.count).backward()
        optimizer.step()
        task.after_step()
    with torch.inference_mode():
        image = task.model.eval().embed_image(normalise_pixels(batch["pixels"])).numpy()
        text = task.model.embed_text(batch["ids"], batch["ids"] != 0).numpy()
    return image, text, set(loss.metrics)


def found_first(image, text):
    """Share of pictures whose own text is the nearest."""
    return float(((image @ text.T).argmax(axis=1) == np.arange(len(image))).mean())


def test_training_puts_the_meaning_first():
    image, text, names = trained((4, 8))
    plain_image, plain_text, plain_names = trained(())
    assert names - plain_names == {"contrastive_accuracy_4", "contrastive_accuracy_8"}
    with_it = found_first(truncate(image, 4), truncate(text, 4))
    without = found_first(truncate(plain_image, 4), truncate(plain_text, 4))
    assert with_it > without + 0.1
    assert found_first(image, text) > 0.9


def test_parts_of_a_batch_add_up():
    config = TaskConfig(modalities=("pair",), contrastive_prefixes=(4, 8), **ONLY)
    task, batch = MoMoTask(build_model(CONFIG), config), make_batch("pair", rows=8)
    (whole,) = task("pair", batch).values()
    parts = [loss for part in task.split("pair", batch, 4) for loss in task("pair", part).values()]
    total = torch.stack([part.sum for part in parts]).sum()
    torch.testing.assert_close(total, whole.sum, rtol=1e-5, atol=1e-5)


def test_wrong_prefixes_are_refused():
    for wrong in ((0,), (8, 4), (4, 4), (-2, 4)):
        with pytest.raises(ValueError, match="above 0, in rising order"):
            TaskConfig(contrastive_prefixes=wrong)
    config = TaskConfig(modalities=("pair",), contrastive_prefixes=(4, 16))
    with pytest.raises(ValueError, match=r"has \[16\], and model.embed_dim=16: the whole"):
        MoMoTask(build_model(CONFIG), config)
