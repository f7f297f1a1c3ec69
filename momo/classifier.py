"""A fine-tuned classifier: saved beside the encoder it was trained with, loaded, asked.

The folder is an export (`momo.export.save`) of the fine-tuned encoder, with the linear layer in
`classifier.safetensors` and an entry `classifier` in `config.json`: the classes by name, what it
takes (`text`, `image` or `pair`) and how many tokens texts are cut to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn

from momo.device import device_of, find_device
from momo.evaluation.finetune import Examples, FineTuned, outputs_of
from momo.evaluation.momo_encoder import MoMoTrunk
from momo.export import CONFIG, TOKENIZER, load_model, save, with_layers_kept
from momo.pictures import Picture, is_one_picture, open_picture
from momo.precision import Precision, check_device, check_precision, float_part
from momo.tokenizer import encode_pairs, encode_texts, load_tokenizer
from momo.transforms import stack_pictures
from momo.weight_files import save_tensors

HEAD = "classifier.safetensors"
Inputs = Literal["text", "image", "pair"]
"""What a classifier takes: texts, pictures, or a picture with a text (a question, a caption)."""
Text = str | tuple[str, str]
"""A text, or two sentences that are read together, as in GLUE's tasks."""


@dataclass(frozen=True)
class Prediction:
    """The most probable class, its probability, and those of all classes, by name."""

    label: str
    score: float
    scores: dict[str, float]


