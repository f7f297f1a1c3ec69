"""MoMo behind the endpoint: an exported model as the platform's encoder. Imports torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from momo.attention import patch_attention
from momo.export import Embedder, load
from momo.tokenizer import encode_texts
from momo.transforms import stack_pictures


class MoMoEncoder:
    """`name` is the model's own, with the artifact that made it: a new version has a new name."""

    def __init__(self, folder: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.embedder: Embedder = load(folder)
        made_by = json.loads((Path(folder) / "config.json").read_text()).get("artifact", "")
        self.name = "momo-" + (made_by.rpartition("/")[2] or "exported")
        self.dimensions = self.embedder.model.config.embed_dim

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens that the model reads: those beyond its length are cut."""
        encoded = self.embedder.tokenizer.encode_batch_fast(list(texts))
        return [min(len(one.ids), self.embedder.text_length) for one in encoded]

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        return self.embedder.embed(texts=list(texts))

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        return self.embedder.embed(images=list(pictures))

    def attention(self, picture: Image.Image, text: str | None) -> np.ndarray:
        size = self.embedder.model.config.image_size
        pixels = torch.from_numpy(stack_pictures([picture], size))
        ids = None
        if text:
            encoded = encode_texts(self.embedder.tokenizer, [text], self.embedder.text_length)
            ids = torch.from_numpy(encoded[:, encoded[0] != 0])
        return patch_attention(self.embedder.model, pixels, ids).numpy()


def load_encoder(folder: str, threads: int) -> MoMoEncoder:
    """What the platform's replicas call."""
    return MoMoEncoder(folder, threads)
