"""What a modality's rows are made from: the places that a person named, or bundled corpora."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from momo_platform.data.config import SourceConfig
from momo_platform.stages import UserError
from pipelines.bundled import BUNDLES
from pipelines.config import SourceOptions
from pipelines.modalities import ModalityData


def is_own(options: SourceOptions) -> bool:
    """Whether the user gave a source."""
    return options.source not in ("", *BUNDLES)


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
    own = [place for place, _ in places if place not in BUNDLES]
    bundled = _bundled(modality.name, [place for place, _ in places if place in BUNDLES])
    if not own and len(bundled) == 1:
        (name,) = bundled
        raise UserError(f"{option} {name}: {BUNDLES[name].title} alone have weights of their own")
    for name, sources in bundled.items():
        if not sources:
            raise UserError(
                f"{option} {name}: {BUNDLES[name].title} have no {modality.words} of their own"
            )
    taken = [source.name for sources in bundled.values() for source in sources]
    names = iter(names_of(own, taken))
    found = []
    for place, weight in places:
        if place in BUNDLES:
            found += [replace(source, weight=source.weight * weight) for source in bundled[place]]
        else:
            found.append(SourceConfig(next(names), place, "", weight, options.licence))
    return found


def _bundled(modality: str, named: list[str]) -> dict[str, tuple[SourceConfig, ...]]:
    """Sources by bundle; what several bundles call the same has its bundle's name before it."""
    found = {name: BUNDLES[name].sources_of(modality) for name in named}
    times = Counter(source.name for sources in found.values() for source in sources)
    return {
        bundle: tuple(
            replace(source, name=f"{bundle}-{source.name}") if times[source.name] > 1 else source
            for source in sources
        )
        for bundle, sources in found.items()
    }
