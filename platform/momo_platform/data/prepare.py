"""The stages that make usable rows of raw ones: survey, list, map, reduce, merge.

Ray Data runs the tasks, the storage holds their state (`parts.py`): what a task has written is not
made again, after a worker is killed or by the next driver. A *survey* decides how the work is
divided; *list* names the rows of each unit of a source; *map* prepares a part of them and writes
it by bucket; *reduce* makes a bucket's shards; the driver merges records. Names and bytes are
those of the sources alone, for any number of workers.

What can't be used goes to `quarantine.parquet` with its reason and is counted; training pictures
that look like held-out ones go to `near_duplicates.parquet`; `sources.parquet` holds size and
sha256 of every file that was read; `card.json` and `card.md` tell what there is.

Memory: the stage's own process holds a record a part, about a kB each, the looks of held-out
pictures (about 100 bytes each), 64 MB of the buckets' ranges at a time, and no rows. A task of
the map holds about 128 MB of prepared rows and their copies, one of the reduce at most 3.5 times
its bucket.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pyarrow as pa

from momo_platform.data.buckets import write_ranges
from momo_platform.data.card import CardBuilder
from momo_platform.data.config import Kind, PrepareConfig, SourceConfig
from momo_platform.data.listers import Lister, ListPictures, ListTexts
from momo_platform.data.mapping import hash_part, map_part, write_files
from momo_platform.data.merge import left_out, merge, not_read
from momo_platform.data.parts import Job, Mapper, part_name, read_tables
from momo_platform.data.readers.base import Ignored
from momo_platform.data.reduce import reduce_bucket, write_looks
from momo_platform.data.rows import IMAGE_SCHEMA, TEXT_SCHEMA, PrepareImages, PrepareText
from momo_platform.data.survey import WorkPlan, list_unit_parts, survey
from momo_platform.data.tasks import Task, run_tasks
from momo_platform.stages.stage import Artifact, Context

BUCKET_BYTES, TEXT_BUCKET_BYTES = 2**29, 2**26
ROW_GROUP, TEXT_ROW_GROUP = 64, 1024
FORMAT = 2
"""Of what tasks leave for each other: parts of another are not gone on with."""
_REDUCE_MEMORY, _PROCESS_BYTES = 3.5, 2**28  # for each byte of a bucket, and whatever it is


def resolve(source: SourceConfig, inputs: Mapping[str, Artifact]) -> str:
    """The place of a source, which may lie in an input."""
    if not source.uri.startswith("input:"):
        return source.uri
    role, _, rest = source.uri.removeprefix("input:").partition("/")
    return str(inputs[role].place / rest)


def prepare_pictures(
    config: PrepareConfig, inputs: Mapping[str, Artifact], context: Context, kind: Kind
) -> dict[str, Any]:
    """Stage: pictures, with captions where the kind needs them → shards by IMAGE_SCHEMA."""
    mapper = PrepareImages(config.image, kind.needs("caption"))
    near_bits = config.near_duplicate_bits
    return prepare(config, inputs, context, kind, ListPictures(), mapper, IMAGE_SCHEMA, near_bits)


def prepare_text(
    config: PrepareConfig, inputs: Mapping[str, Artifact], context: Context, kind: Kind
) -> dict[str, Any]:
    """Stage: text → shards with the columns source, key, text, split."""
    mapper = PrepareText(config.min_text_length)
    options = {"row_group": TEXT_ROW_GROUP, "bucket_bytes": TEXT_BUCKET_BYTES, "by_key": False}
    return prepare(config, inputs, context, kind, ListTexts(), mapper, TEXT_SCHEMA, **options)


def prepare(
    config: PrepareConfig,
    inputs: Mapping[str, Artifact],
    context: Context,
    kind: Kind,
    lister: Lister,
    mapper: Mapper,
    schema: pa.Schema,
    near_bits: int | None = None,
    *,
    row_group: int = ROW_GROUP,
    bucket_bytes: int = BUCKET_BYTES,
    by_key: bool = True,
    surveyed: int = 50_000,
) -> dict[str, Any]:
    """A whole preparation; returns the stage's metrics. Raises UserError.

    `mapper` is called in tasks with a table of up to 8,192 of the rows that `lister` lists, and
    returns one by `schema`, or several after one another. Each row has `source`, `key` (its name in
    messages), `split` ("" or None: drawn by its `group`), `reason` (why it can't be used, else
    None), the kind's content and what is yours; `file`, `size` and `sha256` are of a file of its
    own. `near_bits` is None for rows without a `look`. `bucket_bytes` where the config has none;
    for `by_key` and `surveyed` see Job.
    """
    job = Job(
        config,
        {source.name: resolve(source, inputs) for source in config.sources},
        kind,
        lister,
        mapper,
        schema,
        near_bits,
        config.bucket_bytes or bucket_bytes,
        row_group,
        by_key,
        context.parts / f"format-{FORMAT}",
        context.output_place,
        surveyed,
    )
    context.progress({"message": f"listing {', '.join(job.places)}"})
    (document,) = run_tasks([{}], partial(survey_sources, job))
    plan = WorkPlan.of(document)
    card = CardBuilder(kind)
    mapped = _map(job, plan, context, card)
    sizes = _hand_over(job, plan, mapped)
    reduced: dict[int, Task] = {}
    tasks = [{"bucket": number} for number in range(len(sizes))]
    memory = int(_REDUCE_MEMORY * max(sizes)) + _PROCESS_BYTES
    for record in run_tasks(tasks, partial(reduce_rows, job), memory=memory):
        card.merge(record.pop("card"))
        reduced[record["bucket"]] = record
        context.progress({"message": f"bucket {len(reduced)} of {len(sizes)}"})
    records = [reduced[number] for number in range(len(sizes))]
    read = [name for name, record in mapped.items() if record["files"]]
    (files,) = run_tasks([{}], partial(list_files_read, job, plan.hashes, read))
    metrics = merge(job, context, mapped, records, card, files)
    if note := "; ".join(filter(None, (left_out(card), not_read(card)))):
        context.progress({"note": note})
    return metrics


def survey_sources(job: Job, _: Task) -> Iterator[Task]:
    yield survey(job).document()


def list_rows(job: Job, plan: WorkPlan, task: Task) -> Iterator[Task]:
    """Of a unit that is not listed yet its parts, and what is not read of it; other tasks are
    passed on."""
    if "unit" not in task or "part" in task:
        yield task
        return
    for found in list_unit_parts(job, plan, task["unit"]):
        yield task | ({"part": found} if isinstance(found, int) else {"ignored": found})


def prepare_rows(job: Job, plan: WorkPlan, task: Task) -> Iterator[Task]:
    """A part's record; checksums of files give none."""
    if "hash" in task:
        hash_part(job, task["hash"])
    elif "ignored" in task:
        yield task
    else:
        unit, part = task["unit"], task["part"]
        yield map_part(job, plan, unit, part) | {"name": f"map/{part_name(unit, part)}"}


