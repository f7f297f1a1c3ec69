"""How far the demo's tasks lie apart over seeds: what no interval over test examples says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SPREAD: Mapping[str, tuple[float, float]] = {
    "demo/mnist": (0.908, 0.919),
    "demo/emoji_category": (0.498, 0.515),
    "demo/movie_sentiment": (0.667, 0.702),
    "demo/image_to_text": (0.102, 0.124),
    "demo/text_to_image": (0.075, 0.107),
    "demo/easy_vqa": (0.397, 0.674),
}
"""Smallest and largest value of six seeds: the demo's model and recipe with fewer steps and half of
its batches (the first arm of `experiments/flava.py`; a test compares them with its records)."""
SAMPLE = (
    "The 95 % hold the choice of test examples only: a training with another seed moves a value "
    "too. Rows are not corrected for their number."
)


def told(tasks: Iterable[str]) -> str:
    """What stands below a table with these tasks."""
    known = [name for name in tasks if name in SPREAD]
    if not known:
        return f"{SAMPLE} `momo sweep` with several seeds shows by how much."
    spread = "; ".join(
        f"{name.removeprefix('demo/')} {SPREAD[name][0]:.3f} to {SPREAD[name][1]:.3f}"
        for name in known
    )
    return f"{SAMPLE} Over six seeds of the demo, trained shorter, values ran: {spread}."
