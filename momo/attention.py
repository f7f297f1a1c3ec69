"""Where the model looks: attention to the patches of a picture."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from momo.block import through
from momo.embeddings import normalise_pixels
from momo.model import MoMo


@torch.inference_mode()
def patch_attention(model: MoMo, pixels: Tensor, ids: Tensor | None = None) -> Tensor:
    """uint8 `pixels` [1, 3, H, W] and, with a text, `ids` int64 [1, T] without padding, both where
    the model is → how much the last block's tokens attend to each patch, float32 [rows, columns],
    sum 1, there too.

    Averaged over heads; of the text's tokens where there is a text (they and the picture in one
    sequence), else of [CLS].
    """
    image = model.image_embedding(normalise_pixels(pixels))
    length, tokens, layers = image.shape[1], image, model.image_tower or model
    if ids is not None:
        text = model.text_embedding(ids)
        if model.image_tower is not None and model.text_tower is not None:
            text = model.text_tower.norm(through(model.text_tower.blocks, text))
            image = model.encode_embedded_image(image)
        tokens, layers = torch.cat([image, text], dim=1), model
    # A model with class attention hides [CLS]; here the patches' shares alone count.
    seen = torch.arange(tokens.shape[1], device=tokens.device) > 0
    mask = seen[None, None, None] if model.config.class_attention else None
    tokens = through(layers.blocks[:-1], tokens, mask)
    last: Any = layers.blocks[-1]
    projected = last.attn.project(last.norm1(tokens))
    heads = (part.unflatten(-1, (last.attn.heads, -1)).transpose(1, 2) for part in projected)
    query, key, _ = heads
    weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(dim=-1)
    rows = slice(length, None) if ids is not None else slice(0, 1)
    seen = weights[0, :, rows, 1:length].mean(dim=(0, 1)).float()
    side = model.config.image_size // model.config.patch_size
    return (seen / seen.sum()).reshape(side, side)