def reduce_rows(job: Job, task: Task) -> Iterator[Task]:
    yield reduce_bucket(job, task["bucket"]) | task


def list_files_read(job: Job, hashes: int, parts: list[str], _: Task) -> Iterator[Task]:
    yield write_files(job, hashes, parts)


def _map(job: Job, plan: WorkPlan, context: Context, card: CardBuilder) -> dict[str, Task]:
    """List and prepare; returns the records by the names of parts, in the order of units and
    parts. `card` has counted them then."""
    tasks: list[Task] = [
        {"unit": unit, "part": part}
        for unit, parts in enumerate(plan.listed)
        for part in range(parts)
    ]
    tasks += [{"hash": number} for number in range(plan.hashes)]
    tasks += [{"unit": unit} for unit in range(len(plan.listed), len(plan.units))]
    steps = [partial(prepare_rows, job, plan)]
    if len(plan.listed) < len(plan.units):
        steps.insert(0, partial(list_rows, job, plan))
    mapped: dict[str, Task] = {}
    unread: dict[int, Ignored] = {}
    done = 0
    for record in run_tasks(tasks, *steps):
        if "ignored" in record:
            unread[record["unit"]] = Ignored.of(record["ignored"])
            continue
        card.merge(record.pop("card"))
        mapped[record.pop("name")] = record
        done += record["rows"]
        known = {"step": done, "total": max(done, plan.rows)}
        context.progress(known if job.lister.counted else {"message": f"{done} documents"})
    card.ignored = dict(plan.ignored)
    for unit in sorted(unread):
        card.ignored[plan.units[unit].source].merge(unread[unit])
    return dict(sorted(mapped.items()))


def _hand_over(job: Job, plan: WorkPlan, mapped: Mapping[str, Task]) -> list[int]:
    """Tell the reduce what the map wrote; returns each bucket's bytes."""
    named = [f"{name}.looks.arrow" for name, record in mapped.items() if record["looks"]]
    write_looks(job, [*read_tables(job.parts, named)])
    objects = {name: record["objects"] for name, record in mapped.items()}
    return write_ranges(job.parts, objects, plan.fine_buckets, job.bucket_bytes)
