"""The command line that all experiments share: arms → a sweep, its report, its record."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from experiments.budget import Budget, base_config, equal_compute, on_sources, training_flops
from experiments.design import Design, RunPlan
from momo_platform.exit_codes import exit_code
from momo_platform.files import write_whole
from momo_platform.overrides import with_settings
from momo_platform.stages import Plan, Stage, UserError, make_plan, open_storage
from momo_platform.sweeps import Choice, Interval, Settings, Sweep
from momo_platform.sweeps.driver import SweepOptions, run_sweep
from momo_platform.sweeps.folder import sweep_folder
from pipelines.commands.help_pages import SWEEP
from pipelines.commands.short_help import for_parser, help_asked
from pipelines.config import PictureOptions, PipelineConfig, SourceOptions, no_sources
from pipelines.graph.corpora import is_own
from pipelines.option_names import todays_settings, with_whole_names
from pipelines.trials import TrialBase, build_trial, command_of

Arms = Mapping[str, Settings]
"""Name → what the arm changes in the base config; the first is the reference."""
RESULTS = Path(__file__).parent / "results"
FINDINGS = Path(__file__).parents[1] / "docs" / "findings.md"


@dataclass(frozen=True)
class ExperimentOptions(SweepOptions):
    """What every experiment can be told."""

    budget: Budget = "hour"
    """What a trial may cost: smoke (seconds), hour (the whole experiment on two cores), demo."""
    seeds: tuple[int, ...] = ()
    """Each trial is trained and evaluated once with each; by default as many, from 0, as the
    experiment's design says. They are fixed with the first trial: more seeds are a new run."""
    only: tuple[str, ...] = ()
    """Run these arms only; the first arm, which the others are compared with, always runs. Some
    arms run only when they are named: `--plan` lists them."""
    corpora: Mapping[str, SourceOptions] = field(default_factory=no_sources)
    picture: PictureOptions = PictureOptions()
    tasks: tuple[str, ...] = ()
    """What trials are scored by; default: the budget's tasks of the demo, and own/… in place of
    those whose corpora are your own."""
    metric: str = ""
    """What arms are compared by, as macro or tasks/own/retrieval; default: the experiment's."""
    name: str = ""
    """The sweep's name; by default the experiment's and the budget."""
    plan: bool = False
    """Print the arms, what they change and what is to run; then end. Without Ray."""
    publish: bool = False
    """Copy the table, the rows and the chart to experiments/results/, under the experiment's name
    or --name, and rewrite docs/findings.md. Not of the smoke budget, and not over another sweep's
    of that day."""

    @property
    def is_own(self) -> bool:
        """Whether a corpus is the user's own."""
        return any(is_own(source) for source in self.corpora.values())


@dataclass(frozen=True)
class Experiment:
    """`arms(base)`; those `on_request` run only when `--only` names them. Steps are chosen so that
    all cost the same compute, unless `equal` is False. Or a `space` that Optuna searches with
    `samples` trials. `design`: what is compared by what, with how many seeds and which margin; a
    file of your own may leave it out: then all arms of the first run are, by `metric` and without a
    margin."""

    name: str
    arms: Callable[[PipelineConfig], Arms] = lambda _: {}
    space: Mapping[str, Choice | Interval] = field(default_factory=dict)
    samples: int = 1
    on_request: tuple[str, ...] = ()
    equal: bool = True
    metric: str = "macro"
    show: tuple[str, ...] = ("groups/*", "tasks/*", "training_seconds")
    mode: Any = "max"
    base: Callable[[Budget], PipelineConfig] = base_config
    build: Callable[[Any, Sequence[Settings], int], Stage] = build_trial
    design: Design | None = None

    @property
    def fixed(self) -> Design:
        """The design, or what stands for one."""
        return self.design or Design(metric=self.metric, seeds=1 if self.space else 3)


def main(
    experiment: Experiment,
    doc: str | None,
    arguments: Sequence[str] | None = None,
    options_of: type[ExperimentOptions] = ExperimentOptions,
    work: Callable[[Experiment, Any, Sequence[str]], int] | None = None,
) -> int:
    """The command line of an experiment: `options_of` what it can be told, `work` is done with that
    (default: `run`). Exit codes as those of `pipelines/full.py`; a sweep with a failed trial ends
    with 1."""
    import tyro

    given = sys.argv[1:] if arguments is None else list(arguments)

    def told() -> int:
        if help_asked(f"sweep {experiment.name}", SWEEP, given):
            print(f"\n{(doc or '').strip()}")
            return 0
        options = tyro.cli(
            options_of,
            args=with_whole_names(for_parser(given)),
            description=doc,
            prog=f"momo sweep {experiment.name}",
        )
        return (work or run)(experiment, options, given)

    return exit_code(told, "the same command goes on where it was")


def sweep_of(experiment: Experiment, options: ExperimentOptions) -> Sweep:
    """The sweep. Raises UserError for an arm that is none."""
    base = experiment.base(options.budget)
    base = on_sources(base, options.corpora, options.picture, options.tasks)
    arms = {name: todays_settings(arm) for name, arm in experiment.arms(base).items()}
    if options.only and not arms:
        raise UserError(f"--only: {experiment.name} has no arms, it searches a space")
    if unknown := [name for name in options.only if name not in arms]:
        raise UserError(f"--only {' '.join(unknown)}: no such arm; there are {', '.join(arms)}")
    chosen = options.only or [name for name in arms if name not in experiment.on_request]
    arms = {name: arms[name] for i, name in enumerate(arms) if i == 0 or name in chosen}
    if experiment.equal:
        arms = {name: equal_compute(base, settings) for name, settings in arms.items()}
    return Sweep(
        name=options.name or _name(experiment, options),
        build=experiment.build,
        base=TrialBase(base),
        metric=options.metric or experiment.fixed.metric,
        mode=experiment.mode,
        arms=arms,
        space=todays_settings(experiment.space),
        search="optuna" if experiment.space else "grid",
        samples=experiment.samples,
        seeds=options.seeds or tuple(range(experiment.fixed.seeds)),
        show=experiment.show,
        curves=("loss/*",),
        command=partial(command_of, base) if experiment.build is build_trial else None,
    )


