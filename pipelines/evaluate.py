"""The evaluation suite on any model: exported MoMos and transformers models by their folders.

    momo evaluate --model runs/latest/model
    momo evaluate --model ours=runs/latest/model clip=models/clip \\
        --pair.source captions.csv --tasks auto birds=pictures/birds
    momo evaluate --model ours=runs/latest/model clip=models/clip \\
        --tasks image 'glue/*' multimodal --data ~/data --against flava-paper last-week=old/report
    momo evaluate --list

Every protocol on every data set is a node of the graph: run in parallel, cached, resumable. A task
whose data set is missing is shown as not available, with how to get it. Own sources are given as to
full.py: their held-out parts are the same, and what it prepared is taken.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from momo.config import ModelConfig
from momo.precision import FloatPrecision
from momo_platform.exit_codes import exit_code
from momo_platform.stages import (
    Stage,
    UserError,
    make_plan,
    open_storage,
    print_plan,
)
from momo_platform.stages.stage import all_stages
from pipelines.commands.help_pages import EVALUATE
from pipelines.commands.short_help import for_parser, help_asked
from pipelines.config import (
    EvaluationConfig,
    PictureOptions,
    PipelineConfig,
    RunOptions,
    SourceOptions,
    no_sources,
)
from pipelines.evaluation.baselines import baselines_stage
from pipelines.evaluation.graph import Suite, build_suite, check_unique
from pipelines.evaluation.scores import read_run
from pipelines.evaluation.tasks import TASKS
from pipelines.evaluation.untrained import UNTRAINED, UntrainedConfig, untrained_suite
from pipelines.full import command_line, execute_plan
from pipelines.given_model import given_model
from pipelines.graph.corpora import prepared_rows
from pipelines.graph.evaluation import choose_tasks
from pipelines.modalities import MODALITIES
from pipelines.option_names import with_whole_names
from pipelines.presets import CHOICES, PRESETS
from pipelines.report.comparison import ComparisonConfig, run_comparison

_SMALL = 256  # wide: such models are trained in minutes and want larger steps


@dataclass(frozen=True)
class EvaluateOptions:
    """`model`: folders, or NAME=FOLDER; `against`: reports, metrics.json or published figures."""

    model: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ("auto",)
    """Suites, task names or patterns of them; NAME=FOLDER_OR_TABLE[:PROTOCOL] for data of your own;
    mteb/NAME for a task of MTEB or MIEB; auto: own/… for each source that is given, without any the
    demo's tasks."""
    corpora: Mapping[str, SourceOptions] = field(default_factory=no_sources)
    picture: PictureOptions = PictureOptions()
    save_classifiers: bool = False
    """Keep every fine-tuned model with its classes, as `classifier/` in its task's artifact."""
    data: str = ""
    """Folder with the public data sets."""
    against: tuple[str, ...] = ()
    """[NAME=]PLACE of earlier results; or flava-paper."""
    preset: str = "demo"
    """Whose corpora the demo's and the icons' tasks come from."""
    budget: str = ""
    """Of preset icons the budget that the model was trained in (hour, evening, gpu): they leave
    different pictures out of training."""
    limit: int = 0
    """Use so many examples of each part at most, for a quick look; 0: all."""
    learning_rate: float | None = None
    """Of fine-tunings; default: 0.001 for models up to 256 wide, 0.00005 for others."""
    layer_decay: float | None = None
    """Default: 1 for models up to 256 wide, 0.75 for others."""
    seed: int = 0
    cpus: float = 1.0
    gpus: float = 0.0
    """Of each task that runs a model; without them it runs on CPUs."""
    precision: FloatPrecision = "fp32"
    """Of the models' products: fp32, tf32 (on GPUs) or bf16."""
    storage: str = "runs"
    cluster: str = "auto"
    plan: bool = False
    list: bool = False
    """Show every task and end."""
    verbose: bool = False

    def evaluation(self, width: int = 0) -> EvaluationConfig:
        """The suite's settings for a model of `width`. Raises UserError for impossible ones."""
        if self.limit < 0:
            raise UserError(f"--limit {self.limit}: give 0 (all) or more")
        if self.learning_rate is not None and not 0.0 < self.learning_rate < 1.0:
            raise UserError(f"--learning-rate {self.learning_rate}: give more than 0, below 1")
        if self.layer_decay is not None and not 0.0 < self.layer_decay <= 1.0:
            raise UserError(f"--layer-decay {self.layer_decay}: give more than 0, at most 1")
        base = self.chosen_preset().evaluation
        small = width <= _SMALL
        rate, decay = (1e-3, 1.0) if small else (5e-5, 0.75)
        rate = rate if self.learning_rate is None else self.learning_rate
        decay = decay if self.layer_decay is None else self.layer_decay
        return replace(
            base,
            seed=self.seed,
            learning_rate=rate,
            layer_decay=decay,
            limit=self.limit,
            tasks=self.tasks,
            save_classifiers=self.save_classifiers,
            data=self.data,
            threads=max(1, int(self.cpus)),
            cpus=self.cpus,
            gpus=self.gpus,
            precision=self.precision,
        )

    def chosen_preset(self) -> PipelineConfig:
        """Raises UserError for a preset or a budget that there is not."""
        if self.preset not in PRESETS:
            known = ", ".join(PRESETS)
            raise UserError(f"--preset {self.preset}: no such preset; there are {known}")
        budgets = CHOICES.get(self.preset, {}).get("budget", ())
        if not self.budget and budgets:
            raise UserError(
                f"--preset {self.preset}: give --budget, the one that the model was trained with "
                f"({', '.join(budgets)}): others leave out other pictures"
            )
        if not self.budget:
            return PRESETS[self.preset]()
        if not budgets:
            raise UserError(f"--budget {self.budget}: preset {self.preset} has none to choose")
        return PRESETS[self.preset](budget=self.budget)


