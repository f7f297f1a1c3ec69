"""The first phase: sources → prepared rows, the tokenizer and mixtures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from momo_platform.data.config import MixConfig, PrepareConfig, SourceConfig
from momo_platform.stages import Resources, Stage, UserError
from pipelines.bundled import BUNDLES, roles_of
from pipelines.config import PipelineConfig, SourceOptions, Sources
from pipelines.graph.quality import kept_rows
from pipelines.graph.sources import is_own, own_sources, own_weights
from pipelines.modalities import MODALITIES, ModalityData
from pipelines.tokenizer import GivenTokenizer, TokenizerConfig, run_given_tokenizer, run_tokenizer

_DATA = Resources(data_cpus=1.0)
_CODE = ("momo_platform.data",)
_BUNDLED_VALID = 0.02  # of the documents; bundled pictures and pairs name their splits


@dataclass(frozen=True)
class Corpora:
    """By corpus: `prepared` rows, those of them that are `kept` and how they are `mixed`, of the
    corpora that have a source; `own` are those of the user, `needed` those that are trained on."""

    prepared: Mapping[str, Stage]
    kept: Mapping[str, Stage]
    mixed: Mapping[str, Stage]
    tokenizer: Stage
    own: frozenset[str]
    needed: tuple[str, ...]

    @property
    def stages(self) -> list[Stage]:
        """All of them; with a source of the user's own, bundled ones only where they are needed."""
        prepared = [
            stage
            for corpus, stage in self.prepared.items()
            if not self.own or corpus in self.own or corpus in self.needed
        ]
        return [*prepared, self.tokenizer, *self.mixed.values()]


def needed_corpora(config: PipelineConfig) -> dict[str, list[str]]:
    """Modality → the training stages with steps that need it, in the order of MODALITIES."""
    trained = config.trained.items()
    needed = {m: [name for name, s in trained if m in s.task.modalities] for m in MODALITIES}
    return {modality: stages for modality, stages in needed.items() if stages}


