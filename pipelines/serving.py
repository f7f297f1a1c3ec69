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
from momo.transforms import stack_pictures, upright


def model_name(folder: str | Path) -> str:
    """The name that an exported model serves under: it has the fingerprint of its training."""
    made_by = json.loads((Path(folder) / "config.json").read_text()).get("artifact", "")
    return "momo-" + (made_by.rpartition("/")[2] or "exported")


class MoMoEncoder:
    """`name` is the model's own, with the artifact that made it: a new version has a new name."""

    def __init__(self, folder: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.embedder: Embedder = load(folder)
        self.name = model_name(folder)
        self.dimensions = self.embedder.model.config.embed_dim

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens that the model reads: those beyond its length are cut."""
        encoded = self.embedder.tokenizer.encode_batch_fast(list(texts))
        return [min(len(one.ids), self.embedder.text_length) for one in encoded]

    def prepare(self, picture: Image.Image) -> np.ndarray:
        """uint8 [3, S, S]: upright, the largest central square."""
        size = self.embedder.model.config.image_size
        return stack_pictures([upright(picture)], size)[0]

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        return self.embedder.embed(texts=list(texts))

    def pictures(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        return self.embedder.embed_pixels(np.stack(pictures))

    def attention(self, picture: np.ndarray, text: str | None) -> np.ndarray:
        pixels = torch.from_numpy(picture[None])
        ids = None
        if text:
            encoded = encode_texts(self.embedder.tokenizer, [text], self.embedder.text_length)
            ids = torch.from_numpy(encoded[:, encoded[0] != 0])
        return patch_attention(self.embedder.model, pixels, ids).numpy()


def load_encoder(folder: str, threads: int) -> MoMoEncoder:
    """What the platform's replicas call."""
    return MoMoEncoder(folder, threads)
