"""FLAVA's image tasks: torchvision's data sets, and a folder a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from momo.export import open_picture
from momo_platform.stages import UserError
from pipelines.evaluation.datasets import DataSet, Roots
from pipelines.evaluation.items import Items, Labelled, Pictures, carve

_PARTS = {"train": {"split": "train"}, "test": {"split": "test"}}
_WITH_VAL = {**_PARTS, "valid": {"split": "val"}}
_FLAGS = {"train": {"train": True}, "test": {"train": False}}
_ARGUMENTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "ImageNet": {"train": {"split": "train"}, "test": {"split": "val"}},
    "Food101": _PARTS,
    "CIFAR10": _FLAGS,
    "CIFAR100": _FLAGS,
    "StanfordCars": _PARTS,
    "FGVCAircraft": _WITH_VAL,
    "DTD": _WITH_VAL,
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
    "Flowers102": _WITH_VAL,
    "MNIST": _FLAGS,
    "STL10": _PARTS,
    "GTSRB": _PARTS,
    "PCAM": _WITH_VAL,
    "CLEVRClassification": {"train": {"split": "train"}, "test": {"split": "val"}},
    "FER2013": _PARTS,
    "RenderedSST2": _WITH_VAL,
    "Country211": {**_PARTS, "valid": {"split": "valid"}},
    # These come without parts: drawn here from the seed, by class.
    "Caltech101": {"": {}},
    "EuroSAT": {"": {}},
    "SUN397": {"": {}},
}  # fmt: skip


def _labels(data: Any) -> np.ndarray:
    """Without decoding where torchvision keeps them beside the pictures, as most sets do."""
    for name in ("targets", "labels", "_labels", "y"):
        found = getattr(data, name, None)
        if found is not None and len(found) == len(data):
            return np.asarray(found, dtype=np.int64)
    samples = getattr(data, "_samples", None)
    if isinstance(samples, list) and len(samples) == len(data):
        return np.asarray([label for *_, label in samples], dtype=np.int64)
    return np.asarray([data[i][1] for i in range(len(data))], dtype=np.int64)


def _shuffled_parts(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """train 70 %, valid 10 %, test 20 % of every class."""
    generator = np.random.Generator(np.random.Philox(seed))
    split = np.array(["test"] * len(labels), dtype=object)
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        first, second = round(0.7 * len(rows)), round(0.8 * len(rows))
        split[rows[:first]], split[rows[first:second]] = "train", "valid"
    return split


def torchvision(data: DataSet, roots: Roots) -> Items:
    """One of torchvision's data sets by its class's name, from DATA/<name>."""
    from torchvision import datasets

    folder = roots.data / data.name
    kind, sets, labels, split = getattr(datasets, data.argument), [], [], []
    for part, arguments in _ARGUMENTS[data.argument].items():
        try:
            found = kind(str(folder), **arguments)
        except (RuntimeError, OSError, ValueError) as error:
            raise UserError(
                f"{folder} is not what torchvision.datasets.{data.argument} reads ({error}): "
                f"{data.how_to_get}"
            ) from error
        sets.append(found)
        labels.append(_labels(found))
        split += [part] * len(found)
    places = [(found, i) for found in sets for i in range(len(found))]
    both = np.concatenate(labels)
    parts = np.array(split, dtype=object)
    parts = _shuffled_parts(both) if "" in parts else carve(parts)
    return Labelled(Pictures(places, _picture), both, parts, _class_names(sets[0]))


def _picture(place: tuple[Any, int]) -> Image.Image:
    data, row = place
    return data[row][0]


def _class_names(data: Any) -> tuple[str, ...]:
    """By label; of several names the first, as ImageNet's."""
    names = getattr(data, "classes", None) or getattr(data, "categories", None) or ()
    first = (n if isinstance(n, str) else n[0] for n in names)
    return tuple(n.replace("_", " ") for n in first)


def folder(data: DataSet, roots: Roots) -> Items:
    """DATA/<name>/{train,valid,test}/<class>/<picture>; without `valid`, a tenth of `train`."""
    root = roots.data / data.argument
    files, names, split = [], [], []
    for part in ("train", "valid", "test"):
        for file in sorted((root / part).glob("*/*")):
            files.append(file)
            names.append(file.parent.name)
            split.append(part)
    if not {"train", "test"} <= set(split):
        place = f"{data.argument}/{{train,test}}/<class>/<picture>"
        raise UserError(f"{root}: lay pictures out as {place}")
    classes, labels = np.unique(names, return_inverse=True)
    parts = carve(np.array(split, dtype=object))
    shown = tuple(str(c).replace("_", " ") for c in classes)
    return Labelled(Pictures(files, open_picture), labels.reshape(-1), parts, shown)
