"""MoMo behind the endpoint: an exported model as the platform's reader and encoder. Torch is
imported by the encoder only, which lives in a process of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from momo.config import ModelConfig, exported_shape
from momo.precision import Precision
from momo.tokenizer import cut, padded, whole_ids
from momo.transforms import stack_pictures, upright
from momo_platform.serving.encoder import Loaders, Tokens
from momo_platform.stages.manifest import sha256_of
from pipelines.artifacts import TokenizerFile
from pipelines.modalities import MODALITIES

_WEIGHTS = (".safetensors", ".onnx", ".data", ".onnx_data", ".xml", ".bin", ".pt2")
_WARM = (1, 64)  # items of a batch


def model_name(folder: str | Path) -> str:
    """The name that an exported model serves under: it has the fingerprint of its training, or
    where the folder does not know it, a digest of its shape and its weights."""
    config = _config(folder)
    made_by = str(config.get("artifact") or "").rpartition("/")[2]
    return "momo-" + (made_by or _digest(Path(folder), config))


def _digest(folder: Path, config: dict[str, Any]) -> str:
    shape = exported_shape(config)
    told = {"shape": shape and shape.to_dict(), "text_length": config.get("text_length")}
    whole = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.name.endswith(_WEIGHTS):
            whole.update(f"{file.name} {sha256_of(file)}".encode())
    return whole.hexdigest()[:12]


def _config(folder: str | Path) -> dict[str, Any]:
    return json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))


def _shape(folder: str, config: dict[str, Any]) -> ModelConfig:
    """Raises ValueError for another model."""
    shape = exported_shape(config)
    if shape is None:
        raise ValueError(
            f"{folder} holds no MoMo (its config.json has neither `model` nor model_type momo): "
            "give the folder that the export stage or `momo export` wrote"
        )
    return shape


class MoMoReader:
    """The tokenizer and the pictures' size of an exported model. Raises ValueError for another."""

    def __init__(self, folder: str) -> None:
        config = _config(folder)
        model = _shape(folder, config)
        self.image_size, longest = model.image_size, model.max_text_length
        self.text_length = min(config.get("text_length") or longest, longest)
        self.tokenizer = TokenizerFile(Path(folder)).load()

    @property
    def max_tokens(self) -> int:
        """Of a text, with [CLS] and [SEP]."""
        return self.text_length

    def counted(self, texts: Sequence[str]) -> list[tuple[list[int], int]]:
        """Ids of each text's tokens, cut at the model's length, and how many it has."""
        whole = whole_ids(self.tokenizer, texts)
        return [(cut(ids, self.text_length), len(ids)) for ids in whole]

    def prepare(self, picture: Image.Image) -> np.ndarray:
        """uint8 [3, S, S]: upright, the largest central square."""
        return stack_pictures([upright(picture)], self.image_size)[0]


class ServedMoMo:
    """`name` is the model's own, with the artifact that made it: a new version has a new name."""

    def __init__(self, folder: str, threads: int, device: str, precision: Precision) -> None:
        import torch

        from momo.export import load

        torch.set_num_threads(threads)
        self.embedder = load(folder, device, precision)
        self.name = model_name(folder)
        self.dimensions = self.embedder.config.embed_dim
        self.logit_scale = self.embedder.logit_scale
        if device != "cpu":
            self._warm_up()

    def _warm_up(self) -> None:
        """What a GPU does once, so that no request waits for it: its context, its libraries'
        kernels for small and large batches, memory for them."""
        side = self.embedder.config.image_size
        for count in _WARM:
            self.texts(self.embedder.token_ids(["warm"]) * count)
            self.pictures([np.zeros((3, side, side), dtype=np.uint8)] * count)

    @property
    def device_bytes(self) -> int:
        return _memory_held(self.embedder.device)

    def texts(self, texts: Sequence[Tokens]) -> np.ndarray:
        return self.embedder.embed_ids(texts)

    def pictures(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        return self.embedder.embed_pixels(np.stack(pictures))

    def attention(self, picture: np.ndarray, text: Tokens | None) -> np.ndarray:
        return self.embedder.attention(picture, text)


class MoMoClassifierReader(MoMoReader):
    """The classes of a fine-tuned classifier, and how it reads texts and pictures."""

    def __init__(self, folder: str) -> None:
        config = _config(folder)
        entry = config.get("classifier")
        if entry is None:
            raise ValueError(
                f"{folder} holds no classifier (its config.json has no `classifier`): give the "
                "folder that a fine-tuning wrote"
            )
        self.classes: Sequence[str] = tuple(entry["classes"])
        self.takes_texts = bool(MODALITIES[entry["inputs"]].texts)
        self.takes_pictures = MODALITIES[entry["inputs"]].pictured
        self.image_size = _shape(folder, config).image_size
        self.text_length = entry["text_length"]
        if self.takes_texts:
            self.tokenizer = TokenizerFile(Path(folder)).load()


class MoMoClassifier:
    """A fine-tuned classifier; `name` tells the artifact that it came with, else its task."""

    def __init__(self, folder: str, threads: int, device: str, precision: Precision) -> None:
        import torch

        from momo.classifier import load_classifier

        torch.set_num_threads(threads)
        self.classifier = load_classifier(folder, device, precision)
        config = _config(folder)
        made_by = str(config.get("artifact") or config.get("task") or "classifier")
        self.name = "momo-" + made_by.rpartition("/")[2]
        self.dimensions = len(self.classifier.classes)

    @property
    def device_bytes(self) -> int:
        return _memory_held(self.classifier.device)

    def classify(
        self, texts: Sequence[Tokens] | None, pictures: Sequence[np.ndarray] | None
    ) -> np.ndarray:
        ids = None if texts is None else padded(texts, self.classifier.text_length)
        pixels = None if pictures is None else np.stack(pictures)
        return self.classifier.probabilities_of(ids, pixels)


def _memory_held(device: Any) -> int:
    """What torch holds of a GPU's memory, its context apart; 0 on CPUs."""
    import torch

    return torch.cuda.memory_reserved(device) if device.type == "cuda" else 0


LOADERS = Loaders(
    encoder=ServedMoMo,
    reader=MoMoReader,
    classifier=MoMoClassifier,
    classifier_reader=MoMoClassifierReader,
)
