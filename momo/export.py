"""Save and load the model with its tokenizer; embed text and pictures."""

from __future__ import annotations

import dataclasses
import io
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
from momo.model import MoMo, normalise_pixels
from momo.tokenizer import encode_batch, load_tokenizer
from momo.transforms import decode_pictures

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
Picture = str | os.PathLike[str] | Image.Image


def save_model(
    model: MoMo,
    folder: Path,
    tokenizer_json: str | None = None,
    extra: dict[str, Any] | None = None,
) -> None:
    """Write weights, config and, if given, the tokenizer into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {n: t.detach().cpu().contiguous() for n, t in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    config = {"model": dataclasses.asdict(model.config), **(extra or {})}
    (folder / CONFIG).write_text(json.dumps(config, indent=1))
    if tokenizer_json is not None:
        (folder / TOKENIZER).write_text(tokenizer_json, encoding="utf-8")


def load_model(folder: Path) -> MoMo:
    """The model that `save_model` wrote, in evaluation mode.

    Raises FileNotFoundError that names the missing file.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"{folder / name} is missing: {folder} holds no exported model; "
                "give the folder that the export stage wrote"
            )
    config = json.loads((folder / CONFIG).read_text())["model"]
    model = MoMo(ModelConfig(**config))
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model.eval()


def load(path: str | os.PathLike[str]) -> Embedder:
    """The exported model in `path`, ready to embed."""
    folder = Path(path)
    model = load_model(folder)
    return Embedder(model, load_tokenizer(folder / TOKENIZER))


def _picture_bytes(picture: Picture) -> bytes:
    if isinstance(picture, Image.Image):
        opened = picture
    else:
        try:
            opened = Image.open(picture)
        except FileNotFoundError:
            raise FileNotFoundError(f"{os.fspath(picture)}: no such picture") from None
        except OSError as error:
            raise ValueError(
                f"{os.fspath(picture)} is not a readable picture ({error}); give PNG, JPEG, WebP, "
                "GIF or BMP"
            ) from error
    rgba = opened.convert("RGBA")
    canvas = Image.new("RGBA", rgba.size, "white")
    canvas.alpha_composite(rgba)
    buffer = io.BytesIO()
    canvas.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


class Embedder:
    """Text and pictures into one space of unit vectors [N, embed_dim]."""

    def __init__(self, model: MoMo, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer

    def embed(
        self,
        texts: Sequence[str] | None = None,
        images: Sequence[Picture] | None = None,
        batch_size: int = 256,
    ) -> np.ndarray:
        """float32 [N, embed_dim]; give `texts` or `images` (paths or PIL pictures), not both.

        Raises ValueError for a picture that can't be read and for neither or both arguments.
        """
        if (texts is None) == (images is None):
            raise ValueError("embed takes texts=[...] or images=[...], one of the two")
        if texts is not None:
            parts = [
                self._texts(list(texts[i : i + batch_size]))
                for i in range(0, len(texts), batch_size)
            ]
        else:
            assert images is not None
            parts = [
                self._images([_picture_bytes(p) for p in images[i : i + batch_size]])
                for i in range(0, len(images), batch_size)
            ]
        if not parts:
            return np.zeros((0, self.model.config.embed_dim), dtype=np.float32)
        return np.concatenate(parts)

    def similarity(self, texts: Sequence[str], images: Sequence[Picture]) -> np.ndarray:
        """Cosines float32 [len(texts), len(images)]."""
        return self.embed(texts=texts) @ self.embed(images=images).T

    @torch.inference_mode()
    def _texts(self, texts: list[str]) -> np.ndarray:
        length = self.model.config.max_text_length
        ids = torch.from_numpy(encode_batch(self.tokenizer, texts, length))
        return self.model.project_text(self.model.encode_text(ids), ids).numpy()

    @torch.inference_mode()
    def _images(self, raw: list[bytes]) -> np.ndarray:
        pixels = torch.from_numpy(decode_pictures(raw, self.model.config.image_size))
        tokens = self.model.encode_image(normalise_pixels(pixels))
        return self.model.project_image(tokens).numpy()
