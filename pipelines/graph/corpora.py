"""The first phase: sources → prepared rows, the tokenizer and shards."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_args

from momo_platform.data.config import Kind, MixConfig, PrepareConfig, SourceConfig
from momo_platform.data.stages import (
    run_mix_images,
    run_mix_pairs,
    run_mix_text,
    run_prepare_images,
    run_prepare_pairs,
    run_prepare_text,
)
from momo_platform.stages import Resources, Stage, UserError
from pipelines.config import PipelineConfig, SourceOptions
from pipelines.demo.corpora import LICENCES, run_demo_corpora
from pipelines.tokenizer import GivenTokenizer, TokenizerConfig, run_given_tokenizer, run_tokenizer
from pipelines.training import ROLES

KINDS: tuple[Kind, ...] = ("images", "text", "pairs")
DEMO = "demo"
"""As a source: the demo's corpora, beside one's own."""
assert set(KINDS) == set(get_args(Kind))
_DATA = Resources(data_cpus=1.0)
_CODE = ("momo_platform.data",)
_PREPARE = {"images": run_prepare_images, "text": run_prepare_text, "pairs": run_prepare_pairs}
_MIX = {"images": run_mix_images, "text": run_mix_text, "pairs": run_mix_pairs}
_DEMO_SOURCES: Mapping[Kind, tuple[tuple[str, str, float], ...]] = {
    "images": (("emoji", "images.jsonl", 1.0),),
    "pairs": (("emoji", "pairs.jsonl", 1.0),),
    "text": (
        ("wikipedia", "text/wikipedia.txt", 1.0),
        ("documentation", "text/documentation.txt", 0.5),  # repetitive
        ("reviews", "text/reviews.txt", 2.0),
    ),
}

_DEMO_VALID = 0.02  # of the documents; its pictures and pairs name their splits


@dataclass(frozen=True)
class Corpora:
    """By kind: `prepared` rows and `mixed` shards, of the kinds that have a source; `own` are those
    of the user, `needed` those that are trained on."""

    prepared: Mapping[Kind, Stage]
    mixed: Mapping[Kind, Stage]
    tokenizer: Stage
    own: frozenset[Kind]
    needed: tuple[Kind, ...]

    @property
    def stages(self) -> list[Stage]:
        """All of them; with a source of the user's own, the demo's only where they are needed."""
        prepared = [
            stage
            for kind, stage in self.prepared.items()
            if not self.own or kind in self.own or kind in self.needed
        ]
        return [*prepared, self.tokenizer, *self.mixed.values()]


def demo_corpora(config: PipelineConfig) -> Stage:
    """Fetches the demo's corpora and the data of its tasks."""
    return Stage("corpora", run_demo_corpora, config.demo, code=("pipelines.demo",))


def needed_kinds(config: PipelineConfig) -> list[Kind]:
    """Of the training stages that have steps, in the order of `KINDS`."""
    used = {ROLES[m] for stage in config.trained.values() for m in stage.task.modalities}
    return [kind for kind in KINDS if kind in used]


def prepared_rows(
    config: PipelineConfig, needed: Collection[Kind] = ()
) -> tuple[dict[Kind, Stage], frozenset[Kind]]:
    """The stage that prepares each kind which has a source, and the kinds whose source is the
    user's own. Raises UserError for a source that doesn't exist and for a needed one that is
    missing."""
    prepared: dict[Kind, Stage] = {}
    own: set[Kind] = set()
    for kind in KINDS:
        sources, given = sources_of(kind, config, needed)
        if given:
            own.add(kind)
            options: SourceOptions = getattr(config, kind)
            rows = PrepareConfig(
                sources,
                config.picture.stored(config.model.image_size),
                max_bad_fraction=options.max_bad_fraction,
                held_out=options.held_out,
                near_duplicate_bits=config.near_duplicate_bits,
            )
            prepared[kind] = _preparation(f"prepare-{kind}", kind, rows, {})
        elif sources:
            prepared[kind] = demo_rows(kind, config)
    return prepared, frozenset(own)


def own_rows(prepared: Mapping[Kind, Stage], own: Collection[Kind]) -> dict[Kind, Stage]:
    """The kinds that are the user's own; pictures and text without a source are those of the own
    pairs."""
    found: dict[Kind, Stage] = {kind: prepared[kind] for kind in KINDS if kind in own}
    if "pairs" in own:
        for kind in KINDS:
            if kind not in prepared:
                found[kind] = prepared["pairs"]
    return found


def demo_rows(kind: Kind, config: PipelineConfig, name: str = "") -> Stage:
    """The stage that prepares the demo's rows of a kind."""
    rows = PrepareConfig(
        _demo_sources(kind),
        config.picture.stored(config.model.image_size),
        valid=_DEMO_VALID,
        near_duplicate_bits=config.near_duplicate_bits,
    )
    return _preparation(name or f"prepare-{kind}", kind, rows, {"corpora": demo_corpora(config)})


def _preparation(name: str, kind: Kind, rows: PrepareConfig, inputs: Mapping[str, Stage]) -> Stage:
    return Stage(name, _PREPARE[kind], rows, inputs, version=4, resources=_DATA, code=_CODE)


