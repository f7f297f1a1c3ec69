"""Embed a corpus: vectors of all its rows, in Parquet.

    momo embed --pair.source captions.csv --output vectors/
    momo embed --text.source notes.txt --splits train --workers 8 --gpus 1

Sources are those of `momo train`; without any, the preset's captioned pictures. The corpus is
prepared as for training, and a file of vectors is made for each file of rows, in the same order:
after an interruption the same command goes on with what is not there yet. Columns: source, key,
split, label or number of captions, and `vector`; of pairs `image` and `text`, that of a row's first
caption. Prints the folder.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from momo.precision import Precision
from momo_platform.bounds import check_bounds
from momo_platform.data.artifacts import INDEX as INDEX_FILE
from momo_platform.data.artifacts import Rows, ShardFile
from momo_platform.stages import Artifact, Plan, Stage, UserError, make_plan, open_storage
from momo_platform.stages.storage.place import Place, copy_file
from pipelines.artifacts import is_engine_in, shape_in
from pipelines.commands.short_help import for_parser
from pipelines.config import PictureOptions, RunOptions, SourceOptions, Sources, no_sources
from pipelines.full import command_line, execute_plan
from pipelines.given_model import GivenModel, given_model
from pipelines.graph.corpora import prepared_rows
from pipelines.modalities import MODALITIES, PAIR
from pipelines.option_names import with_whole_names
from pipelines.presets import PRESETS
from pipelines.vectors import EmbedConfig, embed_stage

if TYPE_CHECKING:
    import pyarrow as pa

_LANCE_VERSIONS = "_versions/"


@dataclass(frozen=True)
class CorpusOptions:
    """A model, the corpus that it embeds, and what with."""

    model: str = "runs/latest/model"
    preset: str = "demo"
    """Whose corpora are embedded where no source is given, and whose other options hold."""
    corpora: Mapping[str, SourceOptions] = field(default_factory=no_sources)
    picture: PictureOptions = PictureOptions()
    limit: int = 0
    """Rows at most, the first ones; 0: all."""
    precision: Precision = "fp32"
    workers: int = 0
    """Actors with the model; 0: as many as there is room for."""
    cpus: float = 1.0
    """Of each actor."""
    gpus: float | None = None
    """Of each actor; without a number one where the cluster has any, else none."""
    storage: str = "runs"
    cluster: str = "auto"
    verbose: bool = False

    def __post_init__(self) -> None:
        check_bounds(self, limit=(0, None), workers=(0, None), cpus=(0.0, None))
        if self.gpus is not None:
            check_bounds(self, gpus=(0.0, None))


@dataclass(frozen=True)
class EmbedOptions(CorpusOptions):
    """What to embed, and where vectors go."""

    splits: tuple[Literal["train", "valid", "test"], ...] = ()
    """Rows of these only; without any, all."""
    output: str = ""
    """A folder or URI that gets the files too: by hard links where it can, else as copies."""
    format: Literal["parquet", "lance"] = "parquet"
    """Of what is written to `output`; lance needs the package pylance."""


def chosen_corpus(options: CorpusOptions) -> str:
    """The modality whose source is given; without any, pairs. Raises UserError for several."""
    named = [name for name, given in options.corpora.items() if given.source]
    if len(named) > 1:
        both = " and ".join(f"--{name}.source" for name in named)
        raise UserError(f"{both}: give one of them")
    return named[0] if named else PAIR.name


def embedded(
    options: CorpusOptions, corpus: str, splits: Sequence[str] = (), of_demo: Sequence[str] = ()
) -> Stage:
    """The stage that embeds rows of `splits`, of a corpus that is not the user's own those
    `of_demo`; behind the corpus's preparation. Raises UserError for bad input."""
    _, model = given_model(f"embedder={options.model}")
    _check_gpus(options, model)
    prepared, own = prepared_rows(_sources(options, model))
    if corpus not in prepared:
        known = " or ".join(f"--{name}.source" for name in MODALITIES)
        raise UserError(f"preset {options.preset} brings no {PAIR.words}: give {known}")
    config = EmbedConfig(
        corpus,
        tuple(splits if corpus in own else splits or of_demo),
        options.limit,
        options.precision,
        options.workers,
        options.cpus,
        options.gpus,
    )
    return embed_stage(config, model, prepared[corpus])


