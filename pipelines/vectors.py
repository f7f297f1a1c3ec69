"""The stage that embeds a prepared corpus: a file of vectors for each file of rows.

Ray Data's actors hold the model and take a file at a time. Files keep their names and rows their
order, so that vectors and rows are read side by side. Columns: `source`, `key`, `split`, of
pictures their `label`, of captioned ones the number of their `captions`; and `vector`, a list of
fixed size of float32, of length 1. Pairs have `image` and `text` in its place; the text is a row's
first caption.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from momo.precision import Precision
from momo_platform.data.artifacts import (
    HELD_OUT,
    PreparedRows,
    RowIndex,
    Rows,
    ShardFile,
    write_index,
)
from momo_platform.stages import Artifact, Context, Resources, Stage, by_role
from momo_platform.stages.storage.place import Place
from momo_platform.training.config import MECHANICS
from pipelines.artifacts import ModelFolder, is_engine_in
from pipelines.modalities import MODALITIES

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from momo.embedder import AnyEmbedder

T = TypeVar("T")
ALL_SPLITS = ("test", "valid", "train")
VECTOR, IMAGE_VECTOR, TEXT_VECTOR = "vector", "image", "text"
_ROW_GROUP = 1024
_TOGETHER = 512  # rows that are decoded and embedded at a time
_FORMAT = "format-1"
"""Of what actors leave for the next attempt: that of another is not gone on with."""


@dataclass(frozen=True)
class EmbedConfig:
    """`corpus`: the modality of the rows. `splits`: rows of these only; empty: all. `limit`: so
    many of them, the first; 0: all.

    `workers` actors with `cpus` and `gpus` each: 0 workers are as many as there is room for, and
    `gpus` None is one where the cluster has any.
    """

    corpus: str
    splits: tuple[str, ...] = ()
    limit: int = 0
    precision: Precision = "fp32"
    workers: int = field(default=0, metadata=MECHANICS)
    cpus: float = field(default=1.0, metadata=MECHANICS)
    gpus: float | None = field(default=None, metadata=MECHANICS)

    @property
    def vectors(self) -> dict[str, str]:
        """Column with vectors → that of the rows that they are made of."""
        modality = MODALITIES[self.corpus]
        if modality.pictured and modality.texts:
            return {IMAGE_VECTOR: "image", TEXT_VECTOR: modality.texts}
        return {VECTOR: "image" if modality.pictured else modality.texts}

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that are written."""
        modality = MODALITIES[self.corpus]
        told = [*(["label"] if modality.pictured else []), *self._counted]
        return ("source", "key", "split", *told, *self.vectors)

    @property
    def _counted(self) -> list[str]:
        modality = MODALITIES[self.corpus]
        return [modality.texts] if modality.captioned else []


class VectorRows(Rows):
    """What the stage leaves."""

    def pictures(self, splits: Sequence[str], limit: int | None = None) -> np.ndarray:
        """float32 [N, embed_dim] of pictures, in the order in which `iterate_rows` gives the rows;
        [0, 0] where there are none."""
        from momo_platform.data.prepared import read_rows

        (name,) = {VECTOR, IMAGE_VECTOR} & {*self.index().columns}
        found = read_rows(self, [name], splits, limit)[name].combine_chunks()
        return found.flatten().to_numpy().reshape(len(found), -1) if len(found) else _none()


def _none() -> np.ndarray:
    import numpy as np

    return np.zeros((0, 0), dtype=np.float32)


@dataclass(frozen=True)
class EmbedJob:
    """What each actor is given. `parts`: where it leaves a record of each file that it made."""

    config: EmbedConfig
    model: Artifact
    rows: Place
    output: Place
    parts: Place
    device: str


