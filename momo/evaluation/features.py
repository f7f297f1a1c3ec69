"""Frozen features of the encoder, in batches."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from momo.embeddings import normalise_pixels
from momo.model import MoMo, mean_of_tokens


@torch.inference_mode()
def image_features(model: MoMo, pixels: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """uint8 [N, 3, H, W] → float32 [N, cells · width]: the last block's patch tokens, averaged
    over the cells of a grid of at most 4×4.

    Masked modelling leaves place and content in the patch tokens; their overall mean, which has
    no place, probes far worse (docs/experiments.md).
    """
    model.eval()
    parts = []
    for start in range(0, len(pixels), batch_size):
        batch = normalise_pixels(torch.from_numpy(pixels[start : start + batch_size]))
        tokens = model.encode_image(batch)[:, 1:]
        side = math.isqrt(tokens.shape[1])
        grid = tokens.transpose(1, 2).unflatten(2, (side, side))
        cells = nn.functional.adaptive_avg_pool2d(grid, min(side, 4))
        parts.append(cells.flatten(1).numpy())
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
