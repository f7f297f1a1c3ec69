"""The transformer block, in the layout of timm's vision transformer.

Names, shapes and results are those of `timm.models.vision_transformer.Block` (a test compares
them), so that public MAE weights fit. Ours because importing timm's costs every process of a run
2.5 s: it brings all of timm's models and torchvision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from momo.embeddings import take_tokens

T = TypeVar("T", Tensor, tuple[Tensor, ...])


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def project(self, x: Tensor, queries: Tensor | None = None) -> tuple[Tensor, ...]:
        """`x` [B, N, D], `queries` [B, M] or None (all) → query, key, value [B, heads, N, d]."""
        if queries is None:
            return self._by_head(self.qkv(x), 3)
        width = x.shape[-1]
        (of_queries, weight), (bias, others) = (
            tensor.tensor_split([width]) for tensor in (self.qkv.weight, self.qkv.bias)
        )
        query = self._by_head(linear(take_tokens(x, queries), of_queries, bias), 1)
        return *query, *self._by_head(linear(x, weight, others), 2)

    def _by_head(self, projected: Tensor, parts: int) -> tuple[Tensor, ...]:
        x = projected.unflatten(-1, (parts, self.heads, -1))
        return x.permute(2, 0, 3, 1, 4).unbind(0)

    def forward(self, projected: tuple[Tensor, ...], mask: Tensor | None = None) -> Tensor:
        """What `project` gives, `mask` bool broadcastable to [B, heads, M, N] or None →
        [B, M, D]."""
        seen = scaled_dot_product_attention(*projected, attn_mask=mask)
        return self.proj(seen.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two layers with GELU between."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, int(ratio * width))
        self.act = nn.GELU()
        self.fc2 = nn.Linear(int(ratio * width), width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm attention and MLP, each with its residual (Dosovitskiy et al., arXiv 2010.11929)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, mlp_ratio)
        self.recompute_elementwise = False

    def forward(
        self, x: Tensor, mask: Tensor | None = None, queries: Tensor | None = None
    ) -> Tensor:
        """`x` [B, N, D], `mask` as `Attention` takes it → [B, N, D].

        `queries` int64 [B, M]: only these tokens come out, [B, M, D]; they see all.
        """
        keep = self._keep_inputs
        qkv = keep(lambda t: self.attn.project(self.norm1(t), queries), x)
        x = (x if queries is None else take_tokens(x, queries)) + self.attn(qkv, mask)
        hidden = keep(lambda t: self.mlp.fc1(self.norm2(t)), x)
        return x + keep(lambda t: self.mlp.fc2(self.mlp.act(t)), hidden)

    def _keep_inputs(self, layers: Callable[[Tensor], T], x: Tensor) -> T:
        """An elementwise layer and a product. With `recompute_elementwise`, only `x` is kept for
        the backward pass: it makes the product's input again, and stops before the product."""
        if not (self.recompute_elementwise and torch.is_grad_enabled()):
            return layers(x)
        return checkpoint(layers, x, use_reentrant=False, preserve_rng_state=False)
