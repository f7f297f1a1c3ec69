"""The graph of the whole job: from corpora to the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from momo_platform.data.listing import Kind
from momo_platform.data.mix import MixConfig, run_mix_images, run_mix_pairs, run_mix_text
from momo_platform.data.prepare import (
    PrepareConfig,
    run_prepare_images,
    run_prepare_pairs,
    run_prepare_text,
)
from momo_platform.data.sources import SourceConfig, identify
from momo_platform.stages import Artifact, Context, Resources, Stage, UserError
from momo_platform.training.config import ScalingConfig
from pipelines.config import PipelineConfig, SourceOptions, TrainingStage
from pipelines.demo.corpora import LICENCES, run_demo_corpora
from pipelines.report.stage import ReportConfig, run_report
from pipelines.tasks.baselines import BaselinesConfig, run_baselines
from pipelines.tasks.registry import choose
from pipelines.tasks.stages import Suite, build_suite
from pipelines.tokenizer import TokenizerConfig, run_tokenizer
from pipelines.training import (
    ROLES,
    StageRecipe,
    rows_together,
    run_training,
    weights_digest,
)

_DATA = Resources(data_cpus=1.0)
_ONE_CORE = Resources(num_cpus=1.0)
_DEMO_SOURCES: Mapping[Kind, tuple[tuple[str, str, float], ...]] = {
    "images": (("emoji", "images.jsonl", 1.0),),
    "pairs": (("emoji", "pairs.jsonl", 1.0),),
    "text": (
        ("wikipedia", "text/wikipedia.txt", 1.0),
        ("documentation", "text/documentation.txt", 0.5),  # repetitive
        ("reviews", "text/reviews.txt", 2.0),
    ),
}
TRAINING_STAGES = ("stage1-images", "stage2-joint", "stage3-pairs")


@dataclass(frozen=True)
class ExportConfig:
    """Nothing to choose yet."""


def run_export(
    config: ExportConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: the last training stage's model with its tokenizer → `model/`, for `momo.load`."""
    import shutil

    shutil.copytree(inputs["model"].path / "model", context.output / "model")
    file = context.output / "model" / "config.json"
    made_by = f"{inputs['model'].name}/{inputs['model'].fingerprint}"  # for its lineage
    file.write_text(json.dumps(json.loads(file.read_text()) | {"artifact": made_by}, indent=1))
    return {"files": sorted(p.name for p in (context.output / "model").iterdir())}


def _sources(
    kind: Kind, options: SourceOptions, config: PipelineConfig
) -> tuple[tuple[SourceConfig, ...], bool]:
    """The modality's sources, and whether they lie in the demo corpora."""
    if options.source:
        content = identify(options.source, f"--{kind}.source", kind)
        # A cluster's workers run in other folders than the driver.
        uri = options.source
        if "://" not in uri:
            uri = str(Path(uri).expanduser().absolute())
        source = SourceConfig("own", uri, content, options.weight, options.licence)
        return (source,), False
    if config.has_corpora:
        defaults = {f.name: f.default for f in fields(PipelineConfig)}[kind]
        for option in ("weight", "licence", "held_out"):
            if getattr(options, option) != getattr(defaults, option):
                raise UserError(
                    f"--{kind}.{option.replace('_', '-')} holds for your own source only: give "
                    f"--{kind}.source too, or leave it out"
                )
        return tuple(
            SourceConfig(name, f"input:corpora/{path}", "demo", weight, LICENCES.get(name, ""))
            for name, path, weight in _DEMO_SOURCES[kind]
        ), True
    if config.run.plan:
        return (SourceConfig("own", "", "not given yet"),), False
    raise UserError(
        f"preset {config.preset} brings no corpora: give --{kind}.source (a folder, Parquet, "
        "JSONL or CSV; local or a URI), or try --preset demo"
    )


