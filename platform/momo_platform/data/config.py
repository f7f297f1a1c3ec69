"""What the stages of data are told: plain values. A plan loads no NumPy, Arrow or Pillow for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from momo_platform.bounds import check_bounds
from momo_platform.stages.errors import UserError

NEAR_BITS = 4  # drops 1.1 % of the demo's training pictures
MAX_BITS = 12


@dataclass(frozen=True)
class ImageConfig:
    """`size_cap`: the shorter side in pixels that larger pictures are scaled down to."""

    size_cap: int = 64
    encoding: Literal["png", "jpeg"] = "png"
    jpeg_quality: int = 90
    background: str = "white"

    def __post_init__(self) -> None:
        check_bounds(self, size_cap=(8, None), jpeg_quality=(1, 100))
        if re.fullmatch("white|black|#[0-9a-f]{6}", self.background):
            return  # without Pillow, which a plan does not load
        from PIL import ImageColor

        try:
            ImageColor.getrgb(self.background)
        except ValueError:
            raise ValueError(
                f"background={self.background!r}: give a colour such as white or #ffffff"
            ) from None


@dataclass(frozen=True)
class Kind:
    """What the readers and the stages of data are told of a modality's corpus.

    `name`: in options, stages and messages. `hint`: what to give as its source. `columns`: what a
    table needs columns for, each with the names that it may have. `content`: the column of prepared
    rows by which a row repeats another. `measured`: columns of whole numbers that the card shows.
    `look`, where there is one, is given place, listing, name of the option and kind before anything
    runs; it raises UserError for a listing of which nothing can be used (see look.py).
    """

    name: str
    hint: str
    columns: tuple[tuple[str, tuple[str, ...]], ...]
    content: str
    measured: tuple[str, ...] = ()
    look: Callable[[str, Sequence[Any], str, Kind], None] | None = None

    @property
    def option(self) -> str:
        """The option that names its source."""
        return f"--{self.name}.source"

    def needs(self, what: str) -> bool:
        """Whether a row has to have a `caption`, a `picture` …"""
        return any(word == what for word, _ in self.columns)


@dataclass(frozen=True)
class SourceConfig:
    """One corpus. `uri` is a path or URI; `input:<role>/<path>` lies in an input stage's output.

    `content` is the listing's digest (names, sizes, times), filled when the graph is built, so
    that a changed corpus is prepared again and a moved one is not. `weight` is how often a row
    comes in an epoch (0.5: every second row; 3: each three times).
    """

    name: str
    uri: str = field(metadata={"semantic": False})
    content: str = ""
    weight: float = 1.0
    licence: str = ""


@dataclass(frozen=True)
class PrepareConfig:
    """Sources of one modality. Above `max_bad_fraction` unusable rows the stage fails.

    Rows that name no split: `held_out` of their groups become "test" and `valid` of them "valid",
    by hash, the rest "train"; None: the automatic shares of splits.py.
    Training pictures go that differ from a held-out one in at most `near_duplicate_bits` of the 64
    bits of their perceptual hash (see near.py); -1: only exact repeats go.
    Shards hold about `bucket_bytes` of rows of all sources; None: 512 MB, of text 64 MB. A task
    that makes some takes 3.5 times as much memory. Raises UserError for two sources of one name.
    """

    sources: tuple[SourceConfig, ...]
    image: ImageConfig = ImageConfig()
    max_bad_fraction: float = 0.5
    min_text_length: int = 20
    held_out: float | None = 0.0
    valid: float | None = None
    near_duplicate_bits: int = NEAR_BITS
    bucket_bytes: int | None = None

    def __post_init__(self) -> None:
        check_bounds(self, near_duplicate_bits=(-1, MAX_BITS))
        if self.bucket_bytes is not None:
            check_bounds(self, bucket_bytes=(1, None))
        names = [source.name for source in self.sources]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"two sources have the name {twice[0]!r}; give each one of its own")


@dataclass(frozen=True)
class MixConfig:
    """`weights` maps a source's name to how often its rows come in an epoch (default 1).

    `sequence_length` and the special tokens' ids are for text: documents are joined by `[SEP]`
    and cut into sequences that begin with `[CLS]`. `near_duplicate_bits` is for pictures that an
    input holds out, as in PrepareConfig. At most `valid_rows` rows of split `valid` are kept for
    measuring. `own` is the option that named a person's own source, which is refused when
    fewer than LEAST_ROWS of its pictures or pairs can be used.
    """

    weights: Mapping[str, float]
    seed: int = 0
    sequence_length: int = 64
    cls_id: int = 2
    sep_id: int = 3
    near_duplicate_bits: int = NEAR_BITS
    valid_rows: int = 2048
    own: str = field(default="", metadata={"semantic": False})

    def __post_init__(self) -> None:
        check_bounds(self, near_duplicate_bits=(-1, MAX_BITS), valid_rows=(0, None))
        for name, weight in self.weights.items():
            if not 0.0 <= weight < float("inf"):
                raise UserError(f"weight of source {name}: {weight} must be 0 or more")


@dataclass(frozen=True)
class Requirement:
    """A package pinned by version and, unless its wheels differ by machine, by sha256."""

    name: str
    version: str
    sha256: str = ""
    sdist: bool = False
