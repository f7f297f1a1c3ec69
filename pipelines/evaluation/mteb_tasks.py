"""Tasks of `mteb` from the command line: `--tasks mteb/NAME` or `mteb/FILE.py:NAME`. Light: what
mteb itself knows of a task is asked when it runs.

`FILE.py` holds tasks of your own in mteb's format: one is the class whose metadata has that name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from momo_platform.stages import UserError
from pipelines.evaluation.datasets import DataSet
from pipelines.evaluation.tasks import MTEB, EvaluationTask

METRIC = "main_score"
"""The task's own main score, whose name is known when it runs."""


def mteb_tasks(entries: Sequence[str]) -> tuple[EvaluationTask, ...]:
    """The tasks of those entries that begin with `mteb/`, each once, in their order. Raises
    UserError where mteb is not installed, for a pattern and for a file that is not there."""
    named = [part.strip() for entry in entries if "=" not in entry for part in entry.split(",")]
    named = list(dict.fromkeys(part for part in named if part.startswith(MTEB)))
    if not named:
        return ()
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("mteb")
    except PackageNotFoundError as error:
        raise UserError(
            f"--tasks {named[0]}: mteb is not installed; pip install 'momo-ray[mteb]'"
        ) from error
    tasks = [_task(entry, installed) for entry in named]
    names = [task.name for task in tasks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"--tasks: two tasks are named {', '.join(twice)}; give one of them")
    return tuple(tasks)


def _task(entry: str, installed: str) -> EvaluationTask:
    file, _, name = entry.removeprefix(MTEB).rpartition(":")
    if not name or re.search(r"[*?\[\]/]", name):
        raise UserError(
            f"--tasks {entry}: give one task's name, as mteb/STS12, or mteb/FILE.py:NAME"
        )
    uri, digest = "mteb", installed
    if file:
        path = Path(file).expanduser().absolute()
        if not path.is_file():
            raise UserError(f"--tasks {entry}: no file {file}; give a module with a task of mteb's")
        uri = str(path)
        digest = f"{installed}-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    data = DataSet(
        "mteb-" + re.sub(r"[^A-Za-z0-9._-]+", "-", name),
        f"mteb:{name}",
        "the task's own, which mteb fetches",
        "the task's own",
        uri=uri,
        digest=digest,
    )
    return EvaluationTask(f"{MTEB}{name}", "diagnostic", data.name, "mteb_task", METRIC, given=data)
