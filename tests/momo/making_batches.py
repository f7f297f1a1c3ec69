"""Small batches whose randomness is a function of a seed."""

from __future__ import annotations

import torch

from momo.config import ModelConfig

CONFIG = ModelConfig(
    image_size=32,
    patch_size=8,
    vocab_size=97,
    width=32,
    depth=2,
    heads=2,
    max_text_length=24,
    decoder_width=16,
    decoder_heads=2,
    embed_dim=16,
)


def make_batch(modality: str, rows: int = 8, seed: int = 0, length: int = 16) -> dict:
    """A batch as `MoMoTask` takes it, for `CONFIG`."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(rows, 3, 4, 4, generator=g)  # smooth, so that masked parts can be guessed
    smooth = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")
    pixels = (smooth * 255).to(torch.uint8)
    ids = torch.randint(5, CONFIG.vocab_size, (rows, length), generator=g)
    lengths = torch.randint(4, length + 1, (rows,), generator=g)
    ids[:, 0] = 2
    for row, n in enumerate(lengths.tolist()):
        ids[row, n - 1] = 3
        ids[row, n:] = 0
    patches = torch.rand(rows, CONFIG.num_patches, generator=g)
    words = torch.rand(rows, length, 3, generator=g)
    if modality == "image":
        return {"pixels": pixels, "noise": patches}
    if modality == "text":
        return {"ids": ids, "noise": words}
    return {
        "pixels": pixels,
        "ids": ids,
        "noise_image": patches,
        "noise_text": words,
        "noise_match": torch.rand(rows, generator=g),
    }
