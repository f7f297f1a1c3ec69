"""Frozen features of the encoder, in batches."""

from __future__ import annotations

import numpy as np
import torch

from momo.embeddings import normalise_pixels
from momo.model import MoMo, mean_of_tokens


@torch.inference_mode()
def image_features(model: MoMo, pixels: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """uint8 [N, 3, H, W] → float32 [N, depth · width]: each block's mean over the patches.

    Every layer counts, since masked modelling leaves its linear features in the middle ones.
    """
    model.eval()
    parts = []
    for start in range(0, len(pixels), batch_size):
        batch = normalise_pixels(torch.from_numpy(pixels[start : start + batch_size]))
        tokens = model.image_embedding(batch)
        layers = []
        for block in model.blocks:
            tokens = block(tokens)
            layers.append(model.norm(tokens)[:, 1:].mean(dim=1))
        parts.append(torch.cat(layers, dim=1).numpy())
    return np.concatenate(parts)


@torch.inference_mode()
def text_features(model: MoMo, ids: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """int64 [N, T] → float32 [N, width]: the tokens' mean."""
    model.eval()
    parts = []
    for start in range(0, len(ids), batch_size):
        batch = torch.from_numpy(ids[start : start + batch_size])
        mask = batch != 0
        parts.append(mean_of_tokens(model.encode_text(batch, mask), mask).numpy())
    return np.concatenate(parts)
