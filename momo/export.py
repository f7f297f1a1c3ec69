"""Save and load the model with its tokenizer; embed text and pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from momo.config import ModelConfig
from momo.embeddings import normalise_pixels
from momo.model import MoMo
from momo.tokenizer import encode_texts, load_tokenizer
from momo.transforms import stack_pictures, upright

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
Picture = str | os.PathLike[str] | Image.Image


def save(
    model: MoMo,
    folder: Path,
    tokenizer_json: str | None = None,
    extra: dict[str, Any] | None = None,
) -> None:
    """Write weights, config and, if given, the tokenizer into `folder`.

    `extra` goes into the config; `text_length` there is what `load` cuts texts to, in tokens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {n: t.detach().cpu().contiguous() for n, t in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    config = {"model": model.config.to_dict(), **(extra or {})}
    (folder / CONFIG).write_text(json.dumps(config, indent=1))
    if tokenizer_json is not None:
        (folder / TOKENIZER).write_text(tokenizer_json, encoding="utf-8")


def load_model(folder: Path) -> MoMo:
    """The model that `save` wrote, in evaluation mode.

    Raises FileNotFoundError that names the missing file.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"{folder / name} is missing: {folder} holds no exported model; give the folder "
                "that the export stage wrote, e.g. runs/latest/model"
            )
    config = json.loads((folder / CONFIG).read_text())["model"]
    model = MoMo(ModelConfig.from_dict(config))
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model.eval()


def load(path: str | os.PathLike[str]) -> Embedder:
    """The exported model in `path`, ready to embed."""
    folder = Path(path)
    model = load_model(folder)
    length = json.loads((folder / CONFIG).read_text()).get("text_length")
    return Embedder(model, load_tokenizer(folder / TOKENIZER), length)


def open_picture(picture: Picture) -> Image.Image:
    """A PIL picture, read whole. Raises FileNotFoundError or ValueError that names the file."""
    if isinstance(picture, Image.Image):
        return upright(picture)
    try:
        with Image.open(picture) as opened:
            opened.load()
            return upright(opened)
    except FileNotFoundError:
        raise FileNotFoundError(f"{os.fspath(picture)}: no such picture") from None
    except Exception as error:  # Pillow's decoders raise many kinds on malformed bytes
        raise ValueError(
            f"{os.fspath(picture)} is not a readable picture ({error}); give PNG, JPEG, WebP, GIF "
            "or BMP"
        ) from error


class Embedder:
    """Text and pictures into one space of unit vectors [N, embed_dim].

    Texts are cut to `text_length` tokens, by default the model's `max_text_length`; captions were
    never longer in training than what the export stage writes here.
    """

    def __init__(self, model: MoMo, tokenizer: Tokenizer, text_length: int | None = None) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        longest = model.config.max_text_length
        self.text_length = min(text_length or longest, longest)

    def embed(
        self,
        texts: Sequence[str] | None = None,
        images: Sequence[Picture] | None = None,
        batch_size: int = 256,
    ) -> np.ndarray:
        """float32 [N, embed_dim] of `texts` or of `images` (paths or PIL pictures); with both, as
        many of each, of pairs: the unit vector between the text's and the picture's.

        Raises ValueError for a picture that can't be read, for neither argument and for pairs that
        are not as many, TypeError for one text or picture that is not in a list.
        """
        if texts is None and images is None:
            raise ValueError("embed takes texts=[...], images=[...] or both")
        if isinstance(texts, str) or isinstance(images, str | os.PathLike | Image.Image):
            raise TypeError("embed takes a list: write texts=[text] or images=[image]")
        if texts is not None and images is not None:
            if len(texts) != len(images):
                raise ValueError(f"{len(texts)} texts, {len(images)} images: pairs need as many")
            total = self.embed(texts) + self.embed(images=images)
            return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
        parts = []
        if texts is not None:
            for start in range(0, len(texts), batch_size):
                parts.append(self._texts(list(texts[start : start + batch_size])))
        elif images is not None:
            for start in range(0, len(images), batch_size):
                pictures = [open_picture(p) for p in images[start : start + batch_size]]
                size = self.model.config.image_size
                parts.append(self.embed_pixels(stack_pictures(pictures, size)))
        if not parts:
            return np.zeros((0, self.model.config.embed_dim), dtype=np.float32)
        return np.concatenate(parts)

    def similarity(self, texts: Sequence[str], images: Sequence[Picture]) -> np.ndarray:
        """Cosines float32 [len(texts), len(images)]."""
        return self.embed(texts=texts) @ self.embed(images=images).T

    @torch.inference_mode()
    def _texts(self, texts: list[str]) -> np.ndarray:
        ids = torch.from_numpy(encode_texts(self.tokenizer, texts, self.text_length))
        ids = ids[:, : max(1, int((ids != 0).sum(dim=1).max()))]
        return self.model.embed_text(ids, ids != 0).numpy()

    @torch.inference_mode()
    def embed_pixels(self, pixels: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """uint8 [N, 3, H, W] of the model's size → float32 [N, embed_dim]."""
        parts = [
            self.model.embed_image(
                normalise_pixels(torch.from_numpy(pixels[i : i + batch_size]))
            ).numpy()
            for i in range(0, len(pixels), batch_size)
        ]
        return np.concatenate(parts)
