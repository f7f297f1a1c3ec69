"""Save and load the model with its tokenizer; embed text and pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from momo.attention import patch_attention
from momo.by_length import encode_by_length, text_lengths
from momo.config import exported_shape
from momo.device import device_of, find_device, to_device
from momo.embeddings import normalise_pixels
from momo.masking import PAD
from momo.model import MoMo
from momo.pictures import Picture, is_one_picture, open_picture
from momo.precision import (
    Precision,
    at_precision,
    check_precision,
    keep_linear_layers_in_bf16,
)
from momo.tokenizer import load_tokenizer, padded, token_ids
from momo.transforms import stack_pictures
from momo.weight_files import save_tensors

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
_WINDOW = 32  # batches of texts that are ordered by length at a time


def save(
    model: MoMo,
    folder: Path,
    tokenizer_json: str | None = None,
    extra: dict[str, Any] | None = None,
) -> None:
    """Write weights, config and, if given, the tokenizer into `folder`.

    `extra` goes into the config; `text_length` there is what `load` cuts texts to, in tokens,
    `origin` what the training started from (`momo.initialise.Origin.chain`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {n: t.detach().cpu().contiguous() for n, t in model.state_dict().items()}
    save_tensors(weights, folder / WEIGHTS)
    config = {"model": model.config.to_dict(), **(extra or {})}
    (folder / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
    if tokenizer_json is not None:
        (folder / TOKENIZER).write_text(tokenizer_json, encoding="utf-8")


def load_model(folder: Path) -> MoMo:
    """The model that `save` wrote, or `momo.hf` for transformers, in evaluation mode, on the CPU.

    Raises FileNotFoundError that names the missing file, ValueError for another library's model.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"{folder / name} is missing: {folder} holds no exported model; give the folder "
                "that the export stage wrote, e.g. runs/latest/model"
            )
    document = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    weights = load_file(folder / WEIGHTS)
    shape = exported_shape(document)
    if shape is None:
        kind = document.get("model_type") or document.get("architecture") or "unknown"
        raise ValueError(
            f"{folder} holds another model ({kind}), not a MoMo: give the folder that the export "
            "stage or `momo export` wrote; --initial-model starts a training from other models"
        )
    model = MoMo(shape)
    # Written for transformers, names begin with the part of its model that ours is.
    model.load_state_dict({n.removeprefix("network."): value for n, value in weights.items()})
    return model.eval()


def load(
    path: str | os.PathLike[str],
    device: str | torch.device | None = None,
    precision: Precision = "fp32",
) -> Embedder:
    """The exported model in `path`, ready to embed.

    `device`: cpu, cuda or cuda:N; None: a GPU where torch sees one, else the CPU. `precision`: what
    products are computed in (`momo.precision.Precision`); vectors are float32 on the CPU always. At
    `bf16` the linear layers' weights are kept in bf16 too.

    Raises FileNotFoundError that names the missing file, ValueError for a device that is not there
    and for an unknown precision.
    """
    folder, place = Path(path), find_device(device)
    check_precision(precision)
    model = load_model(folder)
    if precision == "bf16":
        keep_linear_layers_in_bf16(model)
    length = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("text_length")
    return Embedder(model.to(place), load_tokenizer(folder / TOKENIZER), length, precision)


class Embedder:
    """Text and pictures into one space of unit vectors [N, embed_dim], computed where the model is.

    Texts are cut to `text_length` tokens, by default the model's `max_text_length`; captions were
    never longer in training than what the export stage writes here. Raises ValueError for an
    unknown `precision`.
    """

    def __init__(
        self,
        model: MoMo,
        tokenizer: Tokenizer,
        text_length: int | None = None,
        precision: Precision = "fp32",
    ) -> None:
        check_precision(precision)
        self.model, self.tokenizer = model.eval(), tokenizer
        self.precision: Precision = precision
        longest = model.config.max_text_length
        self.text_length = min(text_length or longest, longest)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return device_of(self.model)

    def embed(
        self,
        texts: Sequence[str] | None = None,
        images: Sequence[Picture] | None = None,
        batch_size: int = 256,
    ) -> np.ndarray:
        """float32 [N, embed_dim] of `texts` or of `images` (paths, PIL pictures or NumPy arrays,
        `momo.pictures.Picture`); with both, as many of each, of pairs: the unit vector between the
        text's and the picture's.

        Raises ValueError for a picture that can't be read or has another shape, for neither
        argument and for pairs that are not as many, TypeError for what is no picture and for one
        text or picture that is not in a list.
        """
        if texts is None and images is None:
            raise ValueError("embed takes texts=[...], images=[...] or both")
        if isinstance(texts, str) or is_one_picture(images):
            raise TypeError("embed takes a list: write texts=[text] or images=[image]")
        if texts is not None and images is not None:
            if len(texts) != len(images):
                raise ValueError(f"{len(texts)} texts, {len(images)} images: pairs need as many")
            total = self.embed(texts) + self.embed(images=images)
            return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
        parts = []
        if texts is not None:
            window = _WINDOW * batch_size
            for start in range(0, len(texts), window):
                ids = self.token_ids(texts[start : start + window])
                parts.append(self.embed_ids(ids, batch_size))
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

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text's tokens, those that the model reads."""
        return token_ids(self.tokenizer, texts, self.text_length)

    @torch.inference_mode()
    def embed_ids(self, ids: Sequence[Sequence[int]], batch_size: int = 256) -> np.ndarray:
        """`token_ids` of texts → float32 [N, embed_dim]. Raises ValueError for no texts."""
        encoded = padded(ids, self.text_length)

        def encode(rows: np.ndarray, longest: int) -> np.ndarray:
            batch = to_device(encoded[rows, :longest], self.device)
            return self.model.embed_text(batch, batch != PAD).float().cpu().numpy()

        lengths = text_lengths(encoded != PAD)
        with at_precision(self.precision, self.device):
            return encode_by_length(encode, lengths, batch_size, self.device)

    @torch.inference_mode()
    def embed_pixels(self, pixels: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """uint8 [N, 3, H, W] of the model's size → float32 [N, embed_dim]."""
        parts = []
        with at_precision(self.precision, self.device):
            for start in range(0, len(pixels), batch_size):
                batch = to_device(pixels[start : start + batch_size], self.device)
                parts.append(self.model.embed_image(normalise_pixels(batch)).float().cpu().numpy())
        return np.concatenate(parts)

    def attention(self, pixels: np.ndarray, text: str | Sequence[int] | None = None) -> np.ndarray:
        """How much the model looks at each patch of a picture, uint8 [3, H, W] of its size, given a
        text, its `token_ids` or none: float32 [rows, columns], sum 1
        (`momo.attention.patch_attention`)."""
        ids = None
        if text:
            (found,) = self.token_ids([text]) if isinstance(text, str) else (text,)
            encoded = np.array([[one for one in found if one != PAD]], dtype=np.int64)
            ids = to_device(encoded, self.device)
        picture = to_device(pixels[None], self.device)
        with at_precision(self.precision, self.device):
            return patch_attention(self.model, picture, ids).cpu().numpy()
