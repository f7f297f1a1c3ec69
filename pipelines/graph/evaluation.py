"""The third phase: models → results of the tasks, and what trivial methods reach on them."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from momo_platform.stages import Resources, Stage, UserError
from pipelines.config import PipelineConfig
from pipelines.graph.corpora import Corpora
from pipelines.tasks.baselines import BaselinesConfig, run_baselines
from pipelines.tasks.registry import choose
from pipelines.tasks.stages import Suite, build_suite

_ONE_CORE = Resources(num_cpus=1.0)


@dataclass(frozen=True)
class Evaluation:
    """`suites`: model → its tasks; `baselines`: the stage of the trivial methods, by its role."""

    suites: Mapping[str, Suite]
    baselines: Mapping[str, Stage]

    @property
    def stages(self) -> list[Stage]:
        """All of them, with the features that they read."""
        found = [s for suite in self.suites.values() for s in suite.stages.values()]
        features = [s.inputs["features"] for s in found if "features" in s.inputs]
        return [*self.baselines.values(), *features, *found]


def evaluated(config: PipelineConfig, trained: Sequence[str]) -> list[str]:
    """Names of the training stages whose models are evaluated, in order. Raises UserError for a
    pattern that is none of them."""
    patterns = config.evaluation.stages or ("*",)
    chosen: set[str] = set()
    for pattern in patterns:
        pattern = trained[-1] if pattern == "last" else pattern
        found = [name for name in trained if fnmatch.fnmatchcase(name, pattern)]
        if not found:
            known = f"{pattern} is not trained (its steps are 0)"
            what = known if pattern in config.training else f"no such training stage {pattern}"
            raise UserError(
                f"--evaluation.stages: {what}; trained are {', '.join(trained)}, and last names "
                "the last of them"
            )
        chosen |= set(found)
    return [name for name in trained if name in chosen]


def evaluate(models: Mapping[str, Stage], corpora: Corpora, config: PipelineConfig) -> Evaluation:
    """The tasks of each evaluated model, and the trivial methods. Raises UserError for unknown
    tasks and stages."""
    chosen = choose(config.evaluation.tasks)
    sources = corpora.sources
    baselines: dict[str, Stage] = {}
    if any(task.baseline for task in chosen):
        baselines["baselines"] = Stage(
            "baselines",
            run_baselines,
            BaselinesConfig.of(config.evaluation, config.model),
            {role: sources[role] for role in ("corpora", "images", "pairs") if role in sources},
            version=2,
            resources=_ONE_CORE,
            code=("momo.evaluation", "pipelines.tasks"),
        )
    names, suites = list(models), {}
    for name in evaluated(config, names):
        tasks = [t for t in chosen if name == names[-1] or t.group != "diagnostic"]
        suites[name] = build_suite(models[name], name, tasks, config.evaluation, sources)
    return Evaluation(suites, baselines)