def _width(folder: Path) -> int:
    """The width of a model's widest tower, 0 where its config does not say."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        parts = [config, *(v for v in config.values() if isinstance(v, dict))]
        found = [part.get(key) for part in parts for key in ("width", "hidden_size", "dim")]
        return max((v for v in found if isinstance(v, int)), default=0)
    except (ValueError, AttributeError) as error:
        raise UserError(f"{folder / 'config.json'} is not a model's config ({error})") from error


def _others(against: Sequence[str]) -> dict[str, dict[str, float]]:
    """Values by run. Raises UserError for two runs of one name."""
    runs = [read_run(a) for a in against]
    check_unique([name for name, _ in runs], "--against: two runs are named {}; write NAME=PLACE")
    return dict(runs)


def build_graph(options: EvaluateOptions, command: str = "") -> dict[str, Stage]:
    """All stages by name; the last is `comparison` and names `command`. Raises UserError for bad
    input."""
    if not options.model:
        raise UserError("--model: give at least one model's folder, e.g. runs/latest/model")
    options.evaluation()
    preset = options.chosen_preset()
    sources = replace(preset.sources, given=options.corpora, picture=options.picture)
    prepared, own = prepared_rows(sources)
    chosen = choose_tasks(options.tasks, sources, prepared, own, () if own else MODALITIES)
    models = [given_model(m) for m in options.model]
    names = [UNTRAINED, *(n for n, _ in models)]
    check_unique(names, "two models are named {}: write --model NAME=PATH")
    suites: dict[str, Suite] = {}
    for name, model in models:
        evaluation = options.evaluation(_width(Path(model.config.path)))
        suites[name] = build_suite(model, name, chosen.tasks, evaluation, chosen.sources)
    inputs = {n: stage for suite in suites.values() for n, stage in suite.stages.items()}
    shape, words = _first_momo([m for _, m in models])
    evaluation = options.evaluation((shape.model if shape else preset.model).width)
    untrained = untrained_suite(chosen.tasks, evaluation, chosen.sources, shape, words)
    inputs |= untrained.stages
    baselines = baselines_stage(chosen.tasks, evaluation, chosen.sources, words)
    if baselines is not None:
        inputs["baselines"] = baselines
    comparison = Stage(
        "comparison",
        run_comparison,
        ComparisonConfig(
            {n: s.names for n, s in suites.items()},
            {n: s.missing for n, s in suites.items()},
            _others(options.against),
            chosen.given,
            untrained.names,
            command,
        ),
        inputs,
        code=("pipelines.evaluation.scores", "pipelines.report"),
    )
    return {stage.name: stage for stage in all_stages([*(m for _, m in models), comparison])}


def _first_momo(models: Sequence[Stage]) -> tuple[UntrainedConfig | None, dict[str, Stage]]:
    """The first MoMo among the models as it is before any training, and what has its words."""
    for model in models:
        file = Path(model.config.path) / "config.json"
        if fields := json.loads(file.read_text(encoding="utf-8")).get("model"):
            return UntrainedConfig(ModelConfig(**fields), 0), {"model": model}
    return None, {}


def show_tasks() -> None:
    """A line a task."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for title in ("task", "group", "protocol", "metric", "source", "licence"):
        table.add_column(title, overflow="fold")
    for task in TASKS.values():
        data = task.data_set
        row = (task.name, task.group, task.protocol, task.metric, data.source, data.licence)
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


def parse(arguments: Sequence[str]) -> EvaluateOptions:
    """The options from the command line."""
    import tyro

    return tyro.cli(
        EvaluateOptions,
        args=with_whole_names(for_parser(arguments)),
        prog="momo evaluate",
        description=__doc__,
    )


def run(options: EvaluateOptions, arguments: Sequence[str]) -> Path:
    """Run what is missing; returns the folder that holds `report/`."""
    storage = open_storage(options.storage)
    command = command_line(arguments, "evaluate")
    plan = make_plan([build_graph(options, command)["comparison"]], storage)
    if plan.to_run:
        storage.create()
        how = RunOptions(options.storage, options.cluster, verbose=options.verbose)
        execute_plan(plan, storage, how, command, options.preset)
    artifact = storage.artifact("comparison", plan["comparison"].fingerprint)
    assert artifact is not None
    return artifact.path


def _work(options: EvaluateOptions, arguments: Sequence[str]) -> int:
    from rich.console import Console

    if options.list:
        show_tasks()
        return 0
    if options.plan:
        storage = open_storage(options.storage)
        print_plan(make_plan([build_graph(options)["comparison"]], storage), Console())
        return 0
    report = run(options, arguments) / "report"
    print((report / "table.txt").read_text(encoding="utf-8"))
    print(f"report: {report / 'index.html'} (also table.md, metrics.json)")
    return 0


def _main(arguments: Sequence[str]) -> int:
    if help_asked("evaluate", EVALUATE, arguments):
        return 0
    return _work(parse(arguments), arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes as `momo_platform.exit_codes` says."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return exit_code(lambda: _main(given), "the same command goes on where it was")


if __name__ == "__main__":
    sys.exit(main())
