"""Pictures and captions that one prepared corpus holds out, found again among another's rows."""

from __future__ import annotations

import hashlib
from pathlib import Path

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
        self._looks = LookIndex(near_duplicate_bits)
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
                    self._looks.add(row.get("look"), str(data), "")

    def _fate(self, raw: bytes, look: bytes | None) -> str | None:
        if hashlib.sha256(raw).digest() in self._digests:
            return "duplicates"
        return "near_duplicates" if self._looks.find(look) else None

    def without(self, table: pa.Table) -> pa.Table:
        """The rows whose picture is not held out and does not look like one that is."""
        if not self._digests:
            return table
        raw = table["image"].to_pylist()
        has_look = "look" in table.column_names
        looks = table["look"].to_pylist() if has_look else [None] * len(raw)
        fates = [self._fate(*pair) for pair in zip(raw, looks, strict=True)]
        for fate in fates:
            if fate is not None:
                self.gone[fate] += 1
        return table.filter(pa.array([fate is None for fate in fates], pa.bool_()))


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
