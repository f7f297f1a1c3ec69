import torch

from momo.masking import mask_tokens, random_patch_keep


def test_patches_kept_are_those_with_least_noise():
    noise = torch.tensor([[0.9, 0.1, 0.5, 0.2], [0.0, 0.3, 0.2, 0.1]])
    keep, masked = random_patch_keep(noise, 0.5)
    assert keep.tolist() == [[1, 3], [0, 3]]
    assert masked.tolist() == [[0, 2], [1, 2]]


def test_extreme_ratios_keep_and_mask_at_least_one_patch():
    noise = torch.rand(3, 16)
    assert random_patch_keep(noise, 0.0)[0].shape == (3, 16)
    assert random_patch_keep(noise, 0.01)[0].shape == (3, 15)
    assert random_patch_keep(noise, 1.0)[0].shape == (3, 1)


def test_words_masked_by_share_never_special_and_at_least_one():
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 1000, (400, 64), generator=g)
    ids[:, 0] = 2
    ids[:, 40] = 3
    ids[:, 41:] = 0
    ids[0, 2] = 3
    ids[0, 3:] = 0  # one word only
    ids[1, 1] = 3
    ids[1, 2:] = 0  # none
    noise = torch.rand(400, 64, 3, generator=g)
    result = mask_tokens(ids, ids != 0, noise, vocab_size=1000, ratio=0.15)
    counts = result.selected.sum(dim=1)
    assert counts[0] == 1
    assert counts[1] == 0
    assert set(counts[2:].tolist()) == {round(39 * 0.15)}
    assert not result.selected[:, 0].any()
    assert not result.selected[(ids == 0) | (ids == 3)].any()
    assert torch.equal(result.ids[~result.selected], ids[~result.selected])
    new, old = result.ids[result.selected], ids[result.selected]
    assert abs((new == 4).float().mean().item() - 0.8) < 0.03
    assert abs((new == old).float().mean().item() - 0.1) < 0.03
    assert (new >= 4).all()
    assert (new < 1000).all()
