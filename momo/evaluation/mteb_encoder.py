"""A model as `mteb` asks for one, so that its tasks of texts and pictures (MTEB, MIEB) run on it.

    import mteb
    from momo.evaluation.mteb_encoder import MtebEncoder

    mteb.evaluate(MtebEncoder("runs/latest/model"), mteb.get_tasks(["STS12"]))

`mteb` itself is imported where it is asked for its own types only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from momo.evaluation.encoder import Encoder
from momo.evaluation.load import load_encoder
from momo.precision import FloatPrecision
from momo.transforms import stack_pictures, upright

MODALITIES = frozenset({"text", "image"})
"""That such an encoder reads."""


class MtebEncoder:
    """mteb's `EncoderProtocol` over a model with a space of texts and pictures.

    `model`: a folder with an exported MoMo or a transformers model, or an encoder that is open.
    `revision` and further arguments are mteb's own and change nothing. Raises what `load_encoder`
    does.
    """

    def __init__(
        self,
        model: str | Encoder,
        revision: str | None = None,
        *,
        device: str | None = None,
        precision: FloatPrecision = "fp32",
        **_: Any,
    ) -> None:
        self.revision = revision
        if not isinstance(model, Encoder):
            model = load_encoder(model, device=device, precision=precision)
        self.encoder = model

    def encode(self, inputs: Iterable[Mapping[str, Any]], **_: Any) -> np.ndarray:
        """Batches with `text` and `image`, one or both → unit vectors float32 [N, E]; with both it
        is a pair, whose vector lies between theirs. Raises ValueError for batches with neither."""
        return np.concatenate([self._vectors(batch) for batch in inputs])

    def _vectors(self, batch: Mapping[str, Any]) -> np.ndarray:
        found = []
        if "text" in batch:
            found.append(self.encoder.embed_texts(list(batch["text"])))
        if "image" in batch:
            pictures = [upright(picture) for picture in batch["image"]]
            pixels = stack_pictures(pictures, self.encoder.image_size)
            found.append(self.encoder.embed_pixels(pixels))
        if not found:
            raise ValueError(f"{', '.join(sorted(batch))}: give texts, pictures or both")
        total = np.sum(found, axis=0)
        return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Cosines [N, M] of unit vectors [N, E] and [M, E], or of one of each [E]."""
        first, second = (torch.atleast_2d(torch.as_tensor(e)) for e in (embeddings1, embeddings2))
        return first @ second.T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Cosines [N] of unit vectors [N, E], row by row."""
        return (torch.as_tensor(embeddings1) * torch.as_tensor(embeddings2)).sum(dim=-1)

    @property
    def mteb_model_meta(self) -> Any:
        """What mteb's results say of the model (`mteb.models.ModelMeta`)."""
        from mteb.models.model_meta import ModelMeta  # pyright: ignore[reportMissingImports]

        return ModelMeta.create_empty(
            {
                "name": f"momo/{self.encoder.name}",
                "revision": self.revision or "exported",
                "modalities": sorted(MODALITIES),
                "max_tokens": self.encoder.caption_length or self.encoder.text_length,
                "framework": ["PyTorch"],
                "similarity_fn_name": "cosine",
            }
        )
