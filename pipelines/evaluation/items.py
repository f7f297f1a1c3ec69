"""What loaders give: pictures that are opened when asked for, with labels, captions or texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


_HELD_PIXELS = 2**31  # bytes: fewer are decoded once and kept


@dataclass(frozen=True)
class Pictures:
    """`open(items[i])` gives picture i. `drawn(items[i], size)` gives it with sides of `size`
    pixels, where pictures are drawings: not scaled, as training has them."""

    items: Sequence[Any]
    open: Callable[[Any], Image.Image]
    drawn: Callable[[Any, int], Image.Image] | None = None

    def __len__(self) -> int:
        return len(self.items)

    def chosen(self, rows: Iterable[int] | np.ndarray) -> Pictures:
        """Those of `rows`, in their order."""
        return replace(self, items=[self.items[i] for i in rows])

    def pixels(self, rows: Sequence[int] | np.ndarray, size: int, threads: int = 1) -> np.ndarray:
        """uint8 [rows, 3, size, size]; decoders let other threads run."""
        import numpy as np

        from momo.transforms import stack_pictures

        def one(row: int) -> np.ndarray:
            item = self.items[row]
            picture = self.open(item) if self.drawn is None else self.drawn(item, size)
            return stack_pictures([picture], size)

        if threads == 1:
            return np.concatenate([one(int(i)) for i in rows])
        with ThreadPoolExecutor(threads) as pool:
            return np.concatenate(list(pool.map(one, (int(i) for i in rows))))


class LazyPixels:
    """`pixels[rows]`, decoded when asked for; all at once where they fit into 2 GB."""

    def __init__(self, pictures: Pictures, size: int, threads: int = 1) -> None:
        self.pictures, self.size, self.threads = pictures, size, threads
        self.held: np.ndarray | None = None
        if len(pictures) * 3 * size * size <= _HELD_PIXELS:
            self.held = pictures.pixels(range(len(pictures)), size, threads)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        if self.held is not None:
            return self.held[rows]
        chosen = range(len(self))[rows] if isinstance(rows, slice) else rows
        return self.pictures.pixels(chosen, self.size, self.threads)


@dataclass(frozen=True)
class Labelled:
    """`labels[i]` of picture i and its part, `split[i]` of train, valid, test.

    `class_names` [C] by label, where the labels are numbers with names. `groups` [N]: what is drawn
    together for intervals, as the pictures of one concept; None: each alone. `note`: what a person
    should know of them. `templates`: of zero-shot descriptions, `{}` for the class's name; none:
    those of `momo.evaluation.zero_shot`.
    """

    pictures: Pictures
    labels: np.ndarray
    split: np.ndarray
    class_names: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    note: str = ""
    templates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Captioned:
    """Held-out pictures and captions; those of one group belong together. `note`: what a person
    should know of them."""

    pictures: Pictures
    image_groups: np.ndarray
    captions: list[str]
    text_groups: np.ndarray
    note: str = ""


@dataclass(frozen=True)
class Texts:
    """Texts, sentence pairs (`second`) or questions about pictures (`picture`: row of each).

    `labels` [N]: classes, or numbers where `classes` is 1. `answers`: the classes' names and
    `references` what people said, where the metric compares those. `groups`: what belongs together
    when the interval is computed. `length`: tokens that are enough. `class_names` [C] by label.
    `note`: what a person should know of them.
    """

    texts: list[str]
    labels: np.ndarray
    split: np.ndarray
    classes: int
    second: list[str] | None = None
    pictures: Pictures | None = None
    picture: np.ndarray | None = None
    answers: tuple[str, ...] | None = None
    references: list[Any] | None = None
    groups: np.ndarray | None = None
    length: int = 128
    class_names: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class SelfContained:
    """A `task` of mteb, which brings its own data (`mteb.abstasks.AbsTask`)."""

    task: Any
    note: str = ""


@dataclass(frozen=True)
class NotAvailable:
    """Why a data set can't be used although its place exists."""

    reason: str


Usable = Labelled | Captioned | Texts | SelfContained
Items = Usable | NotAvailable


def carve(split: np.ndarray, share: float = 0.1, most: int = 10_000, seed: int = 0) -> np.ndarray:
    """Give a part of the training rows to `valid`, where there is none."""
    import numpy as np

    if "valid" in split:
        return split
    rows = np.flatnonzero(split == "train")
    generator = np.random.Generator(np.random.Philox(seed))
    count = min(most, max(1, int(len(rows) * share)))
    split = split.copy()
    split[generator.permutation(rows)[:count]] = "valid"
    return split


def classes_of(
    labels: Sequence[str], shown: Callable[[str], str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers int64 [N] of the labels in their order, and the classes' names as `shown` writes
    them; no names where all are bare numbers, which say nothing to a text encoder."""
    import numpy as np

    classes, numbers = np.unique(np.array(labels, dtype=str), return_inverse=True)
    names = tuple(shown(str(c)) for c in classes)
    named = any(any(c.isalpha() for c in name) for name in names)
    return numbers.reshape(-1).astype(np.int64), names if named else ()


def divided(groups: Sequence[str], strata: np.ndarray | None = None) -> np.ndarray:
    """train 70 %, valid 10 %, test 20 % of the groups [N] by their hash; of each class where
    `strata` [N] are given (a group's is that of its first row). Groups are never divided."""
    import numpy as np

    from momo_platform.data.splits import Shares, divide

    stratum = dict[str, Any]()
    for i, group in enumerate(groups):
        stratum.setdefault(group, None if strata is None else strata[i])
    split_of: dict[str, str] = {}
    for value in set(stratum.values()):
        split_of |= divide((g for g, v in stratum.items() if v == value), Shares(0.2, 0.1))
    return np.array([split_of[group] for group in groups], dtype=object)


def evenly(split: np.ndarray, limit: int) -> np.ndarray:
    """Rows [≤ N] of which each part keeps `limit`, evenly spread (0: all)."""
    import numpy as np

    if not limit:
        return np.arange(len(split))
    kept = []
    for part in np.unique(split):
        rows = np.flatnonzero(split == part)
        kept.append(rows[:: -(-len(rows) // limit)])
    return np.sort(np.concatenate(kept))


def limited(items: Captioned, limit: int) -> Captioned:
    """`limit` groups, evenly spread (0: all)."""
    groups = list(dict.fromkeys(items.image_groups.tolist()))
    if not limit or len(groups) <= limit:
        return items
    kept = set(groups[:: -(-len(groups) // limit)])
    images = [i for i, g in enumerate(items.image_groups.tolist()) if g in kept]
    texts = [i for i, g in enumerate(items.text_groups.tolist()) if g in kept]
    return Captioned(
        items.pictures.chosen(images),
        items.image_groups[images],
        [items.captions[i] for i in texts],
        items.text_groups[texts],
        items.note,
    )
