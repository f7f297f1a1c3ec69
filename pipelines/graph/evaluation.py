"""The third phase: models → results of the tasks, and what trivial methods reach on them."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from momo_platform.stages import Stage, UserError
from pipelines.bundled import BUNDLES, bundle_at
from pipelines.config import PipelineConfig, Sources
from pipelines.evaluation.baselines import baselines_stage
from pipelines.evaluation.graph import Suite, build_suite
from pipelines.evaluation.mteb_tasks import mteb_tasks
from pipelines.evaluation.tasks import EvaluationTask, choose
from pipelines.evaluation.untrained import UntrainedConfig, untrained_suite
from pipelines.graph.corpora import Corpora, bundled_rows, own_rows
from pipelines.modalities import MODALITIES


@dataclass(frozen=True)
class Evaluation:
    """`suites`: model → its tasks; `untrained`: those of the model before any training;
    `baselines`: the stage of the trivial methods, by its role; `given`: tasks from the command
    line."""

    suites: Mapping[str, Suite]
    untrained: Suite
    baselines: Mapping[str, Stage]
    given: tuple[EvaluationTask, ...] = ()

    @property
    def stages(self) -> list[Stage]:
        """All of them, with the features that they read."""
        suites = [*self.suites.values(), self.untrained]
        found = [s for suite in suites for s in suite.stages.values()]
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


@dataclass(frozen=True)
class Chosen:
    """The tasks, and role → what their data sets are read from: `own-<kind>`, `demo-<kind>`,
    `icons-<kind>`, and the stages of bundles, of which `corpora` is the preset's."""

    tasks: tuple[EvaluationTask, ...]
    sources: Mapping[str, Stage]

    @property
    def given(self) -> tuple[EvaluationTask, ...]:
        """Those from the command line."""
        return tuple(task for task in self.tasks if task.given)


def choose_tasks(
    named: Sequence[str],
    sources: Sources,
    prepared: Mapping[str, Stage],
    own: Collection[str],
    trained_on: Collection[str],
) -> Chosen:
    """The tasks that are `named`. `auto` stands for those on the user's `own` kinds, and those of
    a bundle that come with the kinds that are `trained_on` and the bundle's.

    A bundle's rows are those of training, or prepared for the tasks alone where training has
    others. Raises UserError for unknown tasks.
    """
    of_user = own_rows(prepared, own)
    bundled = {
        kind: bundle
        for kind in trained_on
        if kind not in own and (bundle := sources.bundle_of(kind)) and _there(kind, prepared, own)
    }
    given: tuple[EvaluationTask, ...] = ()
    if any("=" in entry for entry in named):
        from pipelines.evaluation.given import given_tasks  # looks into files, with Arrow

        given = given_tasks(named)
    given += mteb_tasks(named)
    tasks = choose(named, of_user.keys(), bundled, given)
    roles = {role for task in tasks for role in task.data_set.inputs}
    found = {f"own-{kind}": stage for kind, stage in of_user.items()}
    for name in BUNDLES:
        for kind in MODALITIES:
            if (role := f"{name}-{kind}") in roles:
                here = kind in prepared and kind not in own and sources.bundle_of(kind) == name
                other = f"prepare-{role}"
                found[role] = prepared[kind] if here else bundled_rows(kind, sources, name, other)
    for role in sorted(roles):
        if (bundle := bundle_at(role, sources.bundle)) is not None:
            found[role] = bundle.corpora(sources.bundles)
    return Chosen(tasks, found)


def _there(kind: str, prepared: Mapping[str, Stage], own: Collection[str]) -> bool:
    """Whether bundled corpora have rows of a kind, be it by those of another."""
    giver = MODALITIES[kind].given_by
    return kind in prepared or (giver in prepared and giver not in own)


def evaluate(models: Mapping[str, Stage], corpora: Corpora, config: PipelineConfig) -> Evaluation:
    """The tasks of each evaluated model, and the trivial methods. Raises UserError for unknown
    tasks and stages."""
    named, prepared = config.evaluation.tasks, corpora.prepared
    chosen = choose_tasks(named, config.sources, prepared, corpora.own, corpora.needed)
    seed = next(iter(config.trained.values())).train.seed
    words = {"tokenizer": corpora.tokenizer}
    baselines = baselines_stage(chosen.tasks, config.evaluation, chosen.sources, words)
    first = UntrainedConfig(config.model, seed, config.pair_text_length)
    untrained = untrained_suite(chosen.tasks, config.evaluation, chosen.sources, first, words)
    names, suites = list(models), {}
    for name in evaluated(config, names):
        tasks = [t for t in chosen.tasks if name == names[-1] or t.group != "diagnostic"]
        suites[name] = build_suite(models[name], name, tasks, config.evaluation, chosen.sources)
    of_trivial = {} if baselines is None else {"baselines": baselines}
    return Evaluation(suites, untrained, of_trivial, chosen.given)
