"""The stages that make usable rows of raw ones, by Ray Data.

Rows stream through Ray tasks in order (`preserve_order`) into one Parquet file a stage. What
can't be used goes to `quarantine.parquet` with its reason and is counted. The stage's own process
holds one block and the digests of the pictures seen (about 100 bytes a row).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from momo_platform.data.images import BadImage, ImageConfig, prepare_image
from momo_platform.data.sources import (
    ROW_SCHEMA,
    TEXT_NAMES,
    Kind,
    SourceConfig,
    list_rows,
    list_text_files,
    open_uri,
    read_table_rows,
)
from momo_platform.data.text import BadText, clean_caption, decode_lines, normalise
from momo_platform.stages.errors import UserError
from momo_platform.stages.stage import Artifact, Context

DATA, QUARANTINE = "data.parquet", "quarantine.parquet"
_BLOCK_ROWS = 512
_HELD_OUT_FIRST = {"test": 0, "valid": 1}
_REASON_SCHEMA = pa.schema({"source": pa.string(), "key": pa.string(), "reason": pa.string()})
IMAGE_SCHEMA = pa.schema(
    {
        **{n: ROW_SCHEMA.field(n).type for n in ("source", "key", "group", "split", "label")},
        "image": pa.binary(),
        "captions": pa.list_(pa.string()),
        "reason": pa.string(),
    }
)
TEXT_SCHEMA = pa.schema(
    {"source": pa.string(), "key": pa.string(), "text": pa.string(), "reason": pa.string()}
)


@dataclass(frozen=True)
class PrepareConfig:
    """Sources of one modality. Above `max_bad_fraction` unusable rows the stage fails.

    Rows that name no split: `held_out` of their groups become "test", by hash, the rest "train".
    """

    sources: tuple[SourceConfig, ...]
    image: ImageConfig = ImageConfig()
    max_bad_fraction: float = 0.5
    min_text_length: int = 20
    held_out: float = 0.0


def _resolve(source: SourceConfig, inputs: Mapping[str, Artifact]) -> str:
    if not source.uri.startswith("input:"):
        return source.uri
    role, _, rest = source.uri.removeprefix("input:").partition("/")
    return str(inputs[role].path / rest)


def _split(group: str, held_out: float) -> str:
    digest = hashlib.sha256(group.encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") < held_out * 2**64 else "train"


def _prepare_row(row: dict[str, Any], image: ImageConfig, with_captions: bool) -> dict[str, Any]:
    """One raw row → one row by IMAGE_SCHEMA, with a reason when it can't be used."""
    result = {n: row[n] for n in ("source", "key", "group", "split", "label")}
    result |= {"image": None, "captions": [], "reason": row.get("reason")}
    if result["reason"]:
        return result
    try:
        if with_captions:
            result["captions"] = [clean_caption(c) for c in row["captions"]]
        raw, path = row["bytes"], row["path"]
        if raw is None and path is None:
            raise BadImage("the row names no picture")
        if raw is None:
            filesystem, inner = open_uri(path)
            with filesystem.open_input_stream(inner) as file:
                raw = file.read()
        svg = bool(path) and path.lower().endswith(".svg")
        result["image"] = prepare_image(raw, image, svg=svg)
    except (BadImage, BadText) as error:
        result["reason"] = str(error)
    except FileNotFoundError:
        result["reason"] = f"the picture {row['path']} does not exist"
    return result


class _PrepareImages:
    def __init__(self, image: ImageConfig, with_captions: bool) -> None:
        self.image, self.with_captions = image, with_captions

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = [_prepare_row(r, self.image, self.with_captions) for r in table.to_pylist()]
        return pa.Table.from_pylist(rows, schema=IMAGE_SCHEMA)


class _PrepareText:
    def __init__(self, min_length: int) -> None:
        self.min_length = min_length

    def _documents(self, path: str) -> Iterator[tuple[int, str | None, str | None]]:
        filesystem, inner = open_uri(path)
        if path.endswith(".txt"):
            with filesystem.open_input_stream(inner) as file:
                for number, line in decode_lines(file.read()):
                    yield number, line, None if line is not None else "the line is not UTF-8"
            return
        for number, row in read_table_rows(filesystem, inner):
            if isinstance(row, str):
                yield number, None, row
                continue
            text = next((row[n] for n in TEXT_NAMES if isinstance(row.get(n), str)), None)
            yield number, text, None if text is not None else "the row has no text"

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = []
        for item in table.to_pylist():
            name = item["path"].rpartition("/")[2]
            for number, text, reason in self._documents(item["path"]):
                cleaned = normalise(text) if text is not None else ""
                if reason is None and len(cleaned) < self.min_length:
                    reason = f"shorter than {self.min_length} characters"
                key = f"{name}:{number}"
                rows.append(
                    {"source": item["source"], "key": key, "text": cleaned, "reason": reason}
                )
        return pa.Table.from_pylist(rows, schema=TEXT_SCHEMA)


def _blocks(rows: list[dict[str, Any]], schema: pa.Schema) -> list[pa.Table]:
    return [
        pa.Table.from_pylist(rows[i : i + _BLOCK_ROWS], schema=schema)
        for i in range(0, len(rows), _BLOCK_ROWS)
    ]


