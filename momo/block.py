"""The transformer block, in the layout of timm's vision transformer.

Names, shapes and results are those of `timm.models.vision_transformer.Block` (a test compares
them), so that public MAE weights fit. Ours because importing timm's costs every process of a run
2.5 s: it brings all of timm's models and torchvision.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`x` [B, N, D], `mask` bool broadcastable to [B, heads, N, N] or None → [B, N, D]."""
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        seen = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.proj(seen.transpose(1, 2).reshape(batch, length, width))


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

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`x` [B, N, D], `mask` as `Attention` takes it → [B, N, D]."""
        x = x + self.attn(self.norm1(x), mask)
        return x + self.mlp(self.norm2(x))