def _check_gpus(options: CorpusOptions, model: Stage) -> None:
    """Raise UserError where GPUs are asked for what computes on CPUs only."""
    assert isinstance(model.config, GivenModel)
    if not options.gpus:
        return
    if is_engine_in(model.config.path):
        raise UserError(
            f"--gpus {options.gpus:g}: the engine in {options.model} computes on the CPU: leave "
            "--gpus out, or give the model that it was exported from"
        )
    if options.precision == "int8":
        raise UserError(
            f"--gpus {options.gpus:g} --precision int8: int8 computes on the CPU: leave --gpus "
            "out, or give --precision bf16"
        )


def _sources(options: CorpusOptions, model: Stage) -> Sources:
    """Pictures are stored as large as the model takes them."""
    sources = replace(
        PRESETS[options.preset]().sources, given=options.corpora, picture=options.picture
    )
    assert isinstance(model.config, GivenModel)
    shape = shape_in(model.config.path)
    return sources if shape is None else replace(sources, image_size=shape.image_size)


def run_target(
    target: Stage, options: CorpusOptions, arguments: Sequence[str], command: str
) -> Artifact:
    """Run what is missing of a stage's graph."""
    storage = open_storage(options.storage)
    plan: Plan = make_plan([target], storage)
    if plan.to_run:
        storage.create()
        run = RunOptions(storage=options.storage, cluster=options.cluster, verbose=options.verbose)
        execute_plan(plan, storage, run, command_line(arguments, command), options.preset)
    artifact = storage.artifact(target.name, plan[target.name].fingerprint)
    assert artifact is not None
    return artifact


def make_vectors(options: EmbedOptions, arguments: Sequence[str]) -> str:
    """Run what is missing; returns the folder with the vectors."""
    _check_output(options)
    stage = embedded(options, chosen_corpus(options), options.splits)
    place = run_target(stage, options, arguments, "embed").place
    if not options.output:
        return str(place)
    if options.format == "lance":
        write_lance(Rows(place), _whole(options.output))
    else:
        hand_out(Rows(place), Place(_whole(options.output)))
    return options.output


def _whole(output: str) -> str:
    return output if "://" in output else str(Path(output).expanduser().absolute())


def _check_output(options: EmbedOptions) -> None:
    """Raise UserError, before anything runs, where vectors can't be written as they shall be."""
    if options.format == "lance" and not options.output:
        raise UserError("--format lance: give --output too, the folder of the data set")
    if options.format == "lance" and importlib.util.find_spec("lance") is None:
        raise UserError("--format lance: the package lance is not there: pip install pylance")
    if not options.output:
        return
    mark = _LANCE_VERSIONS if options.format == "lance" else INDEX_FILE
    names = Place(_whole(options.output)).names()
    if names and not any(name.startswith(mark) for name in names):
        raise UserError(
            f"--output {options.output}: there are other files ({names[0]} …): give a new folder, "
            "or that of earlier vectors in the same format"
        )


def hand_out(vectors: Rows, output: Place) -> None:
    """The Parquet files and their index: hard links where both are folders of one file system, else
    copies. Files of vectors that were there before go."""
    here = Rows(output)
    old = {file.file for file in _all_files(here)} if here.has_index else set()
    new = [file.file for file in _all_files(vectors)]
    output.remove(INDEX_FILE)
    for name in old.difference(new):
        output.remove(name)
    for name in (*new, INDEX_FILE):
        copy_file(vectors.place, output, name)


def _all_files(rows: Rows) -> list[ShardFile]:
    index = rows.index()
    return [*index.held_out, *index.shards]


def write_lance(vectors: Rows, output: str) -> None:
    """A Lance data set with all rows in their order; one that is there gets a new version."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from momo_platform.data.shard_reader import read_columns

    files, columns = _all_files(vectors), vectors.index().columns
    if not files:
        raise UserError(f"--output {output}: there are no rows to be written")
    with vectors.place.open(files[0].file) as first:
        schema = pq.read_schema(first)

    def batches() -> Iterator[pa.RecordBatch]:
        for file in files:
            for table in read_columns(vectors.place, file, columns):
                yield from table.to_batches()

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    lance = importlib.import_module("lance")  # of no lock file
    lance.write_dataset(reader, output, mode="overwrite")


def parse(arguments: Sequence[str]) -> EmbedOptions:
    """The options from the command line."""
    import tyro

    return tyro.cli(
        EmbedOptions,
        args=with_whole_names(for_parser(arguments)),
        prog="momo embed",
        description=__doc__,
    )
