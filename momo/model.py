"""The shared encoder and its heads.

Shapes: B batch, N patches, K kept patches, T text tokens, D width, E embedding.
"""

from __future__ import annotations

import math

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

from momo.config import ModelConfig
from momo.masking import PAD

IMAGE, TEXT = 0, 1
PIXEL_MEAN, PIXEL_STD = 0.5, 0.5


def patchify(pixels: Tensor, patch: int) -> Tensor:
    """[B, C, H, W] → [B, N, C·patch·patch] by reshape (`F.unfold` is slow on CPUs)."""
    batch, channels, height, width = pixels.shape
    rows, columns = height // patch, width // patch
    x = pixels.reshape(batch, channels, rows, patch, columns, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, -1)


def unpatchify(patches: Tensor, patch: int, channels: int = 3) -> Tensor:
    """The inverse of `patchify` for square pictures."""
    batch, count, _ = patches.shape
    side = math.isqrt(count)
    x = patches.reshape(batch, side, side, channels, patch, patch)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels, side * patch, side * patch)


def normalise_pixels(pixels: Tensor) -> Tensor:
    """uint8 [B, 3, H, W] → float in [-1, 1]."""
    return (pixels.float() / 255.0 - PIXEL_MEAN) / PIXEL_STD


def _take(tokens: Tensor, index: Tensor) -> Tensor:
    """Rows `index` [B, K] of `tokens` [B, N, D]."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


class PixelDecoder(nn.Module):
    """MAE's decoder: mask tokens join the visible ones only here."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.decoder_width
        self.embed = nn.Linear(config.width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, config.num_patches, width))
        self.blocks = nn.ModuleList(
            Block(width, config.decoder_heads, config.mlp_ratio, qkv_bias=True)
            for _ in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, config.patch_values)

    def forward(self, visible: Tensor, keep: Tensor) -> Tensor:
        """Visible tokens [B, K, D] and their indices [B, K] → pixels of all patches [B, N, P]."""
        x = self.embed(visible)
        index = keep.unsqueeze(-1).expand(-1, -1, x.shape[-1])
        full = self.mask_token.expand(len(x), self.position.shape[1], -1).scatter(1, index, x)
        full = full + self.position
        for block in self.blocks:
            full = block(full)
        return self.predict(self.norm(full))


class MoMo(nn.Module):
    """One transformer for text, images and pairs; every block processes every modality."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.patch = nn.Linear(config.patch_values, width)
        self.token = nn.Embedding(config.vocab_size, width, padding_idx=PAD)
        self.image_position = nn.Parameter(torch.zeros(1, config.num_patches, width))
        self.text_position = nn.Parameter(torch.zeros(1, config.max_text_length, width))
        self.modality = nn.Parameter(torch.zeros(2, width))
        self.image_cls = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.mlp_ratio, qkv_bias=True) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width)

        self.decoder = PixelDecoder(config)
        self.mlm_transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.mlm_bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.image_projection = nn.Linear(width, config.embed_dim, bias=False)
        self.text_projection = nn.Linear(width, config.embed_dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.matching = nn.Linear(width, 2)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for parameter in (
            self.image_position,
            self.text_position,
            self.modality,
            self.image_cls,
            self.decoder.mask_token,
            self.decoder.position,
            self.token.weight,
        ):
            nn.init.normal_(parameter, std=0.02)
        with torch.no_grad():
            self.token.weight[PAD].zero_()

    def encoder_parameters(self) -> int:
        """Parameters of the encoder with its embeddings, heads and decoder left out."""
        parts = (self.patch, self.token, self.blocks, self.norm)
        loose = (self.image_position, self.text_position, self.modality, self.image_cls)
        count = sum(p.numel() for part in parts for p in part.parameters())
        return count + sum(p.numel() for p in loose)

    def embed_image(self, pixels: Tensor, keep: Tensor | None = None) -> Tensor:
        """[B, 3, H, W] → `[CLS]` and (kept) patch embeddings [B, 1 + K, D]."""
        x = self.patch(patchify(pixels, self.config.patch_size)) + self.image_position
        if keep is not None:
            x = _take(x, keep)
        cls = self.image_cls.expand(len(x), -1, -1)
        return torch.cat([cls, x], dim=1) + self.modality[IMAGE]

    def embed_text(self, ids: Tensor) -> Tensor:
        """[B, T] → [B, T, D]."""
        return self.token(ids) + self.text_position[:, : ids.shape[1]] + self.modality[TEXT]

    def encode(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """All blocks over a sequence [B, L, D]; `valid` bool [B, L] hides padding."""
        mask = None if valid is None else valid[:, None, None, :]
        for block in self.blocks:
            x = block(x, attn_mask=mask)
        return self.norm(x)

    def encode_image(self, pixels: Tensor, keep: Tensor | None = None) -> Tensor:
        """[B, 3, H, W] → [B, 1 + K, D]; masked patches never enter."""
        return self.encode(self.embed_image(pixels, keep))

    def encode_text(self, ids: Tensor) -> Tensor:
        """[B, T] (PAD = 0, first token `[CLS]`) → [B, T, D]."""
        return self.encode(self.embed_text(ids), ids != PAD)

    def encode_pair(
        self, pixels: Tensor, ids: Tensor, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Image and text in one sequence → ([B, 1 + K, D], [B, T, D])."""
        image, text = self.embed_image(pixels, keep), self.embed_text(ids)
        seen = torch.ones(image.shape[:2], dtype=torch.bool, device=ids.device)
        x = self.encode(torch.cat([image, text], dim=1), torch.cat([seen, ids != PAD], dim=1))
        return x[:, : image.shape[1]], x[:, image.shape[1] :]

    def mlm_logits(self, tokens: Tensor) -> Tensor:
        """[M, D] → [M, vocabulary], weights tied to the token embeddings."""
        return functional.linear(self.mlm_transform(tokens), self.token.weight, self.mlm_bias)

    def project_image(self, tokens: Tensor) -> Tensor:
        """Unit vectors [B, E] of image tokens [B, 1 + N, D]: `[CLS]` plus the patches' mean."""
        return functional.normalize(self.image_projection(pool_image(tokens)), dim=-1)

    def project_text(self, tokens: Tensor, ids: Tensor) -> Tensor:
        """Unit vectors [B, E] of text tokens [B, T, D]: `[CLS]` plus the words' mean."""
        return functional.normalize(self.text_projection(pool_text(tokens, ids)), dim=-1)


def pool_image(tokens: Tensor) -> Tensor:
    """`[CLS]` plus the mean of the patches, [B, D]."""
    return tokens[:, 0] + tokens[:, 1:].mean(dim=1)


def pool_text(tokens: Tensor, ids: Tensor) -> Tensor:
    """`[CLS]` plus the mean over tokens that are not padding, [B, D]."""
    valid = (ids != PAD).unsqueeze(-1).to(tokens.dtype)
    return tokens[:, 0] + (tokens * valid).sum(dim=1) / valid.sum(dim=1)
