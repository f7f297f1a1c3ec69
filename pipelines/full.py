"""The whole job: corpora, three training stages, evaluation, export, report.

    python pipelines/full.py --preset demo
    python pipelines/full.py --preset demo --plan
    python pipelines/full.py --preset demo --pairs.source my_pairs.csv

Any field of the config can be set, e.g. --stage1-images.train.steps 1000, or --every.train.seed 1
for every stage; --help-all lists them.
"""

from __future__ import annotations

import difflib
import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from momo_platform.stages import (
    Plan,
    Storage,
    UserError,
    make_plan,
    open_storage,
    print_plan,
)
from pipelines.commands.exit_codes import exit_code
from pipelines.commands.help_pages import TRAIN
from pipelines.commands.short_help import for_parser, help_asked
from pipelines.config import PipelineConfig, TrainingStage
from pipelines.initial_model import InitialModelConfig, with_shape_of_initial
from pipelines.presets import PRESETS

DEFAULT_PRESET = "demo"  # MOMO_PRESET in the environment names another


def preset_of(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The preset's name and the other arguments. Raises UserError for an unknown name."""
    values, rest = _taken(arguments, "--preset", most=1)
    name = values[-1] if values else os.environ.get("MOMO_PRESET", DEFAULT_PRESET)
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f", did you mean {near[0]}?" if near else ""
        told = f"--preset {name!r}: no such preset{hint or '.'} There are {', '.join(PRESETS)}"
        raise UserError(told)
    return name, rest


def _taken(
    arguments: Sequence[str], option: str, most: int | None = None
) -> tuple[list[str], list[str]]:
    """An option's values, at most `most` a time, and the other arguments."""
    values: list[str] = []
    rest: list[str] = []
    room = 0  # how many more values the option that stands before may take
    for argument in arguments:
        if argument == option:
            room = most or len(arguments)
        elif argument.startswith(option + "="):
            values.append(argument.partition("=")[2])
            room = 0
        elif room and not argument.startswith("--"):
            values.append(argument)
            room -= 1
        else:
            rest.append(argument)
            room = 0
    return values, rest


def with_stages(config: PipelineConfig, chosen: Sequence[str]) -> PipelineConfig:
    """The config with these training stages, in this order: names of the preset's, or NEW=NAME for
    another one that starts as a copy of NAME. None chosen: as the preset has them.

    Raises UserError for a name that is none and for one that comes twice.
    """
    if not chosen:
        return config
    training: dict[str, TrainingStage] = {}
    for text in (part for entry in chosen for part in entry.split(",") if part):
        new, _, of = text.rpartition("=")
        if of not in config.training:
            near = difflib.get_close_matches(of, config.training, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(
                f"--stages {text}: no such training stage; {hint}preset {config.preset} has "
                f"{', '.join(config.training)}, and NEW=NAME makes another of one"
            )
        if (new or of) in training:
            raise UserError(f"--stages: {new or of} comes twice; write NEW={of} for another one")
        training[new or of] = config.training[of]
    return replace(config, training=training)


def parse(arguments: Sequence[str]) -> PipelineConfig:
    """The config from the command line. Unknown options end the program with the nearest name."""
    import tyro

    name, rest = preset_of(arguments)
    stages, rest = _taken(rest, "--stages")
    default = with_stages(PRESETS[name](), stages)
    rest = _short_options(_for_every_stage(rest, default), default)
    initial, _ = _taken(rest, "--initial-model", most=1)
    if initial:
        places, _ = _taken(rest, "--run.storage", most=1)
        run = replace(default.run, storage=places[-1]) if places else default.run
        default = with_shape_of_initial(replace(default, initial_model=initial[-1], run=run))
    return tyro.cli(
        PipelineConfig,
        args=rest,
        default=default,
        prog="full.py",
        description=f"{__doc__}\nDefaults are those of preset {name} "
        f"(--preset {{{','.join(PRESETS)}}}).",
        config=(tyro.conf.AvoidSubcommands,),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: done; 1: a stage failed; 2: bad input; 130: interrupted."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if help_asked("train", TRAIN, arguments):
        return 0
    return exit_code(
        lambda: run(parse(for_parser(arguments)), arguments),
        "the same command goes on from the last checkpoint",
    )


_RUN_OPTIONS = (
    *("storage", "cluster", "plan", "gpu", "mfu"),
    *("only", "until", "rerun", "ingest", "verbose"),
)


def _for_every_stage(arguments: Sequence[str], config: PipelineConfig) -> list[str]:
    """`--every.train.…` said once for each training stage; `--keep` is `--every.train.keep`."""
    result: list[str] = []
    copied: list[str] = []  # an option of every stage, with its values
    for argument in (*arguments, "--"):
        if argument.partition("=")[0] == "--keep":
            argument = argument.replace("--keep", "--every.train.keep", 1)
        if copied and not argument.startswith("--"):
            copied.append(argument)
            continue
        for name in config.training if copied else ():
            result += [copied[0].replace("--every.", f"--training.{name}.", 1), *copied[1:]]
        copied = [argument] if argument.startswith("--every.") else []
        result += [argument] if not copied else []
    return result[:-1]


def _short_options(arguments: Sequence[str], config: PipelineConfig) -> list[str]:
    """`--plan` and its kind stand for `--run.plan`, `--tasks` and `--data` for `--evaluation.…`,
    `--<stage>.…` for `--training.<stage>.…`; a stage may be named by what stands before its first
    dash (`--stage3.…`)."""
    stages = {name.partition("-")[0]: name for name in reversed(list(config.training))}
    stages |= {name: name for name in config.training}
    result = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        head, dot, path = name.removeprefix("--").partition(".")
        if name in ("--tasks", "--data"):
            name = "--evaluation." + name.removeprefix("--")
        elif name == "--initial-weights":
            name = "--initial-model"
        elif name.startswith("--") and dot and head in stages:
            name = f"--training.{stages[head]}.{path}"
        elif name.startswith("--") and head.removeprefix("no-") in _RUN_OPTIONS and not dot:
            name = "--run." + head
        result.append(name + equals + value)
    return result


def run(config: PipelineConfig, arguments: Sequence[str]) -> int:
    """Plan and, unless `--plan`, execute; ends with the table and the report's path."""
    storage = open_storage(config.run.storage)
    plan = plan_of(config, storage, command_line(arguments))
    if config.run.plan:
        show_plan(plan, config, storage)
        return 0
    storage.create()
    if plan.to_run:
        execute_plan(plan, storage, config, command_line(arguments))
    finish(plan, storage)
    return 0


def command_line(arguments: Sequence[str], command: str = "train") -> str:
    """What to type for the same job, for the report and the dashboard."""
    return shlex.join(["momo", command, *arguments])


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


def execute_plan(plan: Plan, storage: Storage, config: PipelineConfig, command: str) -> None:
    """Run the plan on Ray; Ray's own messages go to a log file below the storage, and how far it is
    to a record beside it, which names `command`."""
    from momo_platform.cluster import cluster_cores, growth, start_ray
    from momo_platform.console import View, silence
    from momo_platform.stages.executor import execute
    from momo_platform.stages.run_record import RunRecord
    from momo_platform.stages.time_left import Forecast

    stamp = time.strftime("%Y%m%d-%H%M%S")
    log = _local_folder(storage) / "logs" / f"{config.preset}-{stamp}.log"
    print(
        f"preset {config.preset}: {len(plan.to_run)} of {len(plan.entries)} stages to run; "
        f"artifacts in {_shown(storage.uri)}, Ray's log in {_shown(log)}",
        flush=True,
    )
    with ExitStack() as stack:
        stream = stack.enter_context(silence(log, verbose=config.run.verbose))
        view = stack.enter_context(View(stream, verbose=config.run.verbose))
        view.record = stack.enter_context(RunRecord(log.with_suffix(".json"), command))
        connection = stack.enter_context(start_ray(config.run.cluster, verbose=config.run.verbose))
        if connection.notice:
            view.print(connection.notice)
        view.forecast = Forecast(plan, storage, cluster_cores())
        execute(
            plan,
            storage,
            view,
            growth={} if connection.owned else growth(),
            wait_seconds=60 * config.run.wait_minutes,
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
    latest, temporary = folder / "latest", folder / f".latest-{os.getpid()}"
    here = artifact.path.is_relative_to(folder)
    temporary.symlink_to(artifact.path.relative_to(folder) if here else artifact.path)
    temporary.replace(latest)
    print((artifact.path / "report" / "table.txt").read_text(encoding="utf-8"))
    print(f"report: {_shown(latest)}/report/index.html")
    print(f"model:  {_shown(latest)}/model   (momo.load, pipelines/embed.py)")


def _local_folder(storage: Storage) -> Path:
    """Where logs and the link to the newest report lie: the storage itself where it is a folder,
    else `runs` here."""
    folder = Path(storage.uri) if "://" not in storage.uri else Path("runs").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _shown(path: str | Path) -> str:
    try:
        return str(Path(path).relative_to(Path.cwd())) if "://" not in str(path) else str(path)
    except ValueError:
        return str(path)


if __name__ == "__main__":
    sys.exit(main())