def plan_of(experiment: Experiment, sweep: Sweep) -> RunPlan:
    """What a run of this sweep fixes: all of the design's comparisons, so that `--only` makes no
    family smaller, and those on request that it has."""
    design = experiment.fixed
    always = [arm for arm in design.comparisons if arm not in experiment.on_request]
    return RunPlan(
        experiment=experiment.name,
        seeds=sweep.seeds,
        comparisons=tuple(dict.fromkeys([*always, *list(sweep.arms)[1:]])),
        metric=sweep.metric,
        margin=design.margin if sweep.metric == design.metric else None,
        learning_rates=design.learning_rates,
        base=sweep.definition()["base"],
    )


def _name(experiment: Experiment, options: ExperimentOptions) -> str:
    return f"{experiment.name}-{options.budget}{'-own' if options.is_own else ''}"


def run(experiment: Experiment, options: ExperimentOptions, arguments: Sequence[str]) -> int:
    """Plan, or run the sweep and write its report."""
    sweep = sweep_of(experiment, options)
    if options.publish and options.is_own:
        raise UserError("--publish: results/ is about the demo's corpora; leave it out")
    if options.publish and options.budget == "smoke":
        raise UserError("--publish: results/ holds real runs; --budget smoke is for tests")
    plan = plan_of(experiment, sweep)
    folder = sweep_folder(open_storage(options.storage), sweep.name)
    plan.fixed(folder)
    if options.plan:
        print_arms(sweep, options)
        if left := [name for name in experiment.on_request if name not in sweep.arms]:
            print(f"only when named: {shlex.join(['--only', *left])}")
        return 0
    command = ["python", f"experiments/{experiment.name}.py", *arguments]
    results = run_sweep(sweep, options, command, planned=plan.fixed)
    from momo_platform.sweeps.report import write_report

    page = write_report(results, sweep, options.storage, folder)
    print((page.parent / "table.md").read_text(encoding="utf-8"))
    print(f"report: {page}")
    failed = [row.label for row in results.rows if row.state in ("failed", "not run")]
    if failed:
        told = "; nothing is published" if options.publish else ""
        print(f"failed: {', '.join(failed)}; their errors are in the report{told}", file=sys.stderr)
        return 1
    if options.publish:
        publish(options.name or experiment.name, folder, results.created[:10])
    return 0


def publish(name: str, folder: Path, date: str) -> None:
    """The record of a real run: a table, its rows, its chart, and the page of all findings. Raises
    UserError where a record of this name and date is of another sweep."""
    from experiments import findings, records
    from momo_platform.charts import standalone
    from momo_platform.sweeps.report import forest
    from momo_platform.sweeps.rows import read_results

    RESULTS.mkdir(exist_ok=True)
    there = RESULTS / f"{name}-{date}.json"
    ours = read_results(folder / "results.json")
    if there.exists() and read_results(there).definition != ours.definition:
        raise UserError(
            f"{there.name} in {RESULTS} is of a sweep with other arms, seeds or settings, and "
            "stays; the report is written: the same command with a --name publishes beside it"
        )
    shutil.copyfile(folder / "report" / "table.md", RESULTS / f"{name}-{date}.md")
    shutil.copyfile(folder / "results.json", RESULTS / f"{name}-{date}.json")
    if chart := forest(ours):
        (RESULTS / f"{name}-{date}.svg").write_text(standalone(chart), encoding="utf-8")
    page = findings.page(RESULTS)
    write_whole(FINDINGS, page)
    print(f"published: experiments/results/{name}-{date}.md, .json, .svg and docs/findings.md")
    if name not in records.counted():
        print(
            f"docs/findings.md lists {name} as another record: RECORDS in "
            "experiments/records.py says which runs its answers are from"
        )


def print_arms(sweep: Sweep, options: ExperimentOptions) -> None:
    """A table: arm, what it changes, training FLOP, stages to run of all."""
    from rich.console import Console
    from rich.table import Table

    storage = open_storage(options.storage)
    table = Table(box=None, pad_edge=False)
    for title in ("arm", "changes", "FLOP", "stages to run"):
        table.add_column(title, overflow="fold")
    sets = sweep.arms or {sweep.label(p): p for p in sweep.parameter_sets()[:4]}
    for name, settings in sets.items():
        plans = [make_plan([sweep.build(sweep.base, [settings], s)], storage) for s in sweep.seeds]
        run = sum(len(p.to_run) for p in plans)
        told = ", ".join(
            f"{path.removeprefix('training.')}={_short(value)}" for path, value in settings.items()
        )
        table.add_row(name, told or "nothing", _flops(sweep, settings), f"{run} of {_count(plans)}")
    Console().print(table)
    if sweep.space:
        print("(settings that could come; Optuna chooses them)")
    print(f"{sweep.trials} trials, seeds {list(sweep.seeds)}; stages that arms share run once")


def _flops(sweep: Sweep, settings: Settings) -> str:
    if sweep.build is not build_trial:
        return "–"
    return f"{sum(training_flops(with_settings(sweep.base.config, settings)).values()):.2e}"


def _count(plans: Sequence[Plan]) -> int:
    return sum(len(plan.entries) for plan in plans)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:59] + "…"
