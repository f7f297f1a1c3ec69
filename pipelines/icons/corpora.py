"""The stage that lays the icons' corpora out as plain files, from hash-pinned packages.

Its output:

- `pairs/*.parquet`: `image` (SVG with a size, its current colour black), `captions`, `group` (the
  concept: the folded name), `split` (train, valid, test), `label` (the style: its set's prefix).
  A concept has one split in all sets. Stages 1 and 2 learn from the same pictures.
- `text/wordnet.txt` (a gloss with its words a line), `wikipedia.txt`, `reviews.txt`.
- `tasks/`: `mnist.npz`, `vqa-*` and `reviews.jsonl` as the demo's, and
  `glosses.jsonl` {"text", "label" (lexicographer file of the noun), "split"},
  `unseen_styles.parquet` (the emoji sets, which nothing is trained on: image, captions, group,
  style, seen: whether the concept is trained on in any set),
  `styles.parquet` (image, label, group, split: the 40 commonest styles, split by concept),
  `named.parquet` (image, caption, group: pictures left out of training of 1,000 concepts that are
  trained on in two other sets at least),
  `retrieval.parquet` (image, caption, group: a picture each of 1,000 held-out concepts).
- `card.json`: counts by set with licences; what was left out and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from momo_platform.data.config import Requirement
from momo_platform.stages import Context, by_role

LICENCES = {
    "icons": "each set's own: MIT, Apache-2.0, CC-BY, CC0, ISC, BSD, OFL (card.json)",
    "wordnet": "WordNet",
}


@dataclass(frozen=True)
class IconCorpora:
    """`pictures`: at most so many to train on, whole concepts drawn by hash (0: all)."""

    seed: int = 0
    pictures: int = 0
    requirements: tuple[Requirement, ...] = ()


@by_role
def run_icon_corpora(config: IconCorpora, context: Context) -> dict[str, Any]:
    """Stage: fetch the packages and write pictures with names, text and evaluation sets."""
    raise NotImplementedError
