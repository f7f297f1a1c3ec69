"""Splits and labels from where pictures lie: `[train|valid|test/]<class>/<picture>`."""

from __future__ import annotations

from collections.abc import Sequence

from momo_platform.data.listing import SPLITS


def splits_and_labels(names: Sequence[str]) -> list[tuple[str, str]]:
    """(split, label) of pictures by their paths below the corpus's folder; "" where there is none.

    The first folders are splits where all of them are called so and there are at least two. What is
    left of each path is a class where every picture lies in exactly one folder and there are at
    least two of these.
    """
    parts = [name.split("/")[:-1] for name in names]
    first = {p[0].lower() if p else "" for p in parts}
    splits = ["" for _ in parts]
    if first and first <= set(SPLITS) - {""}:
        if len({SPLITS[f] for f in first}) > 1:
            splits = [SPLITS[p[0].lower()] for p in parts]
        parts = [p[1:] for p in parts]
    labels = ["" for _ in parts]
    if all(len(p) == 1 for p in parts) and len({p[0] for p in parts}) > 1:
        labels = [p[0] for p in parts]
    return list(zip(splits, labels, strict=True))
