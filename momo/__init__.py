"""MoMo: one transformer, all of whose layers process text and images (arXiv 2304.05523).

    import momo
    model = momo.load("runs/latest/model")
    vectors = model.embed(texts=["a red apple"])   # [1, embed_dim], unit length

Plain PyTorch: imports neither Ray nor the platform, and `import momo` alone loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from momo.export import Embedder

__all__ = ["load"]


def load(path: str | os.PathLike[str]) -> Embedder:
    """The exported model in folder `path`; see `momo.export.Embedder`."""
    from momo.export import load as load_embedder

    return load_embedder(path)