def prepared_rows(
    sources: Sources, needed: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> tuple[dict[str, Stage], frozenset[str]]:
    """The stage that prepares each corpus which has a source, and the corpora whose source is the
    user's own. Raises UserError for a source that doesn't exist and for a missing one that training
    stages need (`needed_corpora`)."""
    prepared: dict[str, Stage] = {}
    own: set[str] = set()
    for corpus, modality in MODALITIES.items():
        found, given = _sources_of(modality, sources, needed.get(corpus, ()))
        if given:
            own.add(corpus)
            options = sources.of(corpus)
            rows = PrepareConfig(
                found,
                sources.picture.stored(sources.image_size),
                max_bad_fraction=options.max_bad_fraction,
                held_out=options.held_out,
                near_duplicate_bits=sources.near_duplicate_bits,
            )
            inputs = roles_of(found, sources.bundles)
            prepared[corpus] = _preparation(f"prepare-{corpus}", modality, rows, inputs)
        elif found:
            prepared[corpus] = bundled_rows(corpus, sources, sources.bundle_of(corpus))
    return prepared, frozenset(own)


def own_rows(prepared: Mapping[str, Stage], own: Collection[str]) -> dict[str, Stage]:
    """The corpora that are the user's own; pictures and text without a source are those of the own
    pairs."""
    found = {corpus: prepared[corpus] for corpus in MODALITIES if corpus in own}
    for corpus, modality in MODALITIES.items():
        if corpus not in prepared and modality.given_by in own:
            found[corpus] = prepared[modality.given_by]
    return found


def bundled_rows(corpus: str, sources: Sources, bundle: str, name: str = "") -> Stage:
    """The stage that prepares a bundle's rows of a corpus."""
    modality = MODALITIES[corpus]
    rows = PrepareConfig(
        BUNDLES[bundle].sources_of(corpus),
        sources.picture.stored(sources.image_size),
        valid=_BUNDLED_VALID,
        near_duplicate_bits=sources.near_duplicate_bits,
    )
    inputs = roles_of(rows.sources, sources.bundles)
    return _preparation(name or f"prepare-{corpus}", modality, rows, inputs)


def _preparation(
    name: str, modality: ModalityData, rows: PrepareConfig, inputs: Mapping[str, Stage]
) -> Stage:
    return _of_data(name, modality.prepare, rows, inputs, version=6)


def _of_data(
    name: str, run: Callable[..., Any], config: Any, inputs: Mapping[str, Stage], version: int
) -> Stage:
    """A stage whose Ray tasks write: what an interrupted attempt has made is not made again."""
    return Stage(name, run, config, inputs, version, _DATA, _CODE, continues=True)


def prepare(config: PipelineConfig, initial: Stage | None = None) -> Corpora:
    """All stages of this phase. A model that training starts from, `initial`, whose artifact has a
    tokenizer, gives it; else it is learnt from the text and the captions.

    Raises UserError for a source that doesn't exist and for one that is missing.
    """
    needed = needed_corpora(config)
    prepared, own = prepared_rows(config.sources, needed)
    seen = {*needed, *own}  # what this job is about: the rest need not be fetched for it
    words = [name for name, m in MODALITIES.items() if m.texts]
    if not own and not seen.intersection(words):
        seen |= {*words}  # bundled pictures only: later stages want their words
    kept = kept_rows(config, prepared, own, [_named_by(MODALITIES[c], prepared) for c in needed])
    learnt_from = {c: kept[c] for c in words if c in seen & kept.keys()}
    tokenizer = _tokenizer(config, learnt_from, initial)
    mixed: dict[str, Stage] = {}
    for corpus in needed:
        modality = MODALITIES[corpus]
        # Without a source of their own, pictures and text are those of one's own pairs.
        inputs = {"prepared": kept[_named_by(modality, prepared)]}
        if modality.tokenized:
            inputs["tokenizer"] = tokenizer
        if modality.leaves_out:
            others = modality.leaves_out
            if {corpus, others} <= own or (
                not modality.of_own and others in seen and corpus in prepared
            ):
                inputs[others] = prepared[others]  # whose held-out rows are left out
        mix = MixConfig(
            _weights(modality, prepared, config.sources),
            config.seed,
            sequence_length=config.packed_text_length,
            near_duplicate_bits=config.near_duplicate_bits,
            own=_own_option(modality, prepared, own),
        )
        mixed[corpus] = _of_data(f"mix-{corpus}", modality.mix, mix, inputs, version=3)
    return Corpora(prepared, kept, mixed, tokenizer, own, tuple(needed))


def _named_by(modality: ModalityData, prepared: Mapping[str, Stage]) -> str:
    """The corpus that has the modality's rows."""
    return modality.name if modality.name in prepared else modality.given_by


def _weights(
    modality: ModalityData, prepared: Mapping[str, Stage], sources: Sources
) -> Mapping[str, float]:
    """How often rows of each source come in an epoch."""
    named = _named_by(modality, prepared)
    if is_own(sources.of(named)):
        return own_weights(MODALITIES[named], sources.of(named))
    return {source.name: source.weight for source in prepared[named].config.sources}


def _own_option(modality: ModalityData, prepared: Mapping[str, Stage], own: Collection[str]) -> str:
    """The option that named the modality's rows, where they are the user's own."""
    named = _named_by(modality, prepared)
    return MODALITIES[named].kind.option if named in own else ""


def _tokenizer(
    config: PipelineConfig, learnt_from: Mapping[str, Stage], initial: Stage | None
) -> Stage:
    if initial is not None and initial.config.has_words:
        given = GivenTokenizer(config.model.vocab_size)
        return Stage("tokenizer", run_given_tokenizer, given, {"model": initial})
    learnt = TokenizerConfig(config.model.vocab_size)
    code = ("momo.tokenizer",)
    return Stage("tokenizer", run_tokenizer, learnt, {**learnt_from}, version=2, code=code)


def _sources_of(
    modality: ModalityData, sources: Sources, needed_by: Sequence[str]
) -> tuple[tuple[SourceConfig, ...], bool]:
    """The modality's sources, and whether they are the user's own; none where none is given and no
    training stage needs it, or the user's own pairs have it.

    Raises UserError for a source that does not exist or is missing.
    """
    corpus, giver = modality.name, modality.given_by
    options = sources.of(corpus)
    if not options.source and giver and is_own(sources.of(giver)):
        return (), False
    if is_own(options):
        return own_sources(modality, options), True
    bundle = sources.bundle_of(corpus)
    if bundle and (found := BUNDLES[bundle].sources_of(corpus)):
        for option in ("weight", "licence", "held_out"):
            if getattr(options, option) != getattr(SourceOptions(), option):
                raise UserError(
                    f"--{corpus}.{option.replace('_', '-')} holds for your own source only: give "
                    f"--{corpus}.source too, or leave it out"
                )
        return found, False
    if bundle and giver and BUNDLES[bundle].sources_of(giver) and not options.source:
        return (), False  # they are those of the bundle's pairs
    if not needed_by:
        return (), False
    if sources.for_plan:
        return (SourceConfig("own", "", "not given yet"),), True
    raise UserError(
        f"preset {sources.preset} brings no corpora, and {', '.join(needed_by)} needs "
        f"{modality.words}: give --{corpus}.source ({modality.kind.hint.removeprefix('give ')}), "
        "leave the stage out with --stages, or try --preset demo"
    )
