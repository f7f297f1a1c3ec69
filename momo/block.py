"""The transformer block, in the layout of timm's vision transformer.

Names, shapes and results are those of `timm.models.vision_transformer.Block` (a test compares
them), so that public MAE weights fit. Ours because importing timm's costs every process of a run
2.5 s: it brings all of timm's models and torchvision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from momo.embeddings import take_tokens

T = TypeVar("T", Tensor, tuple[Tensor, ...])


@dataclass(frozen=True)
class Pack:
    """`rows` sequences of `length` tokens that lie one after another among others' tokens, with
    `mask` bool [rows, 1, 1, length] or None."""

    rows: int
    length: int
    mask: Tensor | None = None


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def project(self, x: Tensor) -> tuple[Tensor, ...]:
        """`x` [B, N, D] → query, key, value, each [B, heads, N, d]."""
        return self._by_head(self.qkv(x), 3)

    def query(self, x: Tensor) -> tuple[Tensor, ...]:
        """`x` [B, M, D] → query [B, heads, M, d]."""
        width = x.shape[-1]
        return self._by_head(linear(x, self.qkv.weight[:width], self.qkv.bias[:width]), 1)

    def key_value(self, x: Tensor) -> tuple[Tensor, ...]:
        """`x` [B, N, D] → key, value, each [B, heads, N, d]."""
        width = x.shape[-1]
        return self._by_head(linear(x, self.qkv.weight[width:], self.qkv.bias[width:]), 2)

    def _by_head(self, projected: Tensor, parts: int) -> tuple[Tensor, ...]:
        # Divided along the last dimension: the backward pass then writes each part in its place
        # once, instead of stacking the parts and turning the stack.
        each = (part.unflatten(-1, (self.heads, -1)) for part in projected.chunk(parts, dim=-1))
        return tuple(part.transpose(1, 2) for part in each)

    def forward(self, projected: tuple[Tensor, ...], mask: Tensor | None = None) -> Tensor:
        """Query of M, key and value of N tokens, `mask` bool broadcastable to [B, heads, M, N] or
        None → [B, M, D]."""
        return self.proj(_attend(projected, mask))

    def forward_packed(self, projected: Tensor, packed: Sequence[Pack]) -> Tensor:
        """`qkv` of all tokens of `packed` [S, 3·D] → [S, D]."""
        parts = projected.split([pack.rows * pack.length for pack in packed])
        seen = [
            _attend(
                self._by_head(part.unflatten(0, (pack.rows, pack.length)), 3), pack.mask
            ).flatten(0, 1)
            for part, pack in zip(parts, packed, strict=True)
        ]
        return self.proj(torch.cat(seen))


def _attend(projected: tuple[Tensor, ...], mask: Tensor | None) -> Tensor:
    seen = scaled_dot_product_attention(*projected, attn_mask=mask)
    return seen.transpose(1, 2).flatten(2)


def _add_to(product: Tensor, x: Tensor) -> Tensor:
    """`x + product`, in the product's memory: no backward needs a linear layer's result. Not where
    autocast made it half as wide as the residual stream."""
    return product.add_(x) if product.dtype == x.dtype else x + product


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
        self,
        x: Tensor,
        mask: Tensor | None = None,
        queries: Tensor | None = None,
        packed: Sequence[Pack] = (),
    ) -> Tensor:
        """`x` [B, N, D], `mask` as `Attention` takes it → [B, N, D].

        `queries` int64 [B, M]: only these tokens come out, [B, M, D]; they see all. `packed`: `x`
        [S, D] are the tokens of these sequences, which see their own only → [S, D].
        """
        keep = self._keep_inputs
        if packed:
            projected = keep(lambda t: self.attn.qkv(self.norm1(t)), x)
            product = self.attn.forward_packed(projected, packed)
        elif queries is None:
            product = self.attn(keep(lambda t: self.attn.project(self.norm1(t)), x), mask)
        else:
            query = keep(lambda t: self.attn.query(self.norm1(take_tokens(t, queries))), x)
            key_value = keep(lambda t: self.attn.key_value(self.norm1(t)), x)
            product, x = self.attn((*query, *key_value), mask), take_tokens(x, queries)
        x = _add_to(product, x)
        hidden = keep(lambda t: self.mlp.fc1(self.norm2(t)), x)
        product = keep(lambda t: self.mlp.fc2(self.mlp.act(t)), hidden)
        # Sharded by FSDP2, a block has another class, whose hooks a returned view could lose.
        return _add_to(product, x) if type(self) is Block else x + product

    def _keep_inputs(self, layers: Callable[[Tensor], T], x: Tensor) -> T:
        """An elementwise layer and a product. With `recompute_elementwise`, only `x` is kept for
        the backward pass: it makes the product's input again, and stops before the product."""
        if not (self.recompute_elementwise and torch.is_grad_enabled()):
            return layers(x)
        return checkpoint(layers, x, use_reentrant=False, preserve_rng_state=False)


def through(
    blocks: nn.ModuleList,
    x: Tensor,
    mask: Tensor | None = None,
    queries: Tensor | None = None,
    packed: Sequence[Pack] = (),
) -> Tensor:
    """`x` through all blocks, as `Block` takes it; `queries` are those of the last one."""
    last = len(blocks) - 1
    for index, block in enumerate(blocks):
        x = block(x, mask, queries if index == last else None, packed)
    return x
