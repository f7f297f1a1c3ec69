"""Prepared rows → those that are worth training on, where `--quality` asks for that."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from momo.precision import FloatPrecision
from momo_platform.data.quality.config import QualityConfig
from momo_platform.stages import Resources, Stage, UserError
from pipelines.bundled import bundle_at
from pipelines.config import PipelineConfig, QualityOptions
from pipelines.evaluation.datasets import DATA_SETS, DataSet, DataSetPlace, locate
from pipelines.evaluation.mteb_tasks import mteb_tasks
from pipelines.evaluation.tasks import choose
from pipelines.given_model import given_model
from pipelines.modalities import MODALITIES, ModalityData
from pipelines.quality import KeepConfig, LooksConfig, run_quality, run_tested_pictures

_DATA = Resources(data_cpus=1.0)
_CODE = ("momo_platform.data.quality", "pipelines.quality")
_TEXTS = "texts"


def kept_rows(
    config: PipelineConfig,
    prepared: Mapping[str, Stage],
    own: Collection[str],
    needed: Collection[str],
) -> dict[str, Stage]:
    """The stage whose rows are trained on, by corpus: that of its preparation, or one behind it.

    Raises UserError for options that concern no corpus which is `needed`, and for a model or a data
    set that is not there."""
    options, kept = config.quality, dict(prepared)
    trained_on = [MODALITIES[corpus] for corpus in needed]
    _check_used(options, trained_on, config.near_duplicate_bits)
    _check_packages(options)
    scorer = given_model(f"scorer={options.score_model}")[1] if options.score_model else None
    tested = _tested_pictures(config, own, needed) if options.decontaminate else None
    for corpus, rows in prepared.items():
        modality = MODALITIES[corpus]
        inputs = {"prepared": rows}
        if tested is not None and modality.pictured:
            inputs["tested"] = tested
        if scorer is not None and _is_pair(modality):
            inputs["scorer"] = scorer
        selection = _selection(modality, options, config.near_duplicate_bits, len(inputs) > 1)
        if selection is not None:
            kept[corpus] = Stage(
                f"quality-{corpus}",
                run_quality,
                KeepConfig(selection, *_scoring(options, "scorer" in inputs)),
                inputs,
                resources=_resources(options, "scorer" in inputs),
                code=_CODE,
                continues=True,
            )
    return kept


def _resources(options: QualityOptions, scored: bool) -> Resources:
    """A GPU that is asked for is waited for."""
    if scored and options.gpus:
        return Resources(workers=1, worker_cpus=1.0, worker_gpus=options.gpus)
    return _DATA


def _scoring(options: QualityOptions, scored: bool) -> tuple[FloatPrecision, float | None]:
    return (options.precision, options.gpus) if scored else ("fp32", None)


def _is_pair(modality: ModalityData) -> bool:
    return modality.pictured and bool(modality.texts)


def _selection(
    modality: ModalityData, options: QualityOptions, bits: int, by_inputs: bool
) -> QualityConfig | None:
    """What is asked for of a corpus; None: nothing."""
    languages = options.languages if modality.texts else ()
    near = options.near_duplicates if modality.texts and not modality.captioned else 0.0
    if not (languages or near or by_inputs):
        return None
    keep = options.keep if options.score_model and _is_pair(modality) else 1.0
    return QualityConfig(modality.texts, languages, near, keep, max(0, bits))


def _check_used(options: QualityOptions, needed: Collection[ModalityData], bits: int) -> None:
    """Raise UserError for options that would change nothing."""
    for name in ("keep", "precision", "gpus"):
        if not options.score_model and getattr(options, name) != getattr(QualityOptions(), name):
            raise UserError(f"--quality.{name}: it is of --quality.score-model: give that too")
    if options.decontaminate and bits < 0:
        raise UserError(
            f"--quality.decontaminate finds pictures by --near-duplicate-bits, which is {bits}: "
            "give 0 or more"
        )
    concerned = {
        "score-model": (options.score_model, any(map(_is_pair, needed)), "captioned pictures"),
        "languages": (options.languages, any(m.texts for m in needed), "text and no captions"),
        "near-duplicates": (options.near_duplicates, any(m.tokenized for m in needed), "text"),
        "decontaminate": (options.decontaminate, any(m.pictured for m in needed), "pictures"),
    }
    for name, (asked, used, what) in concerned.items():
        if asked and not used:
            raise UserError(f"--quality.{name}: this job trains on no {what}; leave it out")


def _check_packages(options: QualityOptions) -> None:
    """Raise UserError, before anything runs, where one is not there."""
    if options.languages:
        from momo_platform.data.quality.filters import check_languages

        check_languages(options.languages)
    if options.near_duplicates:
        from momo_platform.data.quality.near_texts import bands_of

        bands_of(options.near_duplicates)


def _tested_pictures(
    config: PipelineConfig, own: Collection[str], needed: Collection[str]
) -> Stage:
    """Of the data sets that are in the folder of --evaluation.data, of those of the demo's tasks
    that are run, and of those that --evaluation.tasks names by their places."""
    named = config.evaluation.tasks
    given = ()
    if any("=" in entry for entry in named):
        from pipelines.evaluation.given import given_tasks  # looks into files, with Arrow

        given = given_tasks(named)
    bundled = {corpus: config.sources.bundle_of(corpus) for corpus in needed if corpus not in own}
    tasks = choose(named, own, bundled, (*given, *mteb_tasks(named)))
    used = {task.data for task in tasks}
    inputs: dict[str, Stage] = {}
    places: list[DataSetPlace] = []
    for data in (*DATA_SETS.values(), *(task.data_set for task in given)):
        found = _place(data, config.evaluation.data, used)
        if found is None:
            continue
        places.append(found)
        for role in data.inputs:
            if (bundle := bundle_at(role, config.bundle)) is not None:
                inputs[role] = bundle.corpora(config.sources.bundles)
    if not places:
        raise UserError(
            "--quality.decontaminate: no data set is there to be compared with: give "
            "--evaluation.data, the folder with the public ones, or tasks of your own "
            "(--evaluation.tasks NAME=FOLDER_OR_TABLE)"
        )
    return Stage(
        "tested-pictures",
        run_tested_pictures,
        LooksConfig(tuple(places)),
        inputs,
        resources=_DATA,
        code=("pipelines.evaluation.loaders", "pipelines.quality"),
    )


def _place(data: DataSet, folder: str, used: Collection[str]) -> DataSetPlace | None:
    """Of a data set with pictures that is there. What comes of the prepared rows themselves is held
    out by their preparation."""
    file, _, function = data.loader.partition(":")[0].partition(".")
    if _TEXTS in (file, function) or data.kind == "text":
        return None
    if data.inputs and (data.name not in used or not all(map(bundle_at, data.inputs))):
        return None
    found = locate(data, folder)
    return None if isinstance(found, str) else found
