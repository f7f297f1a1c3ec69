"""What the stages of data leave for others, and how it is laid out. Loads no Arrow.

A preparation leaves its training rows in `shards/<source>-00000.parquet` …, in the order of their
contents' digests, so that any stretch of them is a random sample; what is held out is in
`held-out/00000.parquet` …, with the column `split`. `index.json` names all files and what they
hold. A mixture of texts leaves shards in the same way; one of pictures has `mixture.json` alone,
which says how often which of the prepared rows come.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from momo_platform.stages.inputs import ArtifactPlace
from momo_platform.stages.storage.place import Place

INDEX, MIXTURE, LEFT_OUT = "index.json", "mixture.json", "left_out.parquet"
SHARDS, HELD_OUT, VALID = "shards", "held-out", "valid"
CARD, CARD_PAGE = "card.json", "card.md"
FORMAT, MIXTURE_FORMAT = 2, 1


@dataclass(frozen=True)
class ShardFile:
    """A Parquet file: its name in the artifact, its size in bytes, and how many rows of which
    source (a file of held-out rows: "", of all sources). `ends_at`: where in it the ends of its
    row groups are listed (shards.py)."""

    file: str
    rows: int
    size: int
    source: str = ""
    sha256: str = ""
    ends_at: int = 0


@dataclass(frozen=True)
class RowIndex:
    """What `index.json` says. `row_group`: rows of each row group but a file's last one. Rows are
    numbered through `shards`, whose order is that of the sources and then of the files."""

    row_group: int
    columns: tuple[str, ...]
    shards: tuple[ShardFile, ...]
    held_out: tuple[ShardFile, ...] = ()

    @property
    def rows(self) -> int:
        """Training rows."""
        return sum(shard.rows for shard in self.shards)

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"format": FORMAT, **asdict(self)}

    @staticmethod
    def of(document: dict[str, Any]) -> RowIndex:
        """Inverse of `document`. Raises ValueError for another format."""
        if document.get("format") != FORMAT:
            raise ValueError(f"{INDEX} has format {document.get('format')}, not {FORMAT}")
        files = (tuple(ShardFile(**one) for one in document[k]) for k in ("shards", "held_out"))
        return RowIndex(int(document["row_group"]), tuple(document["columns"]), *files)


@dataclass(frozen=True)
class MixedSource:
    """A source of a mixture: how many rows it has there, and how often each comes in an epoch."""

    name: str
    weight: float
    rows: int


@dataclass(frozen=True)
class MixtureIndex:
    """What `mixture.json` says: its sources, and the columns that training reads."""

    columns: tuple[str, ...]
    sources: tuple[MixedSource, ...]

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"format": MIXTURE_FORMAT, **asdict(self)}

    @staticmethod
    def of(document: dict[str, Any]) -> MixtureIndex:
        """Inverse of `document`. Raises ValueError for another format."""
        if document.get("format") != MIXTURE_FORMAT:
            raise ValueError(f"{MIXTURE} has another format than {MIXTURE_FORMAT}")
        sources = tuple(MixedSource(**one) for one in document["sources"])
        return MixtureIndex(tuple(document["columns"]), sources)


class Rows(ArtifactPlace):
    """Rows in shards, as the module says."""

    def index(self) -> RowIndex:
        """Raises FileNotFoundError where there is none."""
        return RowIndex.of(json.loads(self.place.read(INDEX)))

    @property
    def has_index(self) -> bool:
        return self.place.size(INDEX) is not None


class PreparedRows(Rows):
    """What a corpus's preparation leaves."""

    def card(self) -> dict[str, Any]:
        """What `card.json` says (card.py). Raises FileNotFoundError where there is none."""
        return json.loads(self.place.read(CARD))


class Mixture(Rows):
    """What a mixture leaves. `valid` are the rows that training is measured on, in shards of their
    own; without any, there is no such folder. Prepared rows that it leaves out are in
    `left_out.parquet`: the column `row`, sorted."""

    def mixture(self) -> MixtureIndex:
        """Raises FileNotFoundError where there is none."""
        return MixtureIndex.of(json.loads(self.place.read(MIXTURE)))

    @property
    def valid(self) -> Rows:
        return Rows(self.place / VALID)


def write_index(place: Place, index: RowIndex) -> None:
    """The last file to be written."""
    place.write(INDEX, json.dumps(index.document(), indent=1).encode())


def write_mixture(place: Place, mixture: MixtureIndex) -> None:
    """What a mixture says of its sources."""
    place.write(MIXTURE, json.dumps(mixture.document(), indent=1).encode())
