"""Indexes of rows for tests, and a stage that leaves one."""

import shutil
from dataclasses import dataclass, field

import pyarrow as pa
from preparing import Folder

from momo_platform.data.artifacts import RowIndex, write_index
from momo_platform.data.repeats import digests_of
from momo_platform.data.shards import write_rows
from momo_platform.stages import Stage
from momo_platform.stages.storage.place import Place


def write_folder(place, table, *, row_group=64, rows_per_shard=200, held_out=None):
    """`table` in shards, those of a source (its column, or "") one after the other; by `held_out`,
    a table, what is not for training."""
    place = Place.of(place)
    named = "source" in table.column_names
    names = table["source"].to_pylist() if named else [""] * len(table)
    shards = []
    for source in dict.fromkeys(names):
        mine = table.take([i for i, name in enumerate(names) if name == source])
        for number, start in enumerate(range(0, len(mine), rows_per_shard)):
            file = f"shards/{source or 'rows'}-{number:05d}.parquet"
            part = [mine.slice(start, rows_per_shard)]
            shards.append(write_rows(place, file, part, row_group, source))
    files = ()
    if held_out is not None and len(held_out):
        files = (write_rows(place, "held-out/00000.parquet", [held_out], row_group),)
    index = RowIndex(row_group, tuple(table.column_names), tuple(shards), files)
    write_index(place, index)
    return index


def prepared(folder, **columns):
    """As a preparation leaves rows, in the order in which they are given."""
    table = pa.table(columns)
    if "source" not in columns:
        table = table.append_column("source", pa.array(["s"] * len(table)))
    if "image" in columns:
        table = table.append_column("digest", digests_of(table["image"]))
    trained = pa.array([split == "train" for split in columns["split"]])
    held_out = table.filter(pa.array([split != "train" for split in columns["split"]]))
    write_folder(folder, table.filter(trained), rows_per_shard=300, held_out=held_out)
    return Folder(folder)


@dataclass(frozen=True)
class Copy:
    folder: str = field(metadata={"semantic": False})


def copy_shards(config, inputs, context):
    shutil.copytree(config.folder, context.output, dirs_exist_ok=True)


def stage(folder):
    return Stage("shards", copy_shards, Copy(str(folder)))
