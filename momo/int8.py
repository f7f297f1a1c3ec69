"""Linear layers in 8-bit integers, for finished models on the CPU.

Weights have a scale a row (an output), what they are multiplied with one a token, found as it comes
(dynamic quantisation). So a text's vector does not depend on what else is in its batch, as it would
with one scale for all. Needs no calibration and no compiler.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from momo.block import MLP
from momo.model import MoMo

_MOST = 127
_ROWS = 256
"""Tokens at a time at most, in equal parts: more would be fresh memory, which is slow."""


@cache
def is_fast() -> bool:
    """Whether this processor adds up products of 8-bit integers by an instruction of its own
    (VNNI). Others get the same numbers by fp32 products, no faster than fp32."""
    found = torch.cpu.get_capabilities()
    return torch.backends.mkldnn.is_available() and any(
        bool(found.get(name)) for name in ("avx512_vnni", "avx_vnni", "amx_int8")
    )


def _in_int8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """float [N, K] → int8 [N, K] and each row's scale [N, 1]: their product is about the rows."""
    scale = rows.abs().amax(dim=-1, keepdim=True).clamp_min(1e-12).div_(_MOST)
    return (rows / scale).round_().to(torch.int8), scale


class Int8Linear(nn.Module):
    """What `linear` computes, in int8: inputs and outputs are float32. It can't be trained.

    `gelu`: what comes behind the layer, done to each part while the processor still holds it, which
    is three times as fast as to the whole.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear, gelu: nn.GELU | None = None) -> None:
        super().__init__()
        self.approximate = None if gelu is None else gelu.approximate
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight, scale = _in_int8(linear.weight.detach().float())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.flatten())
        bias = torch.zeros(linear.out_features) if linear.bias is None else linear.bias.detach()
        self.register_buffer("bias", bias.float().clone())

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] → [..., out_features]."""
        rows = x.flatten(0, -2)
        out = rows.new_empty(len(rows), self.out_features)
        count = -(-len(rows) // _ROWS)
        for part, result in zip(rows.tensor_split(count), out.tensor_split(count), strict=True):
            codes, scale = _in_int8(part)
            product = self._product(codes).mul_(self.scale)
            torch.addcmul(self.bias, product, scale, out=result)
            if self.approximate is not None:
                torch.ops.aten.gelu_(result, approximate=self.approximate)
        return out.view(*x.shape[:-1], self.out_features)

    def _product(self, codes: Tensor) -> Tensor:
        """int8 [N, in_features] times the weight's codes → float32 [N, out_features]."""
        if is_fast():
            multiply: Any = torch.ops.aten._int_mm
            return multiply(codes, self.weight.t()).float()
        return codes.float() @ self.weight.t().float()


def keep_blocks_in_int8(model: nn.Module) -> None:
    """The linear layers of the encoder's blocks, which do nearly all of its computing. Embeddings,
    norms, attention and heads stay fp32."""
    for encoder in [part for part in model.modules() if isinstance(part, MoMo)]:
        for block in encoder.encoder_blocks():
            for part in block.modules():
                if isinstance(part, MLP) and type(part.act) is nn.GELU:
                    setattr(part, "fc1", Int8Linear(part.fc1, part.act))  # noqa: B010 - another class
                    part.act = nn.Identity()
                for name, layer in list(part.named_children()):
                    if type(layer) is nn.Linear:
                        setattr(part, name, Int8Linear(layer))
