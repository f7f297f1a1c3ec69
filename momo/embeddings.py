"""Pixels and token ids into the encoder's width, with position and modality embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from momo.model_config import ModelConfig

# ImageNet statistics, those of the public MAE and ViT checkpoints.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)
BERT_EPS = 1e-12  # what BERT's norms add to the variance


def normalise_pixels(pixels: Tensor) -> Tensor:
    """uint8 [B, 3, H, W] → float32 [B, 3, H, W], ImageNet mean and deviation."""
    mean, std = (_by_channel(values, pixels.device) for values in (PIXEL_MEAN, PIXEL_STD))
    return (pixels.float() / 255.0 - mean) / std


def _by_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """[1, 3, 1, 1], made on the device: copied there from a list, it would be waited for."""
    return torch.stack([torch.full((), v, device=device) for v in values]).view(1, 3, 1, 1)


def patchify(pixels: Tensor, patch_size: int) -> Tensor:
    """[B, 3, H, W] → [B, patches, 3·p·p], patches row by row, values in (row, column, channel).
    Raises ValueError for sides that are not whole patches."""
    batch, channels, height, width = pixels.shape
    p = patch_size
    if height % p or width % p:
        raise ValueError(f"pictures of {height}×{width} pixels are not whole patches of {p}×{p}")
    if pixels.device.type != "cpu":
        x = pixels.reshape(batch, channels, height // p, p, width // p, p)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, p * p * channels)
    # Channels first go beside each other: rows of patches are then copied as a whole.
    x = pixels.permute(0, 2, 3, 1).contiguous().view(batch, height // p, p, width // p, -1)
    return x.transpose(2, 3).reshape(batch, -1, p * p * channels)


def normalised_patches(pixels: Tensor, patch_size: int) -> Tensor:
    """uint8 [B, 3, H, W] → float32 [B, patches, 3·p·p]: what `patchify` makes of
    `normalise_pixels`, to the bit. Bytes are turned, not floats, and made floats in one place."""
    patches = patchify(pixels, patch_size).float()
    mean, std = (
        _by_channel(values, pixels.device).flatten().repeat(patch_size**2)
        for values in (PIXEL_MEAN, PIXEL_STD)
    )
    return patches.div_(255.0).sub_(mean).div_(std)


def unpatchify(patches: Tensor, patch_size: int) -> Tensor:
    """Inverse of `patchify` for square pictures: [B, patches, 3·p·p] → [B, 3, H, W]."""
    batch, count, _ = patches.shape
    side, p = round(count**0.5), patch_size
    x = patches.reshape(batch, side, side, p, p, 3).permute(0, 5, 1, 3, 2, 4)
    return x.reshape(batch, 3, side * p, side * p)


def sine_cosine_positions(side: int, width: int) -> Tensor:
    """Two-dimensional sine-cosine table [side², width] (MAE, arXiv 2111.06377, appendix A)."""
    frequencies = 10000.0 ** (-torch.arange(width // 4).float() / (width // 4))
    angles = torch.arange(side).float()[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows = line[:, None].expand(side, side, -1)
    columns = line[None].expand(side, side, -1)
    return torch.cat([rows, columns], dim=-1).reshape(side * side, width)


def take_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """`tokens` [B, N, D], `index` [B, K] → [B, K, D]."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


class ImageEmbedding(nn.Module):
    """Patch projection, learned positions (sine-cosine at first), modality, [CLS], and a norm where
    the config has `image_norm`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch_size, self.image_size = config.patch_size, config.image_size
        self.projection = nn.Linear(3 * config.patch_size**2, config.width)
        self.cls = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + config.num_patches, config.width))
        self.modality = nn.Parameter(torch.zeros(1, 1, config.width))
        norm = nn.LayerNorm(config.width, eps=config.norm_eps) if config.image_norm else None
        self.norm: nn.LayerNorm | None = norm

    def reset(self) -> None:
        nn.init.normal_(self.cls, std=0.02)
        nn.init.normal_(self.modality, std=0.02)
        side = self.image_size // self.patch_size
        with torch.no_grad():
            self.positions.zero_()
            self.positions[0, 1:] = sine_cosine_positions(side, self.positions.shape[-1])

    def forward(self, pixels: Tensor, keep: Tensor | None = None) -> Tensor:
        """`pixels` float [B, 3, H, W], `keep` [B, K] or None (all) → [B, 1 + K, D]."""
        self.check_size(pixels)
        return self.of_patches(patchify(pixels, self.patch_size), keep)

    def check_size(self, pixels: Tensor) -> None:
        """Raises ValueError for pictures [B, 3, H, W] of another size than the model's."""
        if pixels.shape[-2:] != (self.image_size, self.image_size):
            raise ValueError(
                f"pixels are {tuple(pixels.shape[-2:])}, the model takes "
                f"{self.image_size}×{self.image_size}: resize them first"
            )

    def of_patches(self, patches: Tensor, keep: Tensor | None = None) -> Tensor:
        """As `forward`, from what `patchify` makes of the pixels, [B, N, 3·p·p]."""
        positions = self.positions[:, 1:]
        if keep is not None:  # before the projection: masked patches cost nothing
            patches = take_tokens(patches, keep)
            positions = take_tokens(positions.expand(keep.shape[0], -1, -1), keep)
        patches = self.projection(patches) + positions
        cls = (self.cls + self.positions[:, :1]).expand(patches.shape[0], -1, -1)
        tokens = torch.cat([cls.to(patches.dtype), patches], dim=1) + self.modality
        return tokens if self.norm is None else self.norm(tokens)


class TextEmbedding(nn.Module):
    """WordPiece embeddings, learned positions and modality, and a norm with `text_norm`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Parameter(torch.zeros(1, config.max_text_length, config.width))
        self.modality = nn.Parameter(torch.zeros(1, 1, config.width))
        norm = nn.LayerNorm(config.width, eps=BERT_EPS) if config.text_norm else None
        self.norm: nn.LayerNorm | None = norm
        self.std = 1.0 if config.text_init == "unit" else 0.02

    def reset(self) -> None:
        for parameter in (self.words.weight, self.positions):
            nn.init.normal_(parameter, std=self.std)
        nn.init.normal_(self.modality, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """`ids` [B, T] int64 → [B, T, D]. Raises `ValueError` beyond the learned positions."""
        length, longest = ids.shape[1], self.positions.shape[1]
        if length > longest:
            raise ValueError(
                f"text of {length} tokens, but model.max_text_length is {longest}: truncate it"
            )
        return self._normed(self.words(ids) + self.positions[:, :length] + self.modality)

    def packed(self, ids: Tensor, places: Tensor) -> Tensor:
        """`ids` and their `places` in their texts, int64 [S] → [S, D]."""
        where = nn.functional.embedding(places, self.positions[0])
        return self._normed(self.words(ids) + where + self.modality[0])

    def _normed(self, tokens: Tensor) -> Tensor:
        return tokens if self.norm is None else self.norm(tokens)
