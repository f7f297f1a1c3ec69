"""MoMo: one shared encoder for text, images and pairs, in plain PyTorch.

`momo.load(folder)` opens an exported model. Importing `momo` imports neither torch nor ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from momo.export import Embedder, load

__all__ = ["Embedder", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from momo import export

        return getattr(export, name)
    raise AttributeError(f"module 'momo' has no attribute {name!r}")
