"""A folder with an engine: written from a model, opened as an embedder."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from tokenizers import Tokenizer

from momo.config import ModelConfig
from momo.device import find_device
from momo.embedder import AnyEmbedder
from momo.export import CONFIG, TOKENIZER, load_embedder, read_config
from momo.initialise.origin import published
from momo.precision import Precision
from momo.tokenizer import load_tokenizer

Format = Literal["onnx", "openvino", "torch"]
FORMATS: tuple[Format, ...] = get_args(Format)
Run = Callable[[np.ndarray], np.ndarray]
"""A batch's inputs → its vectors, float32 [B, embed_dim]."""
_KEPT = ("modalities", "artifact")
"""Of the model's config what an engine's has too."""
_PRECISIONS: Mapping[Format, tuple[Precision, ...]] = {
    "onnx": ("fp32", "int8"),
    "openvino": ("fp32", "bf16"),
    "torch": ("fp32", "bf16"),
}
_WHY_NOT = {
    ("onnx", "bf16"): "ONNX Runtime has no bf16 products on CPUs",
    ("openvino", "int8"): "its integers want a calibration, which this export does not do",
    ("torch", "int8"): "momo.load(…, precision='int8') computes in int8 without an export",
}
_NEEDED: Mapping[Format, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino"),
    "torch": (),
}
_TO_RUN: Mapping[Format, tuple[str, ...]] = {
    "onnx": ("onnxruntime",),
    "openvino": ("openvino",),
    "torch": (),
}


def _require(format_: Format, packages: tuple[str, ...]) -> None:
    """Raise ImportError that says what to install."""
    if lacking := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise ImportError(
            f"format {format_}: {', '.join(lacking)} is not installed: "
            f"pip install 'momo-ray[{format_}]'"
        )


def check_engine(format_: str, precision: str) -> None:
    """Raise ValueError for a format or a precision that there is not, ImportError that says what to
    install for making it."""
    if format_ not in FORMATS:
        raise ValueError(f"format={format_!r}: give {', '.join(FORMATS)}")
    if precision not in _PRECISIONS[format_]:
        known = " or ".join(_PRECISIONS[format_])
        why = _WHY_NOT.get((format_, precision))
        raise ValueError(
            f"precision={precision!r} for format {format_}: give {known}{f'; {why}' if why else ''}"
        )
    _require(format_, _NEEDED[format_])


def write_engine(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    format_: Format,
    precision: Precision = "fp32",
) -> Path:
    """Export the model in a folder for an engine; returns `output`, which `momo.load` opens.

    Raises as `check_engine`, and as `momo.load` for the model.
    """
    check_engine(format_, precision)
    source, target = Path(model), Path(output)
    embedder, document = load_embedder(source, "cpu"), read_config(source)
    target.mkdir(parents=True, exist_ok=True)
    from momo.engines import onnx, openvino, torch_program

    writers = {"onnx": onnx.write, "openvino": openvino.write, "torch": torch_program.write}
    writers[format_](embedder.model, target, precision)
    shutil.copyfile(source / TOKENIZER, target / TOKENIZER)
    facts = {"format": format_, "precision": precision, "logit_scale": embedder.logit_scale}
    written = {"model": embedder.config.to_dict(), "text_length": embedder.text_length}
    written |= {name: document[name] for name in _KEPT if name in document}
    if origin := published(document.get("origin") or ()):
        written["origin"] = origin
    written["engine"] = facts
    (target / CONFIG).write_text(json.dumps(written, indent=1), encoding="utf-8")
    return target


class EngineEmbedder(AnyEmbedder):
    """A model behind an engine; `format` says which. It computes on the CPU."""

    def __init__(
        self,
        format_: Format,
        runs: Mapping[str, Run],
        config: ModelConfig,
        tokenizer: Tokenizer,
        text_length: int | None,
        precision: Precision,
        logit_scale: float,
    ) -> None:
        super().__init__(config, tokenizer, text_length, precision)
        self.format: Format = format_
        self._runs, self._logit_scale = runs, logit_scale

    @property
    def logit_scale(self) -> float:
        return self._logit_scale

    def _encode_ids(self, ids: np.ndarray) -> np.ndarray:
        return self._runs["text"](np.ascontiguousarray(ids))

    def _encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
        return self._runs["image"](np.ascontiguousarray(pixels))


def load_engine(
    folder: Path,
    document: Mapping[str, Any],
    device: str | torch.device | None = None,
    precision: Precision | None = None,
) -> EngineEmbedder:
    """What `write_engine` wrote, from its folder and `config.json`. It uses as many threads as
    torch.

    Raises ValueError for a GPU and for another precision than the engine's, FileNotFoundError for a
    missing graph, ImportError that says what to install.
    """
    format_, own = document["engine"]["format"], document["engine"]["precision"]
    if format_ not in FORMATS:
        raise ValueError(f"{folder}: its engine is {format_!r}; known: {', '.join(FORMATS)}")
    if precision not in (None, own):
        raise ValueError(
            f"{folder} is an {format_} engine in {own}, not {precision}: give precision {own}, or "
            f"export it with --precision {precision}"
        )
    if device is not None and find_device(device).type != "cpu":
        raise ValueError(f"{folder}: an {format_} engine computes on the CPU: give device='cpu'")
    _require(format_, _TO_RUN[format_])
    from momo.engines import onnx, openvino, torch_program

    openers = {"onnx": onnx.open_, "openvino": openvino.open_, "torch": torch_program.open_}
    config = ModelConfig.from_dict(document["model"])
    runs = openers[format_](folder, own, torch.get_num_threads())
    tokenizer, scale = load_tokenizer(folder / TOKENIZER), document["engine"]["logit_scale"]
    length = document.get("text_length")
    return EngineEmbedder(format_, runs, config, tokenizer, length, own, scale)
