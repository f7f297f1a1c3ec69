"""What a preparation's driver makes of its tasks' records: the index, the card, what people are
told. It holds no rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from momo_platform.data.artifacts import HELD_OUT, SHARDS, RowIndex, ShardFile, write_index
from momo_platform.data.card import STEPS, CardBuilder
from momo_platform.data.columns import TEXT_NAMES
from momo_platform.data.config import Kind, SourceConfig
from momo_platform.data.digests import FILES
from momo_platform.data.mapping import BAD_SCHEMA
from momo_platform.data.parts import Job, read_tables, start_over, unit_name
from momo_platform.data.reduce import NEAR_SCHEMA
from momo_platform.stages.errors import UserError
from momo_platform.stages.stage import Context
from momo_platform.stages.storage.place import Place

QUARANTINE, NEAR = "quarantine.parquet", "near_duplicates.parquet"


def write_tables(path: Path, schema: pa.Schema, job: Job, names: Iterable[str]) -> None:
    """Tables of the parts, one after the other, to one Parquet file."""
    with pq.ParquetWriter(path, schema) as writer:
        for table in read_tables(job.parts, names):
            writer.write_table(table)


def merge(
    job: Job,
    context: Context,
    mapped: Mapping[str, Mapping[str, Any]],
    reduced: Sequence[Mapping[str, Any]],
    card: CardBuilder,
    files: Mapping[str, Any],
) -> dict[str, Any]:
    """Write what is not there yet; returns the metrics. Records of the map by part, of the reduce
    by bucket; `card` has counted all; `files` is of `write_files`. Raises UserError when too few
    rows are usable."""
    output = context.output
    bad = [f"{name}.bad.arrow" for name, one in mapped.items() if one["bad"]]
    write_tables(output / QUARANTINE, BAD_SCHEMA, job, bad)
    if job.near_bits is not None:
        near = [f"reduce/{unit_name(n)}.near.arrow" for n, one in enumerate(reduced) if one["near"]]
        write_tables(output / NEAR, NEAR_SCHEMA, job, near)
    sources = job.config.sources
    try:
        check(card, job.kind, sources, job.config.max_bad_fraction, output / QUARANTINE)
    except UserError:
        start_over(job.parts)  # the next attempt looks at its sources anew
        raise
    card.write(output, sources, files["files"], job.near_bits)
    context.made(FILES, **files["made"])
    for one in reduced:
        for file in (*one["shards"], *one["held_out"]):
            context.made(file["file"], size=file["size"], sha256=file["sha256"])
    made = {*context.made_files}
    for name in (*job.output.names(SHARDS), *job.output.names(HELD_OUT)):
        if name not in made:
            job.output.remove(name)  # of an attempt that had other buckets
    of_source = {source.name: number for number, source in enumerate(sources)}
    shards = sorted(
        (ShardFile(**file) for one in reduced for file in one["shards"]),
        key=lambda shard: of_source[shard.source],
    )
    held_out = [ShardFile(**file) for one in reduced for file in one["held_out"]]
    index = RowIndex(job.row_group, tuple(job.kept.names), tuple(shards), tuple(held_out))
    write_index(Place(str(output)), index)
    total = card.total
    ignored = sum((one.counts for one in card.ignored.values()), Counter())
    return {
        **({"ignored": dict(ignored.most_common(20))} if ignored else {}),
        **{step: total[step] for step in STEPS},
        "reasons": dict(card.reasons.most_common(20)),
        "sources": card.by_source,
    }


def check(
    card: CardBuilder,
    kind: Kind,
    sources: Sequence[SourceConfig],
    max_bad_fraction: float,
    listed: Path,
) -> None:
    """Raise UserError when too few rows are usable; `listed` is the file that names the others."""
    total, reasons = card.total, card.reasons
    places = ", ".join(s.name if s.uri.startswith("input:") else s.uri for s in sources)
    if not total["read"]:
        raise UserError(f"{kind.name}: {places} holds no rows; check {kind.option}")
    if not total["kept"] or total["quarantined"] > max_bad_fraction * total["read"]:
        remedies = [remedy for reason in reasons for remedy in _remedy(reason)]
        if total["kept"]:
            remedies.append(f"or raise --{kind.name}.max-bad-fraction")
        key, reason = next(iter(card.examples.values()))
        raise UserError(
            f"{kind.name}: {total['quarantined']} of {total['read']} rows of {places} can't be "
            f"used ({_common(reasons)}), for example {key}: {reason[:300]}. All are listed in "
            f"{listed} (not kept where --storage is a URI). Correct the source"
            + "".join(f"; {r}" for r in dict.fromkeys(remedies))
        )


def not_read(card: CardBuilder) -> str:
    """One line on the files that were not read, for people; "" when all were."""
    counts = sum((one.counts for one in card.ignored.values()), Counter())
    if not counts:
        return ""
    reason = counts.most_common(1)[0][0]
    named = [n for one in card.ignored.values() for n in one.examples.get(reason, ())]
    files = f"{counts.total()} file{'s' * (counts.total() != 1)}"
    return f"{files} not read ({_common(counts)}), for example {named[0]}"


def left_out(card: CardBuilder) -> str:
    """One line on the rows that were not kept, for people; "" when all were."""
    total = card.total
    parts = [_common(card.reasons)] if card.reasons else []
    words = {"duplicates": "duplicate", "near_duplicates": "like a held-out picture"}
    parts += [f"{total[step]} × {word}" for step, word in words.items() if total[step]]
    if not parts:
        return ""
    gone = total["read"] - total["kept"]
    text = f"{gone} of {total['read']} rows left out ({'; '.join(parts)})"
    if not total["quarantined"]:
        return text
    reason, (key, whole) = next(iter(card.examples.items()))
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
