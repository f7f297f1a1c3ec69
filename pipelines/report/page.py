"""The page: a Jinja template filled with plain values. Imports no torch."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from momo_platform.console import duration
from momo_platform.pages import template
from momo_platform.stages import Artifact
from pipelines.evaluation.effects import Effect, told
from pipelines.evaluation.scores import Summary
from pipelines.evaluation.tasks import GROUPS
from pipelines.report.cells import CELLS
from pipelines.report.corpora import CorpusCard
from pipelines.report.trainings import Training
from pipelines.report.words import OBJECTIVE_TITLES, corpus_in_words

if TYPE_CHECKING:
    from pipelines.report.pictures import Nearest, Reconstruction


@dataclass(frozen=True)
class Page:
    """Everything that the page shows. `stages`: training stage → the summary of its evaluation, the
    last one is the finished model's; `graph`: a row an artifact; `from_pairs`: modalities that had
    no source of their own and were trained on the pictures or captions of the pairs; `before`: the
    summary of the model before any training; `effects`: what each stage did to each group."""

    preset: str
    command: str
    commit: str
    packages: Mapping[str, str]
    stages: Mapping[str, Summary]
    trainings: Sequence[Training]
    corpora: Sequence[CorpusCard]
    graph: Sequence[Mapping[str, Any]]
    markdown: str
    reconstructions: Sequence[Reconstruction] = ()
    nearest: Sequence[Nearest] = ()
    from_pairs: Sequence[str] = ()
    before: Summary | None = None
    effects: Sequence[Effect] = ()

    def render(self) -> str:
        """HTML without outside resources."""
        return template(Path(__file__).parent, "page.html.jinja").render(
            **vars(self),
            created=now(),
            final=list(self.stages.values())[-1],
            changes={(e.stage, e.group): e for e in self.effects},
            effects_told=told(self.effects, OBJECTIVE_TITLES),
            groups=GROUPS,
            cells=CELLS,
            duration=duration,
            corpus_in_words=corpus_in_words,
        )


def now() -> str:
    """'2026-11-30 09:15 UTC'."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def graph_rows(inputs: Mapping[str, Artifact]) -> list[dict[str, Any]]:
    """What the page says of each artifact."""
    return [
        {
            "name": artifact.name,
            "fingerprint": artifact.fingerprint,
            "seconds": artifact.manifest.seconds,
            "megabytes": sum(f["size"] for f in artifact.manifest.files.values()) / 2**20,
            "inputs": ", ".join(i["name"] for i in artifact.manifest.inputs.values()) or "–",
        }
        for artifact in inputs.values()
    ]
