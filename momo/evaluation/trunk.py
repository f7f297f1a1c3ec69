"""The part of a model under evaluation that is fine-tuned.

Shapes: B a batch, T tokens.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod

from torch import Tensor, nn

from momo.masking import PAD

_DEPTH = re.compile(r"(?:^|\.)(?:layers?|blocks|h)\.(\d+)\.")


class Trunk(nn.Module, ABC):
    """The part of a model that is fine-tuned: inputs → one vector an example.

    `width` is its length, `pad` the id that stands for padding in `ids`.
    """

    width: int
    pad: int = PAD

    @abstractmethod
    def forward(self, ids: Tensor | None, pixels: Tensor | None) -> Tensor:
        """`ids` int64 [B, T], `pixels` uint8 [B, 3, H, W], one or both → [B, width]."""

    def layers(self) -> list[list[nn.Parameter]]:
        """Parameters from the input side to the last norm, by the block they belong to; towers of a
        model with several count side by side."""
        return by_depth(self)


def by_depth(module: nn.Module) -> list[list[nn.Parameter]]:
    """Embeddings, each block, the rest (perhaps none); by the numbers in the names."""
    blocks: dict[int, list[nn.Parameter]] = {}
    first: list[nn.Parameter] = []
    last: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        found = _DEPTH.search(name)
        if found:
            blocks.setdefault(int(found.group(1)), []).append(parameter)
        else:
            (first if "embedding" in name else last).append(parameter)
    return [first, *(blocks[i] for i in sorted(blocks)), last]
