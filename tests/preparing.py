"""Preparations in tests: small sources, where they are written, and what is there then."""

import io
import json
import random
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from momo_platform.data.artifacts import PreparedRows
from momo_platform.data.config import PrepareConfig, SourceConfig
from momo_platform.data.listers import Lister
from momo_platform.data.prepare import prepare
from momo_platform.stages.stage import Context


@dataclass
class Folder:
    """An artifact, and the context that makes it."""

    path: Path
    messages: list[dict] = field(default_factory=list)

    @property
    def place(self):
        return PreparedRows(self.path).place

    @property
    def context(self):
        self.path.mkdir(parents=True, exist_ok=True)
        held = self.path.with_name(f"{self.path.name}-held")
        return Context(self.path, held, "prepare", "f", "a", self.messages.append)

    def table(self, name):
        """A Parquet file's rows."""
        return pq.read_table(self.path / name).to_pylist()

    def index(self):
        return PreparedRows(self.path).index()

    def training(self):
        """Rows in their order."""
        return [row for shard in self.index().shards for row in self.table(shard.file)]

    def held_out(self):
        return [row for file in self.index().held_out for row in self.table(file.file)]

    def rows(self):
        """All that are kept."""
        return self.held_out() + self.training()

    def files(self):
        """The bytes of all files by their names."""
        found = (path for path in sorted(self.path.rglob("*")) if path.is_file())
        return {str(path.relative_to(self.path)): path.read_bytes() for path in found}


class Given(Lister):
    """Rows as they are."""

    def __init__(self, table):
        self.given, self.schema = table, table.schema

    def rows(self, unit, kind, ignored):
        return iter(row for row in self.given.to_pylist() if row["source"] == unit.source)

    def to_hash(self, source, uri, kind):
        return []


def as_given(table):
    return table


def pour(folder, table, kind, near_bits=None, sources=None, max_bad=0.9, messages=None, **options):
    """Prepared rows through map, reduce and merge; the metrics. Without Ray."""
    names = dict.fromkeys(table["source"].to_pylist())
    config = PrepareConfig(
        tuple(sources or (SourceConfig(name, "") for name in names)), max_bad_fraction=max_bad
    )
    lister = Given(table)
    context = Folder(folder, [] if messages is None else messages).context
    schema = table.schema
    return prepare(config, {}, context, kind, lister, as_given, schema, near_bits, **options)


def picture(number, size=(40, 30)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (number % 256, number // 256, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def sources(*paths):
    return tuple(SourceConfig(f"s{i}", str(p)) for i, p in enumerate(paths))


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def with_schema(rows, schema):
    return pa.Table.from_pylist(rows, schema=schema)


def in_other_order(seed):
    """`run_tasks` in this process, whose tasks come in any order."""

    def run(some, *steps, memory=0):
        generator = random.Random(seed)
        for step in steps:
            some = [*some]
            generator.shuffle(some)
            some = [result for task in some for result in step(json.loads(json.dumps(task)))]
        generator.shuffle(some)
        return iter(some)

    return run
