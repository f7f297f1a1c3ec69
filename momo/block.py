"""The transformer block, in the layout of timm's vision transformer.

Names, shapes and results are those of `timm.models.vision_transformer.Block` (a test compares
them), so that public MAE weights fit. Ours because importing timm's costs every process of a run
2.5 s: it brings all of timm's models and torchvision.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from momo.embeddings import take_tokens
from momo.model_config import Activation
from momo.packing import Sequences, attend

T = TypeVar("T", Tensor, tuple[Tensor, ...])


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def project(self, x: Tensor) -> tuple[Tensor, ...]:
        """`x` [..., D] → query, key, value, each [..., D]."""
        return self.qkv(x).chunk(3, dim=-1)

    def query(self, x: Tensor) -> Tensor:
        """`x` [..., D] → query [..., D]."""
        width = x.shape[-1]
        return linear(x, self.qkv.weight[:width], self.qkv.bias[:width])

    def key_value(self, x: Tensor) -> tuple[Tensor, ...]:
        """`x` [..., D] → key, value, each [..., D]."""
        width = x.shape[-1]
        return linear(x, self.qkv.weight[width:], self.qkv.bias[width:]).chunk(2, dim=-1)

    def forward(
        self,
        projected: tuple[Tensor, ...],
        mask: Tensor | None = None,
        sequences: Sequences | None = None,
        asked: Sequences | None = None,
    ) -> Tensor:
        """Query [B, M, D] of M, key and value [B, N, D] of N tokens, `mask` bool broadcastable to
        [B, heads, M, N] or None → [B, M, D].

        With `sequences`, query [Q, D], key and value [S, D] of these → [Q, D]; `asked` are the
        sequences of the query where they are others.
        """
        # Divided along the last dimension: the backward pass then writes each part in its place
        # once, instead of stacking the parts and turning the stack.
        query, key, value = (part.unflatten(-1, (self.heads, -1)) for part in projected)
        if sequences is not None:
            read = sequences.read
            if read is not None:
                key, value = (part.index_select(0, read.tokens) for part in (key, value))
            seen = sequences if read is None else read.sequences
            return self.proj(attend(query, key, value, asked or sequences, seen))
        heads = (part.transpose(1, 2) for part in (query, key, value))
        seen = scaled_dot_product_attention(*heads, attn_mask=mask)
        return self.proj(seen.transpose(1, 2).flatten(2))


def some_tokens(tokens: Tensor, wanted: Tensor) -> Tensor:
    """`tokens` [B, N, D] and `wanted` int64 [B, M] → [B, M, D]; [S, D] and [Q] → [Q, D]."""
    return embedding(wanted, tokens) if tokens.ndim == 2 else take_tokens(tokens, wanted)


def _add_to(product: Tensor, x: Tensor) -> Tensor:
    """`x + product`, in the product's memory: no backward needs a linear layer's result. Not where
    autocast made it half as wide as the residual stream."""
    return product.add_(x) if product.dtype == x.dtype else x + product


class QuickGELU(nn.Module):
    """CLIP's approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        """[...] → [...]."""
        return x * torch.sigmoid(1.702 * x)


_ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "quick_gelu": QuickGELU,
}


class MLP(nn.Module):
    """Two layers with an activation between."""

    def __init__(self, width: int, ratio: float, activation: Activation = "gelu") -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, int(ratio * width))
        self.act = _ACTIVATIONS[activation]()
        self.fc2 = nn.Linear(int(ratio * width), width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm attention and MLP, each with its residual (Dosovitskiy et al., arXiv 2010.11929)."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float = 4.0,
        activation: Activation = "gelu",
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = MLP(width, mlp_ratio, activation)
        self.recompute_elementwise = False

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        queries: Tensor | None = None,
        sequences: Sequences | None = None,
        asked: Sequences | None = None,
    ) -> Tensor:
        """`x` [B, N, D], `mask` as `Attention` takes it → [B, N, D].

        `queries` int64 [B, M]: only these tokens come out, [B, M, D]; they see all. `sequences`:
        `x` [S, D] are the tokens of these, which see their own only → [S, D]; then `queries` are
        int64 [Q], and `asked` says of which sequences.
        """
        keep = self._keep_inputs
        if queries is None:
            projected = keep(lambda t: self.attn.project(self.norm1(t)), x)
        else:
            key_value = keep(lambda t: self.attn.key_value(self.norm1(t)), x)
            x = some_tokens(x, queries)
            projected = self.attn.query(self.norm1(x)), *key_value
        x = _add_to(self.attn(projected, mask, sequences, asked), x)
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
    sequences: Sequences | None = None,
    asked: Sequences | None = None,
) -> Tensor:
    """`x` through all blocks, as `Block` takes it; `queries` and `asked` are the last one's."""
    last = len(blocks) - 1
    for index, block in enumerate(blocks):
        if index == last:
            x = block(x, mask, queries, sequences, asked)
        else:
            x = block(x, mask, None, sequences)
    return x
