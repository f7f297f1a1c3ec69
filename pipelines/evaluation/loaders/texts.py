"""GLUE (arXiv 1804.07461), from folders that `datasets` saved or from the hub's Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from momo_platform.stages import UserError
from pipelines.evaluation.datasets import DataSet, Roots
from pipelines.evaluation.items import Items, Texts, carve

_COLUMNS = {
    "cola": ("sentence",),
    "sst2": ("sentence",),
    "mrpc": ("sentence1", "sentence2"),
    "stsb": ("sentence1", "sentence2"),
    "qqp": ("question1", "question2"),
    "mnli": ("premise", "hypothesis"),
    "qnli": ("question", "sentence"),
    "rte": ("sentence1", "sentence2"),
}
_TEST_PARTS = {"mnli": ("validation_matched", "validation_mismatched")}


def read_split(folder: Path, split: str) -> pa.Table:
    """A split of a data set in `folder`. Raises UserError that names what is missing."""
    if (folder / "dataset_dict.json").is_file():
        try:
            from datasets import load_from_disk
        except ImportError as error:
            raise UserError(f"{folder} needs the library: pip install datasets") from error
        found: Any = load_from_disk(str(folder))
        if split not in found:
            raise UserError(f"{folder} has the splits {', '.join(found)}, not {split}")
        data = found[split]
        return data.with_format("arrow")[:]
    files = sorted(folder.glob(f"**/{split}-*.parquet")) or sorted(folder.glob(f"{split}.parquet"))
    if not files:
        raise UserError(
            f"{folder}: no split {split}; give a folder of save_to_disk or Parquet files"
        )
    return pa.concat_tables([pq.read_table(file) for file in files])


def glue(data: DataSet, roots: Roots) -> Items:
    """The training rows; of GLUE's validation rows, whose labels are public, the test part."""
    folder = roots.data / "glue" / data.argument
    columns = _COLUMNS[data.argument]
    rows: list[dict[str, Any]] = []
    split: list[str] = []
    tests = _TEST_PARTS.get(data.argument, ("validation",))
    for part, names in (("train", ("train",)), ("test", tests)):
        for name in names:
            table = read_split(folder, name)
            if missing := {*columns, "label"} - set(table.column_names):
                raise UserError(f"{folder}, split {name}: no column {', '.join(sorted(missing))}")
            found = table.select([*columns, "label"]).to_pylist()
            rows += found
            split += [part] * len(found)
    regression = data.argument == "stsb"
    labels = np.array([r["label"] for r in rows], dtype=np.float32 if regression else np.int64)
    second = [r[columns[1]] for r in rows] if len(columns) == 2 else None
    return Texts(
        [r[columns[0]] for r in rows],
        labels,
        carve(np.array(split, dtype=object)),
        1 if regression else int(labels.max()) + 1,
        second,
    )
