"""The demo's own sets: from its corpora, and the held-out parts of what was prepared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from momo.export import open_picture
from momo.transforms import decode
from pipelines.evaluation.datasets import DataSet, Roots
from pipelines.evaluation.items import Captioned, Items, Labelled, NotAvailable, Pictures, Texts
from pipelines.evaluation.loaders.own import held_out, labelled_pictures

_SENTIMENT_TOKENS, _QUESTION_TOKENS = 32, 16


def _digit(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(255 - pixels).convert("RGB")


def mnist(data: DataSet, roots: Roots) -> Items:
    """3,500 digits to train on, 500 for validation, 1,000 to test; dark on white."""
    arrays = np.load(roots.folder("corpora") / "tasks" / "mnist.npz")
    count = len(arrays["labels"])
    split = np.array(["train"] * count, dtype=object)
    split[int(count * 0.7) : int(count * 0.8)] = "valid"
    split[int(count * 0.8) :] = "test"
    return Labelled(Pictures(arrays["pictures"], _digit), arrays["labels"], split)


def labelled(data: DataSet, roots: Roots) -> Items:
    """The emoji that have a category, split by concept."""
    return labelled_pictures(
        roots.rows("demo-image"),
        lambda name: name.replace("&", "and").lower(),
        "the demo's pictures have no labels",
    )


def pairs(data: DataSet, roots: Roots) -> Items:
    """Every held-out picture; each concept's caption is the first of its first row."""
    rows, note = held_out(roots.rows("demo-pair"), ["image", "captions", "group"])
    if not rows:
        return NotAvailable("the pairs have no held-out rows (split test)")
    captions: dict[str, str] = {}
    for row in rows:
        captions.setdefault(row["group"], row["captions"][0])
    return Captioned(
        Pictures([r["image"] for r in rows], decode),
        np.array([r["group"] for r in rows]),
        list(captions.values()),
        np.array(list(captions)),
        note,
    )


def _jsonl(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.open(encoding="utf-8")]


def reviews(data: DataSet, roots: Roots) -> Items:
    """Movie-review snippets, positive or not."""
    rows = _jsonl(roots.folder("corpora") / "tasks" / "reviews.jsonl")
    return Texts(
        [r["text"] for r in rows],
        np.array([r["label"] for r in rows], dtype=np.int64),
        np.array([r["split"] for r in rows], dtype=object),
        2,
        length=_SENTIMENT_TOKENS,
    )


def questions(data: DataSet, roots: Roots) -> Items:
    """easy-VQA; the last tenth of the training pictures is the validation part."""
    folder = roots.folder("corpora") / "tasks"
    texts, given, split, picture, files = [], [], [], [], []
    for part in ("train", "test"):
        rows = _jsonl(folder / f"vqa-{part}.jsonl")
        count = 1 + max(r["image"] for r in rows)
        for row in rows:
            texts.append(row["question"])
            given.append(row["answer"])
            valid = part == "train" and row["image"] >= int(count * 0.9)
            split.append("valid" if valid else part)
            picture.append(len(files) + row["image"])
        files += [folder / f"vqa-{part}" / f"{n}.png" for n in range(count)]
    known = sorted({a for a, part in zip(given, split, strict=True) if part != "test"})
    index = {answer: i for i, answer in enumerate(known)}
    return Texts(
        texts,
        np.array([index.get(a, -1) for a in given], dtype=np.int64),
        np.array(split, dtype=object),
        len(known),
        pictures=Pictures(files, open_picture),
        picture=np.array(picture, dtype=np.int64),
        groups=np.array(picture, dtype=np.int64),
        length=_QUESTION_TOKENS,
    )
