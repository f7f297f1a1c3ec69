"""Corpora that presets bring with them, by the name that an option knows them by: `demo`, `icons`.

The driver imports this file: what lays the corpora out is imported when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from momo_platform.data.config import SourceConfig
from momo_platform.stages import Stage, UserError
from pipelines.demo.corpora import LICENCES as DEMO_LICENCES
from pipelines.demo.corpora import run_demo_corpora
from pipelines.icons.corpora import LICENCES as ICONS_LICENCES
from pipelines.icons.corpora import run_icon_corpora

PRESETS_OWN = "corpora"
"""As a role: the corpora that come with the preset, whichever they are, else the demo's."""
DEMO = "demo"


@dataclass(frozen=True)
class Bundle:
    """Corpora that come together. `name`: as a source (`--pair.source demo`), in the config and in
    roles (`demo-pair`). `title`: for people.

    `stage` is the name of the graph stage that lays them out as files, `run` its function, `code`
    what that runs. `sources`: modality → (source, file, weight); a modality without any has the
    rows of the one by which it is given (`ModalityData.given_by`). `licences`: source → its own.
    `tasks`: patterns of the evaluation tasks that `auto` stands for where training has these
    corpora; `alone`: of those the ones that mean nothing where other bundles are trained on too.
    `version`: as a stage's.
    """

    name: str
    title: str
    stage: str
    run: Callable[..., Any]
    code: tuple[str, ...]
    sources: Mapping[str, tuple[tuple[str, str, float], ...]]
    licences: Mapping[str, str]
    tasks: tuple[str, ...]
    alone: tuple[str, ...] = ()
    version: int = 1

    def corpora(self, configs: Mapping[str, Any]) -> Stage:
        """The stage that fetches them and the data of their tasks; `configs` by bundle."""
        return Stage(self.stage, self.run, configs[self.name], version=self.version, code=self.code)

    def sources_of(self, modality: str) -> tuple[SourceConfig, ...]:
        """Those of a modality, which lie in the input that has the stage's name."""
        return tuple(
            SourceConfig(
                name, f"input:{self.stage}/{path}", self.name, weight, self.licences.get(name, "")
            )
            for name, path, weight in self.sources.get(modality, ())
        )


_BUNDLES = (
    Bundle(
        name=DEMO,
        title="the demo's corpora",
        stage="corpora",
        run=run_demo_corpora,
        code=("pipelines.demo",),
        sources={
            "image": (("emoji", "images.jsonl", 1.0),),
            "pair": (("emoji", "pairs.jsonl", 1.0),),
            "text": (
                ("wikipedia", "text/wikipedia.txt", 1.0),
                ("documentation", "text/documentation.txt", 0.5),  # repetitive
                ("reviews", "text/reviews.txt", 2.0),
            ),
        },
        licences=DEMO_LICENCES,
        tasks=("demo/*",),
    ),
    Bundle(
        name="icons",
        title="the icons' corpora",
        stage="corpora-icons",
        run=run_icon_corpora,
        code=("pipelines.icons", "pipelines.demo"),
        sources={
            "pair": (("icons", "pairs", 1.0),),
            "text": (
                ("wordnet", "text/wordnet.txt", 1.0),
                ("wikipedia", "text/wikipedia.txt", 1.0),
                ("reviews", "text/reviews.txt", 1.0),
            ),
        },
        licences=ICONS_LICENCES,
        tasks=("icons/*", "demo/mnist", "demo/easy_vqa", "demo/movie_sentiment"),
        alone=("icons/unseen_*",),  # the demo's pictures are emoji
        version=2,
    ),
)
BUNDLES: Mapping[str, Bundle] = {bundle.name: bundle for bundle in _BUNDLES}


def check_bundle(name: str) -> None:
    """Raise UserError for a name that is neither empty nor a bundle's."""
    if name and name not in BUNDLES:
        raise UserError(f"--bundle {name!r}: give {' or '.join(BUNDLES)}, or nothing for none")


def bundle_at(stage: str, default: str = "") -> Bundle | None:
    """The bundle whose files a role or a place names: that of a stage, and of `default`'s (else
    the demo's) for PRESETS_OWN."""
    if stage == PRESETS_OWN:
        return BUNDLES[default or DEMO]
    return next((b for b in BUNDLES.values() if b.stage == stage), None)


def roles_of(sources: tuple[SourceConfig, ...], configs: Mapping[str, Any]) -> dict[str, Stage]:
    """The stages that the sources lie in, by their roles; none for a person's own."""
    stages = {b.stage: b for b in BUNDLES.values()}
    named = {
        s.uri.removeprefix("input:").partition("/")[0]
        for s in sources
        if s.uri.startswith("input:")
    }
    return {role: stages[role].corpora(configs) for role in stages if role in named}
