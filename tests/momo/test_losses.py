import math

import pytest
import torch

from momo.losses import (
    contrastive_loss,
    hard_negatives,
    matching_loss,
    mim_loss,
    mlm_loss,
    pair_keys,
)


def unit(rows, width=8, seed=0):
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(x, dim=-1)


def test_mim_is_the_mean_square_of_normalised_pixels():
    patches = torch.randn(2, 3, 12)
    target = (patches - patches.mean(-1, keepdim=True)) / patches.std(-1, keepdim=True)
    loss = mim_loss(target, patches)
    assert loss.count == 6
    assert loss.sum.item() == pytest.approx(0.0, abs=1e-4)
    assert mim_loss(target + 2.0, patches).sum.item() == pytest.approx(24.0, rel=1e-3)


def test_mlm_equals_cross_entropy_and_survives_no_words():
    logits, targets = torch.randn(6, 11, requires_grad=True), torch.randint(0, 11, (6,))
    loss = mlm_loss(logits, targets)
    expected = -logits.log_softmax(-1)[torch.arange(6), targets].sum()
    torch.testing.assert_close(loss.sum, expected)
    empty = mlm_loss(logits[:0], targets[:0])
    empty.sum.backward()
    assert empty.count == 0
    assert empty.sum == 0
    assert torch.isfinite(empty.metrics["accuracy"])


def test_contrastive_of_equal_embeddings_is_log_of_batch():
    same = unit(1).expand(8, -1)
    loss = contrastive_loss(same, same, torch.tensor(1.0))
    assert (loss.sum / loss.count).item() == pytest.approx(math.log(8), rel=1e-5)


def test_pairs_of_one_caption_or_group_are_no_negatives():
    ids = torch.tensor([[2, 9, 3, 0], [2, 8, 3, 0], [2, 9, 3, 0], [2, 7, 3, 0]])
    assert torch.equal(pair_keys(ids), pair_keys(ids[:, :3]))
    keys = pair_keys(ids, torch.tensor([1, 2, 3, 2]))
    image, text = unit(4), unit(4, seed=1)
    logits = 2.0 * image @ text.T
    for a, b in ((0, 2), (2, 0), (1, 3), (3, 1)):
        logits[a, b] = float("-inf")
    expected = -0.5 * (logits.log_softmax(1).diag() + logits.T.log_softmax(1).diag()).sum()
    loss = contrastive_loss(image, text, torch.tensor(2.0).log(), keys)
    torch.testing.assert_close(loss.sum, expected)


def test_hard_negatives_follow_the_softmax_and_the_noise():
    similarity = torch.tensor([[5.0, 1.0, 0.0, 2.0]]).expand(4000, 4)
    excluded = torch.tensor([[True, False, False, False]]).expand(4000, 4)
    noise = torch.rand(4000, generator=torch.Generator().manual_seed(0))
    index, valid = hard_negatives(similarity, excluded, noise)
    assert valid.all()
    share = torch.bincount(index, minlength=4) / 4000
    expected = torch.cat([torch.zeros(1), torch.tensor([1.0, 0.0, 2.0]).softmax(0)])
    torch.testing.assert_close(share, expected, atol=0.03, rtol=0)
    assert torch.equal(index, hard_negatives(similarity, excluded, noise)[0])
    edge = torch.tensor([0.0, 1.0 - 2**-24])
    assert hard_negatives(similarity[:2], excluded[:2], edge)[0].tolist() == [1, 3]
    assert not hard_negatives(similarity[:2], torch.ones(2, 4).bool(), edge)[1].any()


def test_matching_loss():
    loss = matching_loss(torch.tensor([0.0, 0.0, 3.0]), torch.tensor([True, False, True]))
    expected = 2 * math.log(2) + math.log1p(math.exp(-3.0))
    assert loss.sum.item() == pytest.approx(expected, rel=1e-5)
    assert loss.metrics["accuracy"].item() == pytest.approx(2 / 3)
