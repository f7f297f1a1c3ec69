"""An index of captioned pictures for the endpoint's search and its page.

    python pipelines/index.py [--model runs/latest/model] [--pair.source captions.csv]
    python pipelines/index.py --image.source pictures

The demo's held-out pairs by default; a source of your own whole, pictures without captions by their
label or file. A node of the graph: the same
model and the same corpus are not embedded again. Prints the index's folder.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from momo.precision import Precision
from momo_platform.data.artifacts import PreparedRows
from momo_platform.exit_codes import exit_code
from momo_platform.stages import (
    Context,
    Resources,
    Stage,
    UserError,
    by_role,
    make_plan,
    open_storage,
)
from momo_platform.training.config import MECHANICS
from pipelines.artifacts import ModelFolder
from pipelines.commands.help_pages import INDEX
from pipelines.commands.short_help import for_parser, help_asked
from pipelines.config import PictureOptions, RunOptions, SourceOptions, no_sources
from pipelines.full import command_line, execute_plan
from pipelines.given_model import given_model
from pipelines.graph.corpora import prepared_rows
from pipelines.modalities import MODALITIES, PAIR
from pipelines.option_names import with_whole_names
from pipelines.presets import PRESETS

_THUMBNAIL = 96


@dataclass(frozen=True)
class IndexConfig:
    """`splits`: rows of these splits only; empty: all. Vectors are those of the pictures."""

    splits: tuple[str, ...] = ("test",)
    limit: int = 100_000
    precision: Precision = "fp32"
    device: str = field(default="cpu", metadata=MECHANICS)


@dataclass(frozen=True)
class IndexOptions:
    """What to index."""

    model: str = "runs/latest/model"
    preset: str = "demo"
    corpora: Mapping[str, SourceOptions] = field(default_factory=no_sources)
    picture: PictureOptions = PictureOptions()
    limit: int = 100_000
    """Entries at most."""
    cpus: float = 1.0
    gpus: float = 0.0
    """Without one the pictures are embedded on CPUs."""
    precision: Precision = "fp32"
    storage: str = "runs"
    cluster: str = "auto"
    verbose: bool = False


@by_role
def run_index(
    config: IndexConfig, context: Context, *, model: ModelFolder, rows: PreparedRows
) -> dict[str, Any]:
    """Stage: rows with pictures → `index/` (vectors and entries with caption and thumbnail)."""
    import base64
    import io

    import numpy as np

    from momo.export import load
    from momo.transforms import decode
    from momo_platform.data.prepared import iterate_rows
    from momo_platform.serving.index import write_index
    from pipelines.serving import model_name

    splits = config.splits or ("test", "valid", "train")
    columns = ["image", "captions", "label", "key"]
    embedder = load(model.path, config.device, config.precision)
    vectors, entries = [], []
    for table in iterate_rows(rows, columns, splits, config.limit):
        part = table.to_pylist()
        pictures = [decode(r["image"]) for r in part]
        vectors.append(embedder.embed(images=pictures))
        for row, picture in zip(part, pictures, strict=True):
            picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
            file = io.BytesIO()
            picture.save(file, "PNG")
            data = base64.b64encode(file.getvalue()).decode()
            entries.append({"caption": _caption(row), "thumbnail": f"data:image/png;base64,{data}"})
        context.progress({"step": len(entries)})
    empty = np.zeros((0, embedder.model.config.embed_dim), dtype=np.float32)
    name = model_name(model.path)
    write_index(context.output / "index", np.concatenate([empty, *vectors]), entries, name)
    return {"entries": len(entries)}


def _caption(row: Mapping[str, Any]) -> str:
    return next((text for text in (*row["captions"], row["label"]) if text), row["key"])


def index_stage(options: IndexOptions) -> Stage:
    """The stage, behind the corpus's preparation. Raises UserError for bad input."""
    named = [name for name, given in options.corpora.items() if given.source]
    if len(named) > 1:
        both = " and ".join(f"--{name}.source" for name in named)
        raise UserError(f"{both}: give one of them to index")
    corpus = named[0] if named else PAIR.name
    if not MODALITIES[corpus].pictured:
        raise UserError(f"--{corpus}.source: an index is of pictures; give --pair.source")
    _, model = given_model(f"index={options.model}")
    preset = PRESETS[options.preset]()
    sources = replace(preset.sources, given=options.corpora, picture=options.picture)
    prepared, own = prepared_rows(sources)
    if corpus not in prepared:
        raise UserError(
            f"preset {options.preset} brings no captioned pictures: give --pair.source or "
            "--image.source"
        )
    splits = () if corpus in own else ("test",)
    return Stage(
        "index",
        run_index,
        IndexConfig(splits, options.limit, options.precision, "cuda" if options.gpus else "cpu"),
        {"model": model, "rows": prepared[corpus]},
        resources=Resources(num_cpus=options.cpus, num_gpus=options.gpus),
        code=("pipelines.index", "momo.export"),
    )


def make_index(options: IndexOptions, arguments: Sequence[str]) -> str:
    """Run what is missing; returns the index's folder."""
    storage = open_storage(options.storage)
    plan = make_plan([index_stage(options)], storage)
    if plan.to_run:
        storage.create()
        run = RunOptions(storage=options.storage, cluster=options.cluster, verbose=options.verbose)
        command = command_line(arguments, "index")
        execute_plan(plan, storage, run, command, options.preset)
    artifact = storage.artifact("index", plan["index"].fingerprint)
    assert artifact is not None
    return str(artifact.path / "index")


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
