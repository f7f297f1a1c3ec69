"""Pictures and captions that one prepared corpus holds out, found again among another's rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from momo_platform.data.artifacts import PreparedRows
from momo_platform.data.near import LookIndex
from momo_platform.data.parts import DIGEST
from momo_platform.data.shard_reader import read_columns

DUPLICATE, NEAR = 1, 2


@lru_cache(maxsize=2)  # for the tasks of one process
def _pictures(rows: PreparedRows, bits: int, split: str) -> tuple[pa.Array, LookIndex]:
    index = rows.index()
    columns = [name for name in (DIGEST, "look") if name in index.columns]
    digests: list[bytes] = []
    looks: list[bytes | None] = []
    for file in index.held_out:
        for table in read_columns(rows.place, file, [*columns, "split"]):
            held = table.filter(pc.field("split") == split) if split else table
            digests += held[DIGEST].to_pylist()
            looks += held["look"].to_pylist() if "look" in columns else [None] * len(held)
    return pa.array(digests, pa.binary(16)), LookIndex(looks, bits)


@dataclass(frozen=True)
class HeldOutPictures:
    """Digests and looks of the pictures that `rows` hold out, in `split` ("": at all). Near
    duplicates differ in at most `near_duplicate_bits`. Pickled, it is these three."""

    rows: PreparedRows
    near_duplicate_bits: int
    split: str = ""

    def __bool__(self) -> bool:
        return len(self._known()[0]) > 0

    def _known(self) -> tuple[pa.Array, LookIndex]:
        return _pictures(self.rows, self.near_duplicate_bits, self.split)

    def fates(self, table: pa.Table) -> np.ndarray:
        """int8 [rows]: DUPLICATE where the picture is held out, NEAR where it looks like one that
        is, else 0. Of the columns `digest` and, where there is one, `look`."""
        digests, looks = self._known()
        result = np.zeros(len(table), np.int8)
        if "look" in table.column_names:
            result[looks.find_many(table["look"].to_pylist())[0] >= 0] = NEAR
        found = pc.index_in(table[DIGEST], value_set=digests)  # pyright: ignore[reportAttributeAccessIssue]
        result[found.is_valid().to_numpy()] = DUPLICATE
        return result


@lru_cache(maxsize=2)
def held_out_captions(rows: PreparedRows) -> frozenset[str]:
    """Captions in prepared pairs that are not for training, case-folded."""
    return frozenset(
        caption.casefold()
        for file in rows.index().held_out
        for table in read_columns(rows.place, file, ["captions"])
        for captions in table["captions"].to_pylist()
        for caption in captions
    )
