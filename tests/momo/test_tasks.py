import dataclasses

import pytest
import torch
from making_batches import make_batch

from momo.config import TaskConfig
from momo.masking import trim_padding
from momo.tasks import MoMoTask


def total(task, modality, batch):
    losses = task(modality, batch)
    return sum(task.weights[name] * loss.sum / loss.count for name, loss in losses.items())


@pytest.mark.parametrize(
    "modality, names",
    [
        ("image", {"mim"}),
        ("text", {"mlm"}),
        ("pair", {"contrastive", "matching", "pair_mlm", "pair_mim"}),
    ],
)
def test_every_modality_learns_and_repeats_to_the_bit(model, modality, names):
    task = MoMoTask(model, TaskConfig())
    batch = make_batch(modality)
    assert set(task(modality, batch)) == names
    torch.manual_seed(0)
    total(task, modality, batch).backward()
    first = {n: p.grad.clone() for n, p in task.named_parameters() if p.grad is not None}
    task.zero_grad()
    torch.manual_seed(9)
    total(task, modality, batch).backward()
    for name, gradient in first.items():
        assert torch.equal(dict(task.named_parameters())[name].grad, gradient), name

    optimizer = torch.optim.Adam(task.parameters(), lr=3e-3)
    before = total(task, modality, batch).item()
    for _ in range(100):
        optimizer.zero_grad()
        total(task, modality, batch).backward()
        optimizer.step()
    assert total(task, modality, batch).item() < 0.8 * before


@pytest.mark.parametrize(
    "modalities", [("image",), ("image", "text"), ("text", "pair"), ("image", "text", "pair")]
)
def test_exactly_the_trainable_parameters_get_gradients(model, modalities):
    task = MoMoTask(model, TaskConfig(modalities=modalities))
    for modality in modalities:
        total(task, modality, make_batch(modality)).backward()
    for name, parameter in task.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name


def test_separate_passes_mask_only_what_they_predict(model):
    batch = make_batch("pair")
    # Other masks: matching in its own pass sees neither, in the shared pass both.
    noise = {n: 1 - batch[n] for n in ("noise_image", "noise_text")}
    for shared in (False, True):
        task = MoMoTask(model, TaskConfig(shared_passes=shared))
        losses = (task("pair", b)["matching"].sum for b in (batch, batch | noise))
        assert torch.equal(*losses) is not shared
    task = MoMoTask(model, TaskConfig(shared_passes=False))
    losses = task("pair", batch)
    assert set(losses) == {"contrastive", "matching", "pair_mlm", "pair_mim"}
    unmasked = batch | {"pixels": batch["pixels"].flip(0)}
    # The words' pass sees the whole picture: with another half hidden its loss stays as it is.
    other = dict(batch, noise_image=1 - batch["noise_image"])
    again = task("pair", other)
    torch.testing.assert_close(again["pair_mlm"].sum, losses["pair_mlm"].sum)
    assert again["pair_mim"].sum != losses["pair_mim"].sum
    assert task("pair", unmasked)["pair_mlm"].sum != losses["pair_mlm"].sum
    assert task.flops("pair", batch) > 1.5 * MoMoTask(model, TaskConfig()).flops("pair", batch)


def test_padding_beyond_the_longest_text_changes_nothing(model):
    task = MoMoTask(model, TaskConfig())
    batch = make_batch("pair", length=16)
    longer = dict(batch)
    longer["ids"] = torch.nn.functional.pad(batch["ids"], (0, 8))
    longer["noise_text"] = torch.nn.functional.pad(batch["noise_text"], (0, 0, 0, 8))
    for name, loss in task("pair", batch).items():
        torch.testing.assert_close(task("pair", longer)[name].sum, loss.sum)
    assert trim_padding(torch.tensor([[2, 3, 0, 0], [2, 9, 3, 0]]), multiple=2) == 4
    assert trim_padding(torch.tensor([[2, 3, 0, 0]]), multiple=2) == 2


def test_identical_captions_are_never_matching_negatives(model):
    task = MoMoTask(model, TaskConfig())
    batch = make_batch("pair")
    batch["ids"] = batch["ids"][:1].expand(8, -1).contiguous()
    loss = task("pair", batch)["matching"]
    assert loss.count == 8  # positives only
    grouped = make_batch("pair") | {"group": torch.ones(8, dtype=torch.long)}
    assert task("pair", grouped)["matching"].count == 8
    assert task("pair", make_batch("pair"))["matching"].count == 12


def test_a_single_pair_has_finite_losses(model):
    losses = MoMoTask(model, TaskConfig())("pair", make_batch("pair", rows=1))
    assert all(torch.isfinite(loss.sum) for loss in losses.values())


def test_objective_of_weight_zero_is_not_computed(model):
    config = TaskConfig(modalities=("pair",), matching=0, pair_mlm=0, pair_mim=0)
    task = MoMoTask(model, config)
    assert set(task("pair", make_batch("pair"))) == {"contrastive"}
    task = MoMoTask(model, dataclasses.replace(config, contrastive=0, matching=1))
    assert set(task("pair", make_batch("pair"))) == {"matching"}


def test_settings_that_make_no_sense_are_refused(model):
    with pytest.raises(ValueError, match="no objective"):
        TaskConfig(modalities=("image",), mim=0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        TaskConfig(image_mask_ratio=1.5)
    with pytest.raises(ValueError, match="matching_fraction=2 must lie between 0 and 1"):
        TaskConfig(matching_fraction=2)
    with pytest.raises(ValueError, match="audio"):
        TaskConfig(modalities=("audio",))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not 'text'"):
        MoMoTask(model, TaskConfig(modalities=("image",)))("text", make_batch("text"))