def training_resources(scaling: ScalingConfig) -> Resources:
    """What a training stage takes: its workers', or its own where it trains in its own process."""
    if not scaling.num_workers:
        return Resources(num_cpus=scaling.cpus_per_worker, num_gpus=scaling.gpus_per_worker)
    return Resources(
        workers=scaling.min_workers or scaling.num_workers,
        worker_cpus=scaling.cpus_per_worker,
        worker_gpus=scaling.gpus_per_worker,
        early_start=True,
    )


def _training_stage(
    name: str, stage: TrainingStage, config: PipelineConfig, inputs: Mapping[str, Stage]
) -> Stage:
    scaling: ScalingConfig = stage.train.scaling
    if config.run.ingest is not None:
        scaling = replace(scaling, ingest=config.run.ingest)
        stage = replace(stage, train=replace(stage.train, scaling=scaling))
    together = rows_together(stage.task)
    for modality, size in stage.train.batch_sizes.items():
        unit = together.get(modality, 1)
        if size % unit:
            raise UserError(
                f"{name}: train.batch_sizes {modality}={size} must be a multiple of "
                f"task.matching_group={unit}, among which false pairs are drawn"
            )
        if scaling.micro_batch_size % unit:
            raise UserError(
                f"{name}: train.scaling.micro_batch_size={scaling.micro_batch_size} must be a "
                f"multiple of task.matching_group={unit}, among which false pairs are drawn"
            )
        if scaling.num_workers > size // unit:
            groups = f" in groups of task.matching_group={unit}" if unit > 1 else ""
            raise UserError(
                f"{name}: train.batch_sizes {modality}={size}{groups} gives some of "
                f"train.scaling.num_workers={scaling.num_workers} workers nothing: a larger batch, "
                f"fewer workers{' or smaller groups' if groups else ''}"
            )
    for modality in stage.task.modalities:
        if modality not in stage.train.batch_sizes:
            raise UserError(
                f"{name}: task.modalities has {modality!r}, train.batch_sizes has no size for it"
            )
    recipe = StageRecipe(config.model, stage.task, stage.train, config.pair_text_length)
    if config.initial_weights and "previous" not in inputs:
        file = Path(config.initial_weights).expanduser().absolute()
        recipe = replace(
            recipe, initial_weights=weights_digest(file), initial_weights_file=str(file)
        )
    return Stage(
        name,
        run_training,
        recipe,
        inputs,
        version=2,
        resources=training_resources(scaling),
        code=("momo", "momo_platform.training", "pipelines.build"),
    )


