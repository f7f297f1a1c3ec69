"""Save and load the model with its tokenizer; embed text and pictures."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn

from momo.attention import patch_attention
from momo.config import exported_shape
from momo.device import device_of, find_device, to_device
from momo.embedder import AnyEmbedder
from momo.embeddings import normalise_pixels
from momo.int8 import keep_blocks_in_int8
from momo.masking import PAD
from momo.model import MoMo
from momo.pictures import open_picture
from momo.precision import (
    Precision,
    at_precision,
    check_device,
    check_precision,
    float_part,
    keep_linear_layers_in_bf16,
)
from momo.tokenizer import load_tokenizer
from momo.weight_files import save_tensors

__all__ = ["Embedder", "load", "load_embedder", "load_model", "open_picture", "save"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"


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


def _existing(folder: Path, name: str) -> Path:
    if not (folder / name).exists():
        raise FileNotFoundError(
            f"{folder / name} is missing: {folder} holds no exported model; give the folder "
            "that the export stage wrote, e.g. runs/latest/model"
        )
    return folder / name


def read_config(folder: Path) -> dict[str, Any]:
    """What `save` wrote as `config.json`. Raises FileNotFoundError that names it."""
    return json.loads(_existing(folder, CONFIG).read_text(encoding="utf-8"))


def load_model(folder: Path) -> MoMo:
    """The model that `save` wrote, or `momo.hf` for transformers, in evaluation mode, on the CPU.

    Raises FileNotFoundError that names the missing file, ValueError for another library's model.
    """
    document = read_config(folder)
    if "engine" in document:
        raise ValueError(
            f"{folder} holds an engine ({document['engine'].get('format')}), which embeds only: "
            "give the folder of the model that it was exported from"
        )
    weights = load_file(_existing(folder, WEIGHTS))
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
    precision: Precision | None = None,
) -> AnyEmbedder:
    """The exported model in `path`, ready to embed: an `Embedder`, or for a folder that `momo
    export --format onnx`, `openvino` or `torch` wrote, what embeds by that engine.

    `device`: cpu, cuda or cuda:N; None: a GPU where torch sees one, else the CPU. `precision`: what
    products are computed in (`momo.precision.Precision`), None: fp32, or the engine's own; vectors
    are float32 on the CPU always. At `bf16` the linear layers' weights are kept in bf16 too, at
    `int8` those of the blocks in 8-bit integers.

    Raises FileNotFoundError that names the missing file, ValueError for a device that is not there,
    an unknown precision, int8 on a GPU and another precision than an engine has, ImportError that
    says what to install for an engine.
    """
    folder = Path(path)
    if precision is not None:
        check_precision(precision)
    document = read_config(folder)
    if "engine" in document:
        from momo.engines import load_engine

        return load_engine(folder, document, device, precision)
    return load_embedder(folder, device, precision or "fp32")


def load_embedder(
    path: str | os.PathLike[str],
    device: str | torch.device | None = None,
    precision: Precision = "fp32",
) -> Embedder:
    """As `load`, of a folder with weights; what it gives has the `model`."""
    folder = Path(path)
    check_precision(precision)
    place = find_device("cpu" if precision == "int8" and device is None else device)
    check_device(precision, place)
    model = with_layers_kept(load_model(folder), precision)
    length = read_config(folder).get("text_length")
    return Embedder(model.to(place), load_tokenizer(folder / TOKENIZER), length, precision)


def with_layers_kept(model: ModuleT, precision: Precision) -> ModuleT:
    """The model with its linear layers as `precision` computes them, once and for all."""
    if precision == "bf16":
        keep_linear_layers_in_bf16(model)
    if precision == "int8":
        keep_blocks_in_int8(model)
    return model


class Embedder(AnyEmbedder):
    """A model in torch, on its device. Raises ValueError for an unknown `precision`; at `int8` the
    model must have its layers so (`with_layers_kept`)."""

    def __init__(
        self,
        model: MoMo,
        tokenizer: Tokenizer,
        text_length: int | None = None,
        precision: Precision = "fp32",
    ) -> None:
        check_precision(precision)
        super().__init__(model.config, tokenizer, text_length, precision)
        self.model = model.eval()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return device_of(self.model)

    @property
    def logit_scale(self) -> float:
        return float(self.model.contrastive.clamped_log_scale().detach().exp())

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        with torch.inference_mode(), at_precision(float_part(self.precision), self.device):
            yield

    def _encode_ids(self, ids: np.ndarray) -> np.ndarray:
        batch = to_device(ids, self.device)
        return self.model.embed_text(batch, batch != PAD).float().cpu().numpy()

    def _encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
        batch = to_device(pixels, self.device)
        return self.model.embed_image(normalise_pixels(batch)).float().cpu().numpy()

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
        with at_precision(float_part(self.precision), self.device):
            return patch_attention(self.model, picture, ids).cpu().numpy()
