"""Pictures and captions that one prepared corpus holds out, found again among another's rows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from momo_platform.data.near import LookIndex


class HeldOutPictures:
    """Digests and looks of the pictures in `data` (prepared rows) that are not for training.

    `split`: those of this split only. `gone` counts what `without` left out. Without `data` nothing
    is held out.
    """

    def __init__(
        self, data: Path | None, near_duplicate_bits: int, split: str | None = None
    ) -> None:
        self._digests: set[bytes] = set()
        looks: list[bytes | None] = []
        self._looks = LookIndex(looks, near_duplicate_bits)
        self.gone = {"duplicates": 0, "near_duplicates": 0}
        if data is None:
            return
        with pq.ParquetFile(data) as file:
            columns = [n for n in ("image", "split", "look") if n in file.schema_arrow.names]
            for batch in file.iter_batches(256, columns=columns):
                wanted = (
                    pc.field("split") != "train" if split is None else pc.field("split") == split
                )
                held = pa.table(batch).filter(wanted)
                for row in held.to_pylist():
                    self._digests.add(hashlib.sha256(row["image"]).digest())
                    looks.append(row.get("look"))
        self._looks = LookIndex(looks, near_duplicate_bits)

    def without(self, table: pa.Table) -> pa.Table:
        """The rows whose picture is not held out and does not look like one that is."""
        if not self._digests:
            return table
        raw = table["image"].to_pylist()
        has_look = "look" in table.column_names
        looks = table["look"].to_pylist() if has_look else [None] * len(raw)
        same = np.array([hashlib.sha256(r).digest() in self._digests for r in raw], bool)
        near = (self._looks.find_many(looks)[0] >= 0) & ~same
        self.gone["duplicates"] += int(same.sum())
        self.gone["near_duplicates"] += int(near.sum())
        return table.filter(pa.array(~(same | near)))


class HeldOutCaptions:
    """Captions in `data` (prepared pairs) that are not for training, in any case of letters.

    `gone` counts what `without` left out. Without `data` nothing is held out.
    """

    def __init__(self, data: Path | None) -> None:
        self._captions: set[str] = set()
        self.gone = 0
        if data is None:
            return
        held = pc.field("split") != "train"
        for captions in pq.read_table(data, columns=["captions"], filters=held)["captions"]:
            self._captions |= {caption.casefold() for caption in captions.as_py()}

    def without(self, table: pa.Table) -> pa.Table:
        """The rows whose `text` is not such a caption."""
        if not self._captions:
            return table
        kept = [text.casefold() not in self._captions for text in table["text"].to_pylist()]
        self.gone += len(kept) - sum(kept)
        return table.filter(pa.array(kept, pa.bool_()))