def save_classifier(
    folder: str | os.PathLike[str],
    classifier: FineTuned,
    *,
    classes: Sequence[str],
    inputs: Inputs,
    tokenizer_json: str | None,
    text_length: int | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write what `momo.evaluation.finetune.fine_tune` trained, so that `load_classifier` opens it.

    `classes`: the name of each output, in the order of the labels 0, 1, … `text_length`: the tokens
    that texts were cut to in fine-tuning (None: the model's `max_text_length`). `tokenizer_json`
    may be None for pictures alone. `extra` goes into `config.json` beside `model`: `origin`, the
    task, the score.

    Raises TypeError for another model than MoMo, ValueError for classes that are not as many as the
    outputs or not all different, for unknown `inputs`, and without the tokenizer that texts need.
    """
    trunk = classifier.trunk
    if not isinstance(trunk, MoMoTrunk):
        raise TypeError(f"only a fine-tuned MoMo can be saved, not {type(trunk).__name__}")
    names, outputs = [str(name) for name in classes], classifier.head.out_features
    if len(names) != outputs or len(set(names)) != outputs:
        raise ValueError(
            f"{len(names)} class names, {len(set(names))} of them different, for a classifier of "
            f"{outputs} outputs: give each output one name"
        )
    if inputs not in get_args(Inputs):
        raise ValueError(f"inputs={inputs!r}: give {', '.join(get_args(Inputs))}")
    if inputs != "image" and tokenizer_json is None:
        raise ValueError(f"a classifier of inputs={inputs!r} reads texts: give its tokenizer_json")
    longest = trunk.encoder.config.max_text_length
    length = min(text_length or longest, longest)
    entry = {"classes": names, "inputs": inputs, "text_length": length}
    place = Path(folder)
    save(trunk.encoder, place, tokenizer_json, {**(extra or {}), "classifier": entry})
    head = {n: t.detach().cpu().contiguous() for n, t in classifier.head.state_dict().items()}
    save_tensors(head, place / HEAD)


def load_classifier(
    folder: str | os.PathLike[str],
    device: str | torch.device | None = None,
    precision: Precision = "fp32",
) -> Classifier:
    """The classifier in `folder`; `device` and `precision` as for `momo.load`.

    Raises FileNotFoundError that names the missing file, ValueError for a folder without a
    classifier, a device that is not there and an unknown precision.
    """
    place = Path(folder)
    check_precision(precision)
    found = find_device("cpu" if precision == "int8" and device is None else device)
    check_device(precision, found)
    model = load_model(place)
    entry = json.loads((place / CONFIG).read_text(encoding="utf-8")).get("classifier")
    if entry is None:
        raise ValueError(
            f"{place} holds a model, but no classifier: give a folder that save_classifier wrote"
        )
    if not (place / HEAD).is_file():
        raise FileNotFoundError(f"{place / HEAD} is missing: save the classifier again")
    tuned = FineTuned(MoMoTrunk(model), len(entry["classes"]), 0.0)
    tuned.head.load_state_dict(load_file(place / HEAD))
    with_layers_kept(tuned, precision)
    tokenizer = None if entry["inputs"] == "image" else load_tokenizer(place / TOKENIZER)
    return Classifier(
        tuned.to(found).eval(),
        entry["classes"],
        entry["inputs"],
        tokenizer,
        entry["text_length"],
        precision,
    )


class Classifier:
    """A fine-tuned encoder with its classes. `inputs` says what `predict` takes."""

    def __init__(
        self,
        tuned: FineTuned,
        classes: Sequence[str],
        inputs: Inputs,
        tokenizer: Tokenizer | None,
        text_length: int,
        precision: Precision = "fp32",
    ) -> None:
        assert isinstance(tuned.trunk, MoMoTrunk)
        self.tuned, self.tokenizer = tuned, tokenizer
        self.classes, self.inputs = tuple(classes), inputs
        self.text_length = text_length
        self.precision: Precision = precision
        self.image_size = tuned.trunk.encoder.config.image_size

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return device_of(self.tuned)

    def predict(
        self,
        texts: Sequence[Text] | None = None,
        images: Sequence[Picture] | None = None,
        batch_size: int = 256,
    ) -> list[Prediction]:
        """One prediction for each text, picture or pair of both; arguments as for
        `probabilities`."""
        return [self.named(row) for row in self.probabilities(texts, images, batch_size)]

    def named(self, row: np.ndarray) -> Prediction:
        """Probabilities [classes] with their names."""
        scores = {n: float(p) for n, p in zip(self.classes, row, strict=True)}
        best = int(row.argmax())
        return Prediction(self.classes[best], float(row[best]), scores)

    def probabilities(
        self,
        texts: Sequence[Text] | None = None,
        images: Sequence[Picture] | None = None,
        batch_size: int = 256,
    ) -> np.ndarray:
        """float32 [N, classes], rows of sum 1, in the order of `classes`.

        Raises TypeError for one text or picture that is not in a list and for what is no picture,
        ValueError for other inputs than the classifier was trained on.
        """
        if isinstance(texts, str) or is_one_picture(images):
            raise TypeError("predict takes a list: write texts=[text] or images=[image]")
        self._require(texts is not None, images is not None)
        pixels = None
        if images is not None:
            pictures = [open_picture(picture) for picture in images]
            pixels = stack_pictures(pictures, self.image_size)
        ids = None if texts is None else self._encode(texts)
        return self.probabilities_of(ids, pixels, batch_size)

    def probabilities_of(
        self, ids: np.ndarray | None, pixels: np.ndarray | None, batch_size: int = 256
    ) -> np.ndarray:
        """As `probabilities`, of texts' ids, int64 [N, text_length], padded with 0, and of prepared
        pictures, uint8 [N, 3, H, W] of the model's size."""
        self._require(ids is not None, pixels is not None)
        count = len(ids) if ids is not None else len(pixels if pixels is not None else ())
        if pixels is not None and len(pixels) != count:
            raise ValueError(f"{count} texts, {len(pixels)} images: pairs need as many")
        if not count:
            return np.zeros((0, len(self.classes)), dtype=np.float32)
        examples = Examples(ids, np.zeros(count, dtype=np.int64), pixels)
        outputs = outputs_of(self.tuned, examples, batch_size, float_part(self.precision))
        return nn.functional.softmax(torch.from_numpy(outputs), dim=-1).numpy()

    def _require(self, texts: bool, images: bool) -> None:
        given = {(True, False): "text", (False, True): "image", (True, True): "pair"}
        if given.get((texts, images)) != self.inputs:
            needed = {"text": "texts", "image": "images", "pair": "texts and images"}[self.inputs]
            raise ValueError(f"this classifier was trained on {self.inputs}s: give {needed}")

    def _encode(self, texts: Sequence[Text]) -> np.ndarray:
        assert self.tokenizer is not None
        if all(isinstance(text, str) for text in texts):
            return encode_texts(self.tokenizer, [str(t) for t in texts], self.text_length)
        if not all(isinstance(t, tuple) and len(t) == 2 for t in texts):
            raise TypeError("texts: give texts only, or tuples of two sentences only")
        first, second = zip(*texts, strict=True)
        return encode_pairs(self.tokenizer, first, second, self.text_length)
