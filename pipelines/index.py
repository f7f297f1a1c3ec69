"""An index of captioned pictures for the endpoint's search and its page.

    python pipelines/index.py [--model runs/latest/model] [--pair.source captions.csv]
    python pipelines/index.py --image.source pictures

The demo's held-out pairs by default; a source of your own whole, pictures without captions by their
label or file. A node of the graph, behind the vectors of `momo embed`: the same model and the same
corpus are not embedded again. Prints the index's folder.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from momo.precision import Precision
from momo_platform.data.artifacts import PreparedRows
from momo_platform.exit_codes import exit_code
from momo_platform.stages import Context, Resources, Stage, UserError, by_role
from pipelines.artifacts import ModelFolder, shape_in
from pipelines.commands.help_pages import INDEX
from pipelines.commands.short_help import for_parser, help_asked
from pipelines.embed_corpus import CorpusOptions, chosen_corpus, embedded, run_target
from pipelines.modalities import MODALITIES
from pipelines.option_names import with_whole_names
from pipelines.vectors import ALL_SPLITS, VectorRows

_THUMBNAIL = 96
_SAMPLE = 100_000
"""Vectors whose numbers say the ranges of int8."""
StoredAs = Literal["float32", "int8", "usearch"]


@dataclass(frozen=True)
class IndexConfig:
    """`splits`: rows of these splits only; empty: all. The first `limit` of them; 0: all.
    `precision`: what the vectors were computed in. `stored`: how they are kept."""

    splits: tuple[str, ...] = ("test",)
    limit: int = 100_000
    precision: Precision = "fp32"
    stored: StoredAs = "float32"


@dataclass(frozen=True)
class IndexOptions(CorpusOptions):
    """What to index."""

    limit: int = 100_000
    """Entries at most; 0: all."""
    vectors: StoredAs = "float32"
    """How they are kept: float32; int8, a quarter as large; or usearch, a graph beside float32 for
    millions of entries (the package usearch)."""


@by_role
def run_index(
    config: IndexConfig,
    context: Context,
    *,
    model: ModelFolder,
    vectors: VectorRows,
    rows: PreparedRows,
) -> dict[str, Any]:
    """Stage: rows with pictures, and the pictures' vectors → `index/` (vectors and entries with
    caption and thumbnail)."""
    import base64
    import io

    import numpy as np

    from momo.transforms import decode
    from momo.vectors import Ranges
    from momo_platform.data.prepared import iterate_rows
    from momo_platform.serving.index import write_index
    from pipelines.serving import model_name

    splits, limit = config.splits or ALL_SPLITS, config.limit or None
    columns = ["image", "captions", "label", "key"]
    entries: list[dict[str, Any]] = []
    for table in iterate_rows(rows, columns, splits, limit):
        for row in table.to_pylist():
            picture = decode(row["image"])
            picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
            file = io.BytesIO()
            picture.save(file, "PNG")
            data = base64.b64encode(file.getvalue()).decode()
            entries.append({"caption": _caption(row), "thumbnail": f"data:image/png;base64,{data}"})
        context.progress({"step": len(entries)})
    shape = shape_in(model.path)
    assert shape is not None  # it has embedded
    found = vectors.pictures(splits, limit).reshape(len(entries), shape.embed_dim)
    ranges = None
    if config.stored == "int8" and len(found):
        kept = Ranges.of(found[:: max(1, len(found) // _SAMPLE)])
        found, ranges = kept.codes(found), np.stack([kept.step, kept.middle])
    write_index(
        *(context.output / "index", found, entries, model_name(model.path), config.precision),
        ranges=ranges,
        graph=config.stored == "usearch",
    )
    return {"entries": len(entries)}


def _caption(row: Mapping[str, Any]) -> str:
    return next((text for text in (*row["captions"], row["label"]) if text), row["key"])


def index_stage(options: IndexOptions) -> Stage:
    """The stage, behind the corpus's vectors. Raises UserError for bad input."""
    corpus = chosen_corpus(options)
    if not MODALITIES[corpus].pictured:
        raise UserError(f"--{corpus}.source: an index is of pictures; give --pair.source")
    if options.vectors == "usearch" and importlib.util.find_spec("usearch") is None:
        raise UserError("--vectors usearch: the package usearch is not there: pip install usearch")
    vectors = embedded(options, corpus, of_demo=("test",))
    return Stage(
        "index",
        run_index,
        IndexConfig(vectors.config.splits, options.limit, options.precision, options.vectors),
        {**vectors.inputs, "vectors": vectors},
        version=3,
        resources=Resources(num_cpus=1.0),
        code=("pipelines.index", "momo.export"),
    )


def make_index(options: IndexOptions, arguments: Sequence[str]) -> str:
    """Run what is missing; returns the index's folder."""
    return str(run_target(index_stage(options), options, arguments, "index").path / "index")


def parse(arguments: Sequence[str]) -> IndexOptions:
    """The options from the command line."""
    import tyro

    return tyro.cli(
        IndexOptions,
        args=with_whole_names(for_parser(arguments)),
        prog="momo index",
        description=__doc__,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes as those of `full.py`."""
    given = sys.argv[1:] if arguments is None else list(arguments)

    def work() -> int:
        if not help_asked("index", INDEX, given):
            print(make_index(parse(given), given))
        return 0

    return exit_code(work, "the same command goes on where it was")


if __name__ == "__main__":
    sys.exit(main())
