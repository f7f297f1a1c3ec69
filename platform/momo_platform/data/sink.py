"""Where prepared rows end: kept, a duplicate or in quarantine; written and counted."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from momo_platform.data.card import STEPS, CardBuilder
from momo_platform.data.columns import TEXT_NAMES
from momo_platform.data.config import DATA, Kind, SourceConfig
from momo_platform.data.digests import DIGEST_SCHEMA, FILES, write_listing
from momo_platform.data.near import LookIndex
from momo_platform.stages.errors import UserError

QUARANTINE, NEAR = "quarantine.parquet", "near_duplicates.parquet"
BLOCK_ROWS = 512
_REASON_SCHEMA = pa.schema({"source": pa.string(), "key": pa.string(), "reason": pa.string()})
_NEAR_SCHEMA = pa.schema(
    {
        **{n: pa.string() for n in ("source", "key", "held_out_source", "held_out_key")},
        "bits": pa.int32(),
    }
)
_NOT_KEPT = ("reason", "file", "size", "sha256")


class _Writer:
    """Rows to one Parquet file in row groups of `BLOCK_ROWS`."""

    def __init__(self, path: Path, schema: pa.Schema, **options: Any) -> None:
        self._writer, self._schema = pq.ParquetWriter(path, schema, **options), schema
        self._rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == BLOCK_ROWS:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()


class Sink:
    """Writes kept rows, near duplicates, the quarantine and the card.

    Held-out rows must come before the training rows: what is like them goes from the latter, never
    the other way round. `near_duplicate_bits` is None for rows without pictures.
    """

    def __init__(
        self, output: Path, kind: Kind, schema: pa.Schema, near_duplicate_bits: int | None = None
    ) -> None:
        self.output, self.kind, self.bits = output, kind, near_duplicate_bits
        self.card = CardBuilder(kind)
        kept = pa.schema([field for field in schema if field.name not in _NOT_KEPT])
        self._kept = _Writer(output / DATA, kept, compression="zstd")
        self._bad = _Writer(output / QUARANTINE, _REASON_SCHEMA)
        self._near = None
        if near_duplicate_bits is not None:
            self._near = _Writer(output / NEAR, _NEAR_SCHEMA)
        self._held_out: list[dict[str, Any]] = []
        self._looks: LookIndex | None = None
        self._seen: dict[bytes, str] = {}
        self._files: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        """A block of prepared rows, in order."""
        if "sha256" in table.column_names:
            hashed = table.filter(table["sha256"].is_valid())
            hashed = hashed.select(["source", "file", "size", "sha256"])
            self._files.append(hashed.rename_columns(DIGEST_SCHEMA.names))
        for row in table.to_pylist():
            self.card.count(row, self._fate(row))

    def _fate(self, row: dict[str, Any]) -> str:
        """Write a row to where it belongs; returns the step of the card that it ends in."""
        if row["reason"]:
            self._bad.add(row)
            return "quarantined"
        if self._is_duplicate(row):
            return "duplicates"
        if self._is_near_duplicate(row):
            return "near_duplicates"
        self._kept.add(row)
        return "kept"

    def _is_duplicate(self, row: dict[str, Any]) -> bool:
        """Exact repeats go; so does a training row whose picture is held out."""
        value = row[self.kind.content]
        raw = value if isinstance(value, bytes) else value.encode()
        captions = "\0".join(row.get("captions", [])).encode()
        digest = hashlib.sha256(raw).digest()[:16]
        split = row.get("split", "train")
        held_out = self._seen.setdefault(digest, split)
        if split == "train" and held_out != "train":
            return True
        whole = hashlib.sha256(digest + captions + b"pair").digest()[:16]
        if whole in self._seen:
            return True
        self._seen[whole] = split
        return False

    def _is_near_duplicate(self, row: dict[str, Any]) -> bool:
        """A training row whose picture looks like a held-out one goes, and is written down."""
        if self._near is None:
            return False
        if row["split"] != "train":
            self._held_out.append({name: row[name] for name in ("look", "source", "key")})
            return False
        if self._looks is None:  # held-out rows come first
            looks = [held["look"] for held in self._held_out]
            self._looks = LookIndex(looks, self.bits if self.bits is not None else -1)
        numbers, bits = self._looks.find_many([row["look"]])
        if numbers[0] < 0:
            return False
        held = self._held_out[numbers[0]]
        like = {"held_out_source": held["source"], "held_out_key": held["key"]}
        like["bits"] = int(bits[0])
        self._near.add(row | like)
        return True

    def add_files(self, tables: Iterable[pa.Table]) -> None:
        """Checksums by DIGEST_SCHEMA of the corpus's tables and text files."""
        self._files += tables

    def close(self, sources: Sequence[SourceConfig], max_bad_fraction: float) -> dict[str, Any]:
        """Finish all files; returns the metrics. Raises UserError when too few rows are usable."""
        for writer in (self._kept, self._bad, self._near):
            if writer is not None:
                writer.close()
        files = write_listing(self._files, self.output / FILES)
        self._check(sources, max_bad_fraction)
        self.card.write(self.output, sources, files, self.bits)
        total = self.card.total
        ignored = sum((one.counts for one in self.card.ignored.values()), Counter())
        return {
            **({"ignored": dict(ignored.most_common(20))} if ignored else {}),
            **{step: total[step] for step in STEPS},
            "reasons": dict(self.card.reasons.most_common(20)),
            "sources": self.card.by_source,
        }

    def _check(self, sources: Sequence[SourceConfig], max_bad_fraction: float) -> None:
        total, kind = self.card.total, self.kind.name
        reasons = self.card.reasons
        places = ", ".join(s.name if s.uri.startswith("input:") else s.uri for s in sources)
        if not total["read"]:
            raise UserError(f"{kind}: {places} holds no rows; check {self.kind.option}")
        if not total["kept"] or total["quarantined"] > max_bad_fraction * total["read"]:
            remedies = [remedy for reason in reasons for remedy in _remedy(reason)]
            if total["kept"]:
                remedies.append(f"or raise --{kind}.max-bad-fraction")
            key, reason = next(iter(self.card.examples.values()))
            listed = f"{self.output / QUARANTINE} (not kept where --storage is a URI)"
            raise UserError(
                f"{kind}: {total['quarantined']} of {total['read']} rows of {places} can't be used "
                f"({_common(reasons)}), for example {key}: {reason[:300]}. All are listed in "
                f"{listed}. Correct the source" + "".join(f"; {r}" for r in dict.fromkeys(remedies))
            )

    def not_read(self) -> str:
        """One line on the files that were not read, for people; "" when all were."""
        counts = sum((one.counts for one in self.card.ignored.values()), Counter())
        if not counts:
            return ""
        reason = counts.most_common(1)[0][0]
        named = [n for one in self.card.ignored.values() for n in one.examples.get(reason, ())]
        files = f"{counts.total()} file{'s' * (counts.total() != 1)}"
        return f"{files} not read ({_common(counts)}), for example {named[0]}"

    def left_out(self) -> str:
        """One line on the rows that were not kept, for people; "" when all were."""
        total = self.card.total
        parts = [_common(self.card.reasons)] if self.card.reasons else []
        words = {"duplicates": "duplicate", "near_duplicates": "like a held-out picture"}
        parts += [f"{total[step]} × {word}" for step, word in words.items() if total[step]]
        if not parts:
            return ""
        gone = total["read"] - total["kept"]
        text = f"{gone} of {total['read']} rows left out ({'; '.join(parts)})"
        if not total["quarantined"]:
            return text
        reason, (key, whole) = next(iter(self.card.examples.items()))
        example = f"; {key}: {whole[:200]}" if whole != reason else ""
        return f"{text}; listed in {QUARANTINE}{example}"


def _common(reasons: Counter[str]) -> str:
    parts = [f"{n} × {reason}" for reason, n in reasons.most_common(3)]
    if others := reasons.total() - sum(n for _, n in reasons.most_common(3)):
        parts.append(f"{others} × other reasons")
    return "; ".join(parts)


def _remedy(reason: str) -> Iterator[str]:
    """What most likely mends rows that can't be used for this reason."""
    if reason in ("the caption is empty", "no caption lies beside the picture"):
        yield "put name.txt beside name.jpg, or fill the table's column caption"
    if reason == "the sample has no caption":
        yield "give each sample of the tar a .txt or .caption beside its picture"
    if reason == "the picture does not exist":
        yield "a table names pictures from its own folder on, or by whole paths"
    if reason == "the row names no picture":
        yield "fill the table's column image"
    if reason == "the row has no text":
        yield f"call the column with the text {TEXT_NAMES[0]}"
    if reason.startswith("shorter than") and reason.endswith("characters"):
        yield "put each document on a line of its own"
