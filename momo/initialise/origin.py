"""What a model started from, as plans show it and as exports keep it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

NOT_STATED = "not stated"
HUB = "hf://"


@dataclass(frozen=True)
class Origin:
    """Whose weights a model started from. `name`: the folder or file as it was given, or
    `hf://org/name`; `kind`: whose layout; `sha256`: of the weights' files, one after another;
    `filled`: which parts of the model they gave; `earlier`: what those weights started from
    themselves.
    """

    name: str
    kind: str
    licence: str
    sha256: str
    filled: tuple[str, ...]
    earlier: tuple[Mapping[str, Any], ...] = ()

    def chain(self) -> list[dict[str, Any]]:
        """The oldest first, for the `origin` of an exported `config.json`."""
        own = dataclasses.asdict(self)
        del own["earlier"]
        own["filled"] = list(self.filled)
        return [*(dict(one) for one in self.earlier), own]


@dataclass(frozen=True)
class InitialModel:
    """What a source would do to a model, found without reading its weights.

    `left_out`: what the source holds beside, by the beginning of its name; `notes`: for people,
    where features would not equal the source's and what can't be known beforehand. `vocab_size`:
    words of the tokenizer that it brings (`momo.initialise.words_of`), None without one.
    """

    origin: Origin
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    vocab_size: int | None = None

    @property
    def brings_words(self) -> bool:
        """Whether a tokenizer comes with it, which the text must then be read by."""
        return self.vocab_size is not None

    def summary(self) -> str:
        """A line for a plan."""
        own = self.origin
        words = f", brings its tokenizer of {self.vocab_size} words" if self.brings_words else ""
        return (
            f"{own.name}: {own.kind}, licence {own.licence}, sha256 {own.sha256[:12]}, gives "
            f"{', '.join(own.filled)}{words}"
        )


def origin_of(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """What the exported model in `folder` started from, the oldest first: `Origin.chain` of its
    training. Empty for a model that started from random weights, and without a model."""
    file = Path(folder) / "config.json"
    if not file.is_file():
        return []
    return list(json.loads(file.read_text(encoding="utf-8")).get("origin") or ())


def published(origin: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For others to read: of places on somebody's own machine the last name only."""
    return [
        {**one, "name": name if name.startswith(HUB) else PurePath(name).name}
        for one in origin
        for name in [str(one.get("name", ""))]
    ]
