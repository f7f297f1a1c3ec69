"""The whole job: corpora, three training stages, evaluation, export, report.

    python pipelines/full.py --preset demo
    python pipelines/full.py --preset demo --plan
    python pipelines/full.py --preset demo --pair.source my_pairs.csv

Any field of the config can be set, e.g. --stage1-image.train.steps 1000, or --every.train.seed 1
for every stage; --help-all lists them.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from momo_platform.exit_codes import exit_code
from momo_platform.stages import (
    Plan,
    Storage,
    make_plan,
    open_storage,
    print_plan,
)
from pipelines.commands.help_pages import TRAIN
from pipelines.commands.short_help import for_parser, help_asked
from pipelines.config import PipelineConfig, RunOptions
from pipelines.initial_model import InitialModelConfig
from pipelines.options import parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes as `momo_platform.exit_codes` says."""
    given = sys.argv[1:] if arguments is None else list(arguments)

    def work() -> int:
        return 0 if help_asked("train", TRAIN, given) else run(parse(for_parser(given)), given)

    return exit_code(work, "the same command goes on from the last checkpoint")


def run(config: PipelineConfig, arguments: Sequence[str]) -> int:
    """Plan and, unless `--plan`, execute; ends with the table and the report's path."""
    job(config, arguments)
    return 0


def job(config: PipelineConfig, arguments: Sequence[str]) -> Plan:
    """What `run` does, for a caller that goes on with the plan."""
    storage = open_storage(config.run.storage)
    plan = plan_of(config, storage, command_line(arguments))
    if config.run.plan:
        show_plan(plan, config, storage)
        return plan
    if plan.to_run:
        storage.create()
        execute_plan(plan, storage, config.run, command_line(arguments), config.preset)
    finish(plan, storage)
    return plan


def command_line(arguments: Sequence[str], command: str = "train") -> str:
    """What to type for the same job, for the report and the dashboard."""
    preset = os.environ.get("MOMO_PRESET")
    named = any(a.partition("=")[0] == "--preset" for a in arguments)
    said = ["--preset", preset] if preset and not named else []
    return shlex.join(["momo", command, *said, *arguments])


def plan_of(config: PipelineConfig, storage: Storage | None = None, command: str = "") -> Plan:
    """What the config's job would run, and why; the report says that it was made by `command`.
    Raises UserError for what does not fit."""
    from pipelines.graph import build_graph

    run = config.run
    return make_plan(
        [build_graph(config, command)["report"]],
        storage or open_storage(run.storage),
        only=run.only,
        until=run.until,
        rerun=run.rerun,
    )


def show_plan(plan: Plan, config: PipelineConfig, storage: Storage) -> None:
    """The plan, epochs of every source and what training costs."""
    from rich.console import Console

    from momo_platform.cores import usable_cores
    from momo_platform.stages.time_left import planned_time
    from pipelines.epochs import print_epochs, source_epochs
    from pipelines.estimates import device_named, estimates, print_estimates

    console = Console()
    device = device_named(config.run.gpu)
    print_plan(plan, console)
    for entry in plan.entries:
        if isinstance(entry.stage.config, InitialModelConfig):
            for note in entry.stage.config.notes:
                console.print(f"{entry.name}: {note}", style="dim", markup=False)
    print_epochs(source_epochs(plan, storage), console)
    print_estimates(estimates(plan, config), config, device, console)
    if plan.to_run:
        cores = usable_cores()
        console.print(f"on {cores} CPU cores: {planned_time(plan, storage, cores).planned}")


def execute_plan(
    plan: Plan, storage: Storage, options: RunOptions, command: str, preset: str
) -> None:
    """Run the plan on Ray; Ray's own messages go to a log file below the storage, which has the
    preset's name, and how far it is to a record beside it, which names `command`."""
    from momo_platform.cluster import cluster_cores, growth, start_ray
    from momo_platform.console import Display
    from momo_platform.silence import silence
    from momo_platform.stages.executor import execute
    from momo_platform.stages.run_record import RunRecord
    from momo_platform.stages.time_left import Forecast

    stamp = time.strftime("%Y%m%d-%H%M%S")
    log = _local_folder(storage) / "logs" / f"{preset}-{stamp}.log"
    with ExitStack() as stack:
        stream = stack.enter_context(silence(log, verbose=options.verbose))
        stream.write(
            f"preset {preset}: {len(plan.to_run)} of {len(plan.entries)} stages to run; "
            f"artifacts in {_shown(storage.uri)}, Ray's log in {_shown(log)}\n"
        )
        display = stack.enter_context(Display(stream, verbose=options.verbose))
        display.record = stack.enter_context(RunRecord(log.with_suffix(".json"), command))
        connection = stack.enter_context(start_ray(options.cluster, verbose=options.verbose))
        if connection.notice:
            display.print(connection.notice)
        display.forecast = Forecast(plan, storage, cluster_cores())
        execute(
            plan,
            storage,
            display,
            growth={} if connection.owned else growth(),
            wait_seconds=60 * options.wait_minutes,
        )


def finish(plan: Plan, storage: Storage) -> None:
    """Point `latest` at the newest report and print its table."""
    if not any(e.name == "report" for e in plan.entries):
        print("done: " + ", ".join(e.name for e in plan.entries if e.action != "skipped"))
        return
    entry = plan["report"]
    artifact = storage.artifact("report", entry.fingerprint)
    if artifact is None:
        print("done; the report was not among the stages that ran")
        return
    folder = _local_folder(storage)
    latest, lacking = folder / "latest", ""
    try:
        _link(latest, artifact.path)
    except OSError as error:
        lacking = f"{_shown(latest)} can't be a link to them ({error.strerror}): give --model"
        latest = artifact.path
    print((artifact.path / "report" / "table.txt").read_text(encoding="utf-8"))
    print(f"report: {_shown(latest)}/report/index.html")
    print(f"model:  {_shown(latest)}/model   (momo.load, momo embed)")
    if lacking:
        print(f"{lacking} the place above")


def _link(latest: Path, target: Path) -> None:
    """Make `latest` a link to the folder, in one step. Raises OSError where the file system has no
    links, and where `latest` is a folder."""
    temporary = latest.with_name(f".latest-{os.getpid()}")
    here = target.is_relative_to(latest.parent)
    try:
        temporary.symlink_to(target.relative_to(latest.parent) if here else target)
        temporary.replace(latest)
    finally:
        temporary.unlink(missing_ok=True)


def _local_folder(storage: Storage) -> Path:
    """Where logs and the link to the newest report lie: the storage itself where it is a folder,
    else `runs` here."""
    storage.local_root.mkdir(parents=True, exist_ok=True)
    return storage.local_root


def _shown(path: str | Path) -> str:
    try:
        return str(Path(path).relative_to(Path.cwd())) if "://" not in str(path) else str(path)
    except ValueError:
        return str(path)


if __name__ == "__main__":
    sys.exit(main())
