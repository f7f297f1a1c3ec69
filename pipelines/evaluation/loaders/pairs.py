"""VQAv2, SNLI-VE, Hateful Memes, and retrieval on Flickr30k and COCO, in their published files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from momo.evaluation.vqa import normalise_answer
from momo.export import open_picture
from momo_platform.stages import UserError
from pipelines.evaluation.datasets import DataSet, Roots
from pipelines.evaluation.items import Captioned, Items, Pictures, Texts

_ANSWERS = 3129  # as many as the models that VQAv2's papers compare
_QUESTION_TOKENS, _HYPOTHESIS_TOKENS, _MEME_TOKENS = 24, 48, 64


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: {error}; get it again") from error


def _lines(file: Path, fields: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8") as opened:
            for number, line in enumerate(opened, 1):
                row = json.loads(line)
                if missing := set(fields) - set(row):
                    raise UserError(f"{file}:{number}: no field {', '.join(sorted(missing))}")
                yield row
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: {error}; get it again") from error


def _by_picture(keys: list[Any]) -> np.ndarray:
    """The number of each key's first appearance among different ones: the order of
    `dict.fromkeys`."""
    rows: dict[Any, int] = {}
    return np.array([rows.setdefault(k, len(rows)) for k in keys], dtype=np.int64)


def vqav2(data: DataSet, roots: Roots) -> Items:
    """train2014, a tenth of whose pictures is the validation part; val2014 is the test part, since
    the test parts' answers are not public. The commonest 3,129 answers of the training part are the
    classes; a question whose commonest answer is none of them is not trained on."""
    folder = roots.data / "vqav2"
    texts, keys, split, said = [], [], [], []
    for year, part in (("train2014", "train"), ("val2014", "test")):
        asked = _json(folder / f"v2_OpenEndedQuestions_mscoco_{year}_questions.json")["questions"]
        questions = {q["question_id"]: q["question"] for q in asked}
        for row in _json(folder / f"v2_mscoco_{year}_annotations.json")["annotations"]:
            texts.append(questions[row["question_id"]])
            keys.append((year, row["image_id"]))
            valid = part == "train" and row["image_id"] % 10 == 0
            split.append("valid" if valid else part)
            said.append([a["answer"] for a in row["answers"]])
    common = [Counter(normalise_answer(a) for a in s).most_common(1)[0][0] for s in said]
    counts = Counter(c for c, part in zip(common, split, strict=True) if part == "train")
    answers = tuple(a for a, _ in counts.most_common(_ANSWERS))
    index = {answer: i for i, answer in enumerate(answers)}
    labels = np.array([index.get(c, -1) for c in common], dtype=np.int64)
    kept = [i for i, part in enumerate(split) if part != "train" or labels[i] >= 0]
    keys = [keys[i] for i in kept]
    picture = _by_picture(keys)
    places = [
        folder / year / f"COCO_{year}_{number:012d}.jpg" for year, number in dict.fromkeys(keys)
    ]
    return Texts(
        [texts[i] for i in kept],
        np.maximum(labels[kept], 0),
        np.array([split[i] for i in kept], dtype=object),
        len(answers),
        pictures=Pictures(places, open_picture),
        picture=picture,
        answers=answers,
        references=[said[i] for i in kept],
        groups=picture,
        length=_QUESTION_TOKENS,
    )


def snli_ve(data: DataSet, roots: Roots) -> Items:
    """Visual entailment (arXiv 1901.06706): train, dev and test, pictures of Flickr30k."""
    classes = ("entailment", "neutral", "contradiction")
    folder, images = roots.data / "snli_ve", roots.data / "flickr30k" / "flickr30k-images"
    texts, labels, split, keys = [], [], [], []
    for name, part in (("train", "train"), ("dev", "valid"), ("test", "test")):
        file = folder / f"snli_ve_{name}.jsonl"
        for row in _lines(file, ("sentence2", "gold_label", "Flickr30K_ID")):
            if row["gold_label"] not in classes:
                continue  # "-": its judges did not agree
            texts.append(row["sentence2"])
            labels.append(classes.index(row["gold_label"]))
            split.append(part)
            keys.append(str(row["Flickr30K_ID"]))
    picture = _by_picture(keys)
    places = [images / f"{key}.jpg" for key in dict.fromkeys(keys)]
    return Texts(
        texts,
        np.array(labels, dtype=np.int64),
        np.array(split, dtype=object),
        len(classes),
        pictures=Pictures(places, open_picture),
        picture=picture,
        groups=picture,
        length=_HYPOTHESIS_TOKENS,
    )


def hateful_memes(data: DataSet, roots: Roots) -> Items:
    """Hateful Memes (arXiv 2005.04790): train, dev_seen and test_seen."""
    folder = roots.data / "hateful_memes"
    texts, labels, split, places = [], [], [], []
    for name, part in (("train", "train"), ("dev_seen", "valid"), ("test_seen", "test")):
        for row in _lines(folder / f"{name}.jsonl", ("img", "text", "label")):
            texts.append(row["text"])
            labels.append(row["label"])
            split.append(part)
            places.append(folder / row["img"])
    return Texts(
        texts,
        np.array(labels, dtype=np.int64),
        np.array(split, dtype=object),
        2,
        pictures=Pictures(places, open_picture),
        picture=np.arange(len(places)),
        length=_MEME_TOKENS,
    )


def karpathy(data: DataSet, roots: Roots) -> Items:
    """The test part of Karpathy's split, five captions a picture (arXiv 1412.2306)."""
    folder = roots.data / data.argument
    file = folder / f"dataset_{data.argument}.json"
    document = _json(file)
    chosen = [row for row in document["images"] if row["split"] == "test"]
    if not chosen:
        raise UserError(f"{file}: no picture has split test")
    places, captions, groups = [], [], []
    for number, row in enumerate(chosen):
        below = row.get("filepath", "flickr30k-images")
        places.append(folder / below / row["filename"])
        texts = [s["raw"] for s in row["sentences"]]
        captions += texts
        groups += [number] * len(texts)
    return Captioned(
        Pictures(places, open_picture), np.arange(len(places)), captions, np.array(groups)
    )