def build_graph(config: PipelineConfig) -> dict[str, Stage]:
    """All stages by name. Raises UserError for sources that don't exist."""
    graph: dict[str, Stage] = {}
    longest = config.model.max_text_length
    for option in ("packed_text_length", "pair_text_length"):
        if not 2 < getattr(config, option) <= longest:
            raise UserError(
                f"--{option.replace('_', '-')} {getattr(config, option)}: give 3 to "
                f"model.max_text_length={longest}"
            )

    def add(stage: Stage) -> Stage:
        graph[stage.name] = stage
        return stage

    corpora = add(Stage("corpora", run_demo_corpora, config.demo, code=("pipelines.demo",)))
    runs = {
        "images": (config.images, run_prepare_images, run_mix_images),
        "text": (config.text, run_prepare_text, run_mix_text),
        "pairs": (config.pairs, run_prepare_pairs, run_mix_pairs),
    }
    prepared: dict[str, Stage] = {}
    kinds: tuple[Kind, ...] = ("images", "pairs", "text")
    weights: dict[str, dict[str, float]] = {}
    places: dict[str, dict[str, str]] = {}
    for kind in kinds:
        options, prepare, _ = runs[kind]
        sources, demo = _sources(kind, options, config)
        weights[kind] = {s.name: s.weight for s in sources}
        places[kind] = {s.name: s.uri for s in sources}
        prepared[kind] = add(
            Stage(
                f"prepare-{kind}",
                prepare,
                PrepareConfig(
                    sources,
                    config.picture,
                    max_bad_fraction=options.max_bad_fraction,
                    held_out=options.held_out,
                    near_duplicate_bits=config.near_duplicate_bits,
                ),
                {"corpora": corpora} if demo else {},
                version=3,
                resources=_DATA,
                code=("momo_platform.data",),
            )
        )
    tokenizer = add(
        Stage(
            "tokenizer",
            run_tokenizer,
            TokenizerConfig(config.model.vocab_size),
            {"text": prepared["text"], "pairs": prepared["pairs"]},
            version=2,
            code=("momo.tokenizer",),
        )
    )
    mixed: dict[str, Stage] = {}
    for kind in kinds:
        inputs = {"prepared": prepared[kind]}
        if kind == "text":
            inputs["tokenizer"] = tokenizer
        if kind == "images":
            inputs["pairs"] = prepared["pairs"]  # whose held-out pictures are left out
        mix = MixConfig(
            weights[kind],
            config.seed,
            sequence_length=config.packed_text_length,
            near_duplicate_bits=config.near_duplicate_bits,
        )
        code = ("momo_platform.data",)
        mixed[kind] = add(Stage(f"mix-{kind}", runs[kind][2], mix, inputs, version=2, code=code))

    sources = {"corpora": corpora, "images": prepared["images"], "pairs": prepared["pairs"]}
    chosen = choose(config.evaluation.tasks)
    baselines: dict[str, Stage] = {}
    if any(task.baseline for task in chosen):
        baselines["baselines"] = add(
            Stage(
                "baselines",
                run_baselines,
                BaselinesConfig.of(config.evaluation, config.model),
                sources,
                version=2,
                resources=_ONE_CORE,
                code=("momo.evaluation", "pipelines.tasks"),
            )
        )
    if not config.evaluation.stages:
        raise UserError(f"--evaluation.stages: name at least one of {', '.join(TRAINING_STAGES)}")
    if unknown := [n for n in config.evaluation.stages if n not in TRAINING_STAGES]:
        raise UserError(
            f"--evaluation.stages {' '.join(unknown)}: no such training stage; there are "
            f"{', '.join(TRAINING_STAGES)}"
        )
    given = dict(zip(TRAINING_STAGES, (config.stage1, config.stage2, config.stage3), strict=True))
    trained = {name: stage for name, stage in given.items() if stage.train.steps}
    if not trained.keys() & set(config.evaluation.stages):
        raise UserError(
            f"--evaluation.stages {' '.join(config.evaluation.stages)}: none of them is trained; "
            f"steps are above 0 for {', '.join(trained) or 'no stage'}"
        )
    previous: Stage | None = None
    suites: dict[str, Suite] = {}
    for name, stage in trained.items():
        inputs = {ROLES[m]: mixed[ROLES[m]] for m in stage.task.modalities}
        inputs["tokenizer"] = tokenizer
        if previous is not None:
            inputs["previous"] = previous
        previous = add(_training_stage(name, stage, config, inputs))
        if name in config.evaluation.stages:
            last = name == list(trained)[-1]
            tasks = [t for t in chosen if last or t.group != "diagnostic"]
            suites[name] = build_suite(previous, name, tasks, config.evaluation, sources)
            graph.update(_with_inputs(suites[name].stages))
    assert previous is not None
    mixes = list(mixed.values())
    export = add(Stage("export", run_export, ExportConfig(), {"model": previous}, version=2))
    add(
        Stage(
            "report",
            run_report,
            ReportConfig(
                config.preset,
                tuple(trained),
                {n: {task: node.name for task, node in s.nodes.items()} for n, s in suites.items()},
                {n: s.missing for n, s in suites.items()},
                places=places,
            ),
            {
                **{name: graph[name] for name in trained},
                **{s.name: s for n in trained for s in graph[n].inputs.values() if s in mixes},
                **{n: node for suite in suites.values() for n, node in suite.stages.items()},
                "export": export,
                **baselines,
                **{f"prepare-{kind}": prepared[kind] for kind in kinds},
            },
            code=("pipelines.report",),
        )
    )
    return graph


def _with_inputs(stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """With the features that they read."""
    features = (s.inputs["features"] for s in stages.values() if "features" in s.inputs)
    return {s.name: s for s in (*features, *stages.values())}