class ShardEmbedder:
    """Files of rows → files of vectors; the model is loaded for the first that is not there yet."""

    def __init__(self, job: EmbedJob) -> None:
        self.job = job

    def __call__(self, task: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """`task`: a `file` of rows as ShardFile, of which the first `rows` are wanted, and its
        `number`; gives the file of vectors. One without rows is not written."""
        from momo_platform.data.parts import read_record, write_record

        file, job = ShardFile(**task["file"]), self.job
        name = f"{_FORMAT}/{file.file}"
        made = read_record(job.parts, name)
        if made is None or (made["rows"] and job.output.size(made["file"]) != made["size"]):
            made = vars(self._embedded(file, task["rows"]))
            write_record(job.parts, name, made)
        yield {"file": made, "number": task["number"]}

    @cached_property
    def model(self) -> AnyEmbedder:
        """Raises UserError for a folder without a model, and for an engine without its package."""
        from momo.export import load
        from momo_platform.stages import UserError

        try:
            folder = ModelFolder(self.job.model.path).path
            return load(folder, self.job.device, self.job.config.precision)
        except (FileNotFoundError, ValueError, ImportError) as error:
            raise UserError(str(error)) from error

    def _embedded(self, file: ShardFile, most: int) -> ShardFile:
        from momo_platform.data.shards import write_rows

        tables = self._tables(file, most)
        if (first := next(tables, None)) is None:
            return ShardFile(file.file, 0, 0, file.source)
        every = (table for some in ([first], tables) for table in some)
        return write_rows(self.job.output, file.file, every, _ROW_GROUP, file.source)

    def _tables(self, file: ShardFile, most: int) -> Iterator[pa.Table]:
        """Columns as EmbedConfig names them, some rows at a time."""
        for table, pixels in _one_ahead(self._read(file, most)):
            yield self._with_vectors(table, pixels)

    def _read(self, file: ShardFile, most: int) -> Iterator[tuple[pa.Table, np.ndarray | None]]:
        """The rows that are wanted, with their pictures as the model takes them."""
        from concurrent.futures import ThreadPoolExecutor

        import numpy as np
        import pyarrow.compute as pc

        from momo_platform.data.shard_reader import read_columns

        config, left = self.job.config, most
        names = [*config.columns[: -len(config.vectors)], *config.vectors.values()]
        wanted = pc.field("split").isin(list(config.splits or ALL_SPLITS))
        pixels = partial(_pixels, self.model.config.image_size)
        with ThreadPoolExecutor(max(1, int(config.cpus))) as pool:
            for some in read_columns(self.job.rows, file, list(dict.fromkeys(names))):
                found = some.filter(wanted).slice(0, left)
                left -= len(found)
                for start in range(0, len(found), _TOGETHER):
                    table, pictures = found.slice(start, _TOGETHER), None
                    if "image" in table.column_names:
                        raw = table["image"].to_pylist()
                        pictures = np.concatenate([*pool.map(pixels, raw)])
                        table = table.drop_columns(["image"])
                    yield table, pictures
                if not left:
                    return

    def _with_vectors(self, table: pa.Table, pixels: np.ndarray | None) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        config = self.job.config
        columns: dict[str, Any] = {}
        for name in config.columns[: -len(config.vectors)]:
            columns[name] = table[name]
            if pa.types.is_list(table[name].type):
                columns[name] = pc.call_function("list_value_length", [table[name]])
        for name, origin in config.vectors.items():
            if origin == "image":
                assert pixels is not None
                columns[name] = _lists(self.model.embed_pixels(pixels))
            else:
                columns[name] = _lists(self.model.embed(texts=_first(table[origin].to_pylist())))
        return pa.table(columns)


def _pixels(size: int, raw: bytes) -> np.ndarray:
    """uint8 [1, 3, size, size]."""
    from momo.pictures import open_picture
    from momo.transforms import decode, stack_pictures

    return stack_pictures([open_picture(decode(raw))], size)


def _first(texts: Sequence[str | Sequence[str]]) -> list[str]:
    """Documents as they are, the first of a row's captions."""
    return [text if isinstance(text, str) else (*text, "")[0] for text in texts]


def _lists(vectors: np.ndarray) -> pa.FixedSizeListArray:
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])


def _one_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same; the next one is made while the caller works on one."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def _files(config: EmbedConfig, rows: PreparedRows) -> list[dict[str, Any]]:
    """A task for each file that has rows that are wanted, in the order of the rows."""
    from momo_platform.data.shard_reader import read_columns

    index, splits = rows.index(), {*(config.splits or ALL_SPLITS)}
    files = [*(index.held_out if splits - {"train"} else ())]
    files += index.shards if "train" in splits else ()
    tasks: list[dict[str, Any]] = []
    left = config.limit
    for file in files:
        most = file.rows
        if config.limit:
            found = read_columns(rows.place, file, ["split"])
            most = sum(split in splits for table in found for split in table["split"].to_pylist())
            most = min(most, left)
            left -= most
        if most:
            tasks.append({"file": vars(file), "rows": most, "number": len(tasks)})
        if config.limit and not left:
            break
    return tasks


@by_role
def run_embed(
    config: EmbedConfig, context: Context, *, model: Artifact, rows: PreparedRows
) -> dict[str, Any]:
    """Stage: prepared rows → vectors in shards. What an interrupted attempt made is kept."""
    from momo_platform.data.tasks import Actors, gpus_each, run_on_actors

    on_cpu = config.precision == "int8" or is_engine_in(ModelFolder(model.path).path)
    gpus = 0.0 if on_cpu else gpus_each(config.gpus)
    device = "cuda" if gpus else "cpu"
    job = EmbedJob(config, model, rows.place, context.output_place, context.parts, device)
    tasks, made = _files(config, rows), dict[int, ShardFile]()
    total, done = sum(task["rows"] for task in tasks), 0
    actors = Actors(config.workers, config.cpus, gpus)
    for task in run_on_actors(tasks, partial(ShardEmbedder, job), actors):
        file = made[task["number"]] = ShardFile(**task["file"])
        done += file.rows
        context.progress({"step": done, "total": total})
    files = [made[number] for number in sorted(made) if made[number].rows]
    for file in files:
        context.made(file.file, size=file.size, sha256=file.sha256)
    held_out = tuple(file for file in files if file.file.startswith(f"{HELD_OUT}/"))
    shards = tuple(file for file in files if file not in held_out)
    index = RowIndex(_ROW_GROUP, config.columns, shards, held_out)
    write_index(Place.of(context.output), index)
    return {"rows": done, "files": len(files)}


def embed_stage(config: EmbedConfig, model: Stage, rows: Stage) -> Stage:
    """The stage, of a given model and a corpus's preparation."""
    resources = Resources(data_cpus=config.cpus)
    if config.workers or config.gpus:
        resources = Resources(
            workers=config.workers or 1, worker_cpus=config.cpus, worker_gpus=config.gpus or 0.0
        )
    return Stage(
        "embed",
        run_embed,
        config,
        {"model": model, "rows": rows},
        resources=resources,
        code=("pipelines.vectors", "momo.export"),
        continues=True,
    )
