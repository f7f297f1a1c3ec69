"""MoMo behind the endpoint: an exported model as the platform's reader and encoder. Torch is
imported by the encoder only, which lives in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from momo.config import ModelConfig
from momo.tokenizer import encode_texts, load_tokenizer
from momo.transforms import stack_pictures, upright
from momo_platform.serving.encoder import Loaders


def model_name(folder: str | Path) -> str:
    """The name that an exported model serves under: it has the fingerprint of its training."""
    made_by = json.loads((Path(folder) / "config.json").read_text()).get("artifact", "")
    return "momo-" + (made_by.rpartition("/")[2] or "exported")


class MoMoReader:
    """The tokenizer and the pictures' size of an exported model."""

    def __init__(self, folder: str) -> None:
        config = json.loads((Path(folder) / "config.json").read_text())
        model = ModelConfig.from_dict(config["model"])
        self.image_size, longest = model.image_size, model.max_text_length
        self.text_length = min(config.get("text_length") or longest, longest)
        self.tokenizer = load_tokenizer(Path(folder) / "tokenizer.json")

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens that the model reads: those beyond its length are cut."""
        encoded = self.tokenizer.encode_batch_fast(list(texts))
        return [min(len(one.ids), self.text_length) for one in encoded]

    def prepare(self, picture: Image.Image) -> np.ndarray:
        """uint8 [3, S, S]: upright, the largest central square."""
        return stack_pictures([upright(picture)], self.image_size)[0]


class MoMoEncoder:
    """`name` is the model's own, with the artifact that made it: a new version has a new name."""

    def __init__(self, folder: str, threads: int) -> None:
        import torch

        from momo.export import load

        torch.set_num_threads(threads)
        self.embedder = load(folder)
        self.name = model_name(folder)
        self.dimensions = self.embedder.model.config.embed_dim

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        return self.embedder.embed(texts=list(texts))

    def pictures(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        return self.embedder.embed_pixels(np.stack(pictures))

    def attention(self, picture: np.ndarray, text: str | None) -> np.ndarray:
        import torch

        from momo.attention import patch_attention

        pixels = torch.from_numpy(picture[None])
        ids = None
        if text:
            encoded = encode_texts(self.embedder.tokenizer, [text], self.embedder.text_length)
            ids = torch.from_numpy(encoded[:, encoded[0] != 0])
        return patch_attention(self.embedder.model, pixels, ids).numpy()


LOADERS = Loaders(encoder=MoMoEncoder, reader=MoMoReader)