def _through_ray(blocks: list[pa.Table], function: Any) -> Iterator[pa.Table]:
    """Map blocks by Ray Data, results in the order of the input."""
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    dataset = ray.data.from_arrow(blocks).map_batches(
        function, batch_format="pyarrow", batch_size=None
    )
    yield from dataset.iter_batches(batch_format="pyarrow", batch_size=None)


class _Sink:
    """Writes kept rows and the quarantine; drops exact duplicates and counts everything."""

    def __init__(self, output: Path, schema: pa.Schema, content: str) -> None:
        kept = schema.remove(schema.get_field_index("reason"))
        self.kept_schema, self.content = kept, content
        self.writer = pq.ParquetWriter(output / DATA, kept, compression="zstd")
        self.quarantine = pq.ParquetWriter(output / QUARANTINE, _REASON_SCHEMA)
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.by_source: dict[str, Counter[str]] = {}
        self.seen: dict[bytes, str] = {}

    def add(self, table: pa.Table) -> None:
        kept, bad = [], []
        for row in table.to_pylist():
            tally = self.by_source.setdefault(row["source"], Counter())
            tally["read"] += 1
            if row["reason"]:
                bad.append({k: row[k] for k in ("source", "key", "reason")})
                self.reasons[row["reason"].split(":")[0][:80]] += 1
                tally["quarantined"] += 1
            elif self._is_duplicate(row):
                tally["duplicates"] += 1
            else:
                kept.append(row)
                tally["kept"] += 1
        if kept:
            self.writer.write_table(pa.Table.from_pylist(kept, schema=self.kept_schema))
        if bad:
            self.quarantine.write_table(pa.Table.from_pylist(bad, schema=_REASON_SCHEMA))

    def _is_duplicate(self, row: dict[str, Any]) -> bool:
        """Exact repeats go; so does a training row whose picture is held out."""
        value = row[self.content]
        raw = value if isinstance(value, bytes) else value.encode()
        captions = "\0".join(row.get("captions", [])).encode()
        digest = hashlib.sha256(raw).digest()[:16]
        split = row.get("split", "train")
        held_out = self.seen.setdefault(digest, split)
        if split == "train" and held_out != "train":
            return True
        whole = hashlib.sha256(digest + captions + b"pair").digest()[:16]
        if whole in self.seen:
            return True
        self.seen[whole] = split
        return False

    def close(self, kind: Kind, max_bad_fraction: float) -> dict[str, Any]:
        self.writer.close()
        self.quarantine.close()
        total = sum(self.by_source.values(), Counter())
        metrics: dict[str, Any] = {
            k: total[k] for k in ("read", "kept", "quarantined", "duplicates")
        }
        metrics["reasons"] = dict(self.reasons.most_common(20))
        metrics["sources"] = {name: dict(tally) for name, tally in self.by_source.items()}
        if not total["kept"] or total["quarantined"] > max_bad_fraction * total["read"]:
            common = "; ".join(f"{n} × {r}" for r, n in self.reasons.most_common(3))
            raise UserError(
                f"{kind}: {total['quarantined']} of {total['read']} rows can't be used ({common}); "
                f"correct the sources {', '.join(self.by_source)} or raise max_bad_fraction"
            )
        return metrics


def _run_pictures(
    config: PrepareConfig, inputs: Mapping[str, Artifact], context: Context, kind: Kind
) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for source in config.sources:
        rows += list_rows(source, _resolve(source, inputs), kind)
    for row in rows:
        row["split"] = row["split"] or _split(row["group"], config.held_out)
    rows.sort(key=lambda r: (_HELD_OUT_FIRST.get(r["split"], 2), r["source"], r["key"]))
    sink = _Sink(context.output, IMAGE_SCHEMA, "image")
    schema = ROW_SCHEMA.append(pa.field("reason", pa.string()))
    function = _PrepareImages(config.image, kind == "pairs")
    done = 0
    for table in _through_ray(_blocks(rows, schema), function):
        sink.add(table)
        done += len(table)
        context.progress({"step": done, "total": len(rows)})
    return sink.close(kind, config.max_bad_fraction)


def run_prepare_images(
    config: PrepareConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: pictures → `data.parquet` by IMAGE_SCHEMA."""
    return _run_pictures(config, inputs, context, "images")


def run_prepare_pairs(
    config: PrepareConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: pictures with captions → `data.parquet` by IMAGE_SCHEMA."""
    return _run_pictures(config, inputs, context, "pairs")


def run_prepare_text(
    config: PrepareConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: text → `data.parquet` with columns source, key, text."""
    files = [
        {"source": source.name, "path": path}
        for source in config.sources
        for path in list_text_files(_resolve(source, inputs))
    ]
    schema = pa.schema({"source": pa.string(), "path": pa.string()})
    blocks = [pa.Table.from_pylist([file], schema=schema) for file in files]
    sink = _Sink(context.output, TEXT_SCHEMA, "text")
    for number, table in enumerate(_through_ray(blocks, _PrepareText(config.min_text_length)), 1):
        sink.add(table)
        context.progress({"step": number, "total": len(files)})
    return sink.close("text", config.max_bad_fraction)