def prepare(config: PipelineConfig, initial: Stage | None = None) -> Corpora:
    """All stages of this phase. A model that training starts from, `initial`, whose artifact has a
    tokenizer, gives it; else it is learnt from the text and the captions.

    Raises UserError for a source that doesn't exist and for one that is missing.
    """
    needed = needed_kinds(config)
    prepared, own = prepared_rows(config, needed)
    seen = {*needed, *own}  # what this job is about: the rest need not be fetched for it
    if not own and not seen & {"text", "pairs"}:
        seen |= {"text", "pairs"}  # pictures of the demo only: later stages want its words
    words: tuple[Kind, ...] = ("text", "pairs")
    learnt_from: dict[Kind, Stage] = {k: prepared[k] for k in words if k in seen & prepared.keys()}
    tokenizer = _tokenizer(config, learnt_from, initial)
    mixed: dict[Kind, Stage] = {}
    for kind in needed:
        # Without a source of their own, pictures and text are those of one's own pairs.
        rows = prepared.get(kind) or prepared["pairs"]
        inputs = {"prepared": rows}
        if kind == "text":
            inputs["tokenizer"] = tokenizer
        if kind == "images" and "pairs" in seen and kind in prepared:
            inputs["pairs"] = prepared["pairs"]  # whose held-out pictures are left out
        if kind == "text" and {"text", "pairs"} <= own:
            inputs["pairs"] = prepared["pairs"]  # whose held-out captions are left out
        if kind == "pairs" and {"images", "pairs"} <= own:
            inputs["images"] = prepared["images"]  # the demo's divide one set of pictures
        mix = MixConfig(
            {s.name: s.weight for s in rows.config.sources},
            config.seed,
            sequence_length=config.packed_text_length,
            near_duplicate_bits=config.near_duplicate_bits,
            own=_own_option(kind, prepared, own),
        )
        mixed[kind] = Stage(f"mix-{kind}", _MIX[kind], mix, inputs, version=2, code=_CODE)
    return Corpora(prepared, mixed, tokenizer, own, tuple(needed))


def _own_option(kind: Kind, prepared: Mapping[Kind, Stage], own: Collection[Kind]) -> str:
    """The option that named the rows of `kind`, where they are the user's own."""
    named = kind if kind in prepared else "pairs"
    return f"--{named}.source" if named in own else ""


def _tokenizer(
    config: PipelineConfig, learnt_from: Mapping[Kind, Stage], initial: Stage | None
) -> Stage:
    if initial is not None and initial.config.has_words:
        given = GivenTokenizer(config.model.vocab_size)
        return Stage("tokenizer", run_given_tokenizer, given, {"model": initial})
    learnt = TokenizerConfig(config.model.vocab_size)
    code = ("momo.tokenizer",)
    return Stage("tokenizer", run_tokenizer, learnt, {**learnt_from}, version=2, code=code)


def is_own(options: SourceOptions) -> bool:
    """Whether the user gave a source."""
    return options.source not in ("", DEMO)


def _demo_sources(kind: Kind) -> tuple[SourceConfig, ...]:
    return tuple(
        SourceConfig(name, f"input:corpora/{path}", "demo", weight, LICENCES.get(name, ""))
        for name, path, weight in _DEMO_SOURCES[kind]
    )


def sources_of(
    kind: Kind, config: PipelineConfig, needed: Collection[Kind] = KINDS
) -> tuple[tuple[SourceConfig, ...], bool]:
    """The kind's sources, and whether they are the user's own; none where none is given and it is
    not among the `needed` ones, or the user's own pairs have it.

    Raises UserError for a source that does not exist or is missing.
    """
    options: SourceOptions = getattr(config, kind)
    if not options.source and kind != "pairs" and is_own(config.pairs):
        return (), False
    if is_own(options):
        from momo_platform.data.sources import identify

        content = identify(options.source, f"--{kind}.source", kind)
        # A cluster's workers run in other folders than the driver.
        uri = options.source
        if "://" not in uri:
            uri = str(Path(uri).expanduser().absolute())
        source = SourceConfig("own", uri, content, options.weight, options.licence)
        return (source,), True
    if config.has_corpora or options.source == DEMO:
        defaults = {f.name: f.default for f in fields(PipelineConfig)}[kind]
        for option in ("weight", "licence", "held_out"):
            if getattr(options, option) != getattr(defaults, option):
                raise UserError(
                    f"--{kind}.{option.replace('_', '-')} holds for your own source only: give "
                    f"--{kind}.source too, or leave it out"
                )
        return _demo_sources(kind), False
    if kind not in needed:
        return (), False
    if config.run.plan:
        return (SourceConfig("own", "", "not given yet"),), True
    stages = [n for n, s in config.trained.items() if kind in {ROLES[m] for m in s.task.modalities}]
    raise UserError(
        f"preset {config.preset} brings no corpora, and {', '.join(stages)} needs {kind}: give "
        f"--{kind}.source (a folder, Parquet, JSONL or CSV; local or a URI), leave the stage out "
        "with --stages, or try --preset demo"
    )
