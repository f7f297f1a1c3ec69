"""What a modality's rows are made from: the places that a person named, or the demo's corpora."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from momo_platform.data.config import SourceConfig
from momo_platform.stages import Stage, UserError
from pipelines.config import SourceOptions
from pipelines.demo.corpora import LICENCES, DemoCorpora, run_demo_corpora
from pipelines.modalities import ModalityData

DEMO = "demo"
"""As a source: the demo's corpora, beside one's own."""


def demo_corpora(config: DemoCorpora) -> Stage:
    """Fetches the demo's corpora and the data of its tasks."""
    return Stage("corpora", run_demo_corpora, config, code=("pipelines.demo",))


def is_own(options: SourceOptions) -> bool:
    """Whether the user gave a source."""
    return options.source not in ("", DEMO)


def demo_sources(modality: ModalityData) -> tuple[SourceConfig, ...]:
    """Those of the demo, which lie in the input `corpora`."""
    return tuple(
        SourceConfig(name, f"input:corpora/{path}", "demo", weight, LICENCES.get(name, ""))
        for name, path, weight in modality.demo
    )


def own_sources(modality: ModalityData, options: SourceOptions) -> tuple[SourceConfig, ...]:
    """The sources that are named, in their order. Their weights are left out: they change how rows
    are mixed and not how they are prepared. Raises UserError for one that does not exist."""
    from momo_platform.data.sources import identify

    found = []
    for source in _named(modality, options):
        if not source.content:
            content = identify(source.uri, modality.kind.option, modality.kind)
            # A cluster's workers run in other folders than the driver.
            local = "" if "://" in source.uri else str(Path(source.uri).expanduser().absolute())
            source = replace(source, uri=local or source.uri, content=content)
        found.append(replace(source, weight=1.0))
    return tuple(found)


def own_weights(modality: ModalityData, options: SourceOptions) -> Mapping[str, float]:
    """By name, how often rows of these sources come in an epoch."""
    return {source.name: source.weight for source in _named(modality, options)}


def _named(modality: ModalityData, options: SourceOptions) -> list[SourceConfig]:
    """Each source as it was written, with its weight. Raises UserError."""
    from momo_platform.data.patterns import listed, names_of

    option, words = modality.kind.option, options.source
    places = [*listed([words] if isinstance(words, str) else words, options.weight)]
    for place, times in Counter(place for place, _ in places).items():
        if times > 1:
            raise UserError(f"{option}: {place} is named twice; name it once, with a weight")
    own = [place for place, _ in places if place != DEMO]
    if not own:
        raise UserError(f"{option} {DEMO}: the demo's corpora alone have weights of their own")
    demo = demo_sources(modality) if len(own) < len(places) else ()
    if len(own) < len(places) and not demo:
        raise UserError(f"{option} {DEMO}: the demo has no {modality.words}")
    names = iter(names_of(own, [source.name for source in demo]))
    found = []
    for place, weight in places:
        if place == DEMO:
            found += [replace(source, weight=source.weight * weight) for source in demo]
        else:
            found.append(SourceConfig(next(names), place, "", weight, options.licence))
    return found
