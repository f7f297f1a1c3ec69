"""What sits on the encoder in training: pixel decoder, word, projection and matching heads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from momo.block import Block, through
from momo.embeddings import sine_cosine_positions
from momo.model_config import ModelConfig

MAX_LOG_SCALE = math.log(100.0)


class PixelDecoder(nn.Module):
    """MAE's decoder: encoded patches and mask tokens → pixels of every patch."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.decoder_width
        self.input = nn.Linear(config.width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + config.num_patches, width))
        self.blocks = nn.ModuleList(
            Block(width, config.decoder_heads, config.mlp_ratio)
            for _ in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.output = nn.Linear(width, 3 * config.patch_size**2)
        self.side = config.image_size // config.patch_size

    def reset(self) -> None:
        nn.init.normal_(self.mask_token, std=0.02)
        with torch.no_grad():
            self.positions.zero_()
            self.positions[0, 1:] = sine_cosine_positions(self.side, self.positions.shape[-1])

    def forward(self, image_tokens: Tensor, keep: Tensor, wanted: Tensor | None = None) -> Tensor:
        """`image_tokens` [B, 1 + K, D] ([CLS] first), `keep` [B, K] → [B, patches, 3·p·p].

        `wanted` [B, M]: only these patches come out, [B, M, 3·p·p], and the last block computes no
        others.
        """
        x = self.input(image_tokens)
        batch, _, width = x.shape
        patches = self.mask_token.to(x.dtype).expand(batch, self.side**2, width)
        patches = patches.scatter(1, keep.unsqueeze(-1).expand(-1, -1, width), x[:, 1:])
        x = torch.cat([x[:, :1], patches], dim=1) + self.positions
        x = through(self.blocks, x, queries=None if wanted is None else 1 + wanted)
        if wanted is None or not self.blocks:
            x = x[:, 1:]
        return self.output(self.norm(x))


class WordHead(nn.Module):
    """BERT's masked-word head; its output matrix is the word embedding itself (tied)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.transform = nn.Linear(config.width, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, tokens: Tensor, words: Tensor) -> Tensor:
        """`tokens` [M, D] (masked positions only), `words` [V, D] → logits [M, V]."""
        x = self.norm(nn.functional.gelu(self.transform(tokens)))
        return nn.functional.linear(x, words, self.bias)


class ContrastiveHead(nn.Module):
    """Projections into the shared space and a learned temperature (CLIP, arXiv 2103.00020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.image = nn.Linear(config.width, config.embed_dim, bias=False)
        self.text = nn.Linear(config.width, config.embed_dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def reset(self) -> None:
        nn.init.constant_(self.log_scale, math.log(1 / 0.07))

    @torch.no_grad()
    def limit_scale(self) -> None:
        """Clamp the parameter itself: to be called after every update."""
        self.log_scale.clamp_(max=MAX_LOG_SCALE)

    def clamped_log_scale(self) -> Tensor:
        """Log of the inverse temperature, at most log 100.

        Where a gradient is wanted the parameter is clamped, too: one that came in above the limit
        (from another model, or a loop that doesn't call `limit_scale`) would have a gradient of 0
        through the clamp and stay there for good.
        """
        if not (self.log_scale.requires_grad and torch.is_grad_enabled()):
            return self.log_scale.clamp(max=MAX_LOG_SCALE)
        self.limit_scale()
        return self.log_scale


class MatchingHead(nn.Module):
    """Does this text belong to this picture? One logit from the joint [CLS] token."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.width, config.width)
        self.output = nn.Linear(config.width, 1)

    def forward(self, cls: Tensor) -> Tensor:
        """[B, D] → [B]."""
        return self.output(nn.functional.gelu(self.hidden(cls))).squeeze(-1)
