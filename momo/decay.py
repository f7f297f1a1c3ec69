"""Which parameters weight decay shrinks. The platform's optimizer has the same rule; a test holds
them together, since neither imports the other."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.conv import _ConvNd

_PRODUCTS = (nn.Linear, nn.Bilinear, _ConvNd)
_PLACES = ("position", "pos_embed", "token_type")
"""Parts of the names that other models give tables of positions and of segments."""


def decayed_parameters(module: nn.Module) -> set[nn.Parameter]:
    """Weights of products, with one output too, and tables of several rows.

    Not biases, norms, scalars, tokens and positions ([1, …], or by name) and tables of one row.
    """
    found: set[nn.Parameter] = set()
    for path, owner in module.named_modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if parameter.ndim < 2 or isinstance(owner, nn.LayerNorm):
                continue
            places = any(part in f"{path}.{name}" for part in _PLACES)
            if isinstance(owner, _PRODUCTS) or (min(parameter.shape) > 1 and not places):
                found.add(parameter)
    return found
