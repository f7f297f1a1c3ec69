"""What the page shows of each training stage: its curves, and how often it saw which rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from momo_platform.charts import Points, line_chart
from momo_platform.training.config import ONE_AT_A_TIME
from pipelines.epochs import epochs_by_source
from pipelines.report.words import loss_in_words, metric_in_words

CURVES = ("loss/*", "valid/*", "gradient_cosine/*")
"""The records that are drawn."""
TRAINING, HELD_OUT = "training", "held-out"


@dataclass(frozen=True)
class Chart:
    """A title, an SVG, and whether it has a line of training and one of held-out rows."""

    title: str
    svg: str
    training: bool
    held_out: bool


@dataclass(frozen=True)
class Seen:
    """How often a stage saw each row of a source; `share` is the source's of the samples."""

    modality: str
    source: str
    rows: int
    share: float
    epochs: float


@dataclass(frozen=True)
class Training:
    """One training stage's result, its curves by record name and what it saw."""

    name: str
    metrics: Mapping[str, Any]
    curves: Mapping[str, Points]
    seen: tuple[Seen, ...] = ()

    @property
    def loss_charts(self) -> list[Chart]:
        """One an objective, held-out rows beside training's."""
        names = [k.removeprefix("loss/") for k in self.curves if k.startswith("loss/")]
        names += [k.removeprefix("valid/loss/") for k in self.curves if k.startswith("valid/loss/")]
        return [self._chart(name) for name in dict.fromkeys(names)]

    def _chart(self, name: str) -> Chart:
        found = {TRAINING: self.curves.get(f"loss/{name}")}
        found[HELD_OUT] = self.curves.get(f"valid/loss/{name}")
        series = {k: points for k, points in found.items() if points}
        title = loss_in_words(name)
        return Chart(title, _svg(series, f"loss, {title}"), TRAINING in series, HELD_OUT in series)

    @property
    def held_out_charts(self) -> list[Chart]:
        """What else was measured on held-out rows while it trained."""
        found = {
            k: v
            for k, v in self.curves.items()
            if k.startswith("valid/") and not k.startswith("valid/loss/")
        }
        titles = {k: metric_in_words(k.removeprefix("valid/")) for k in found}
        return [
            Chart(titles[k], _svg({HELD_OUT: points}, titles[k]), False, True)
            for k, points in found.items()
        ]

    @property
    def cosines(self) -> list[Chart]:
        """The cosine between two modalities' gradients."""
        prefix = "gradient_cosine/"
        found = {k.removeprefix(prefix): v for k, v in self.curves.items() if k.startswith(prefix)}
        titles = {name: f"gradients of {name.replace('/', ' and ')}, cosine" for name in found}
        return [
            Chart(titles[name], _svg({TRAINING: points}, titles[name]), True, False)
            for name, points in found.items()
        ]

    @property
    def throughput(self) -> dict[str, float]:
        """Samples a second by modality at the last record."""
        prefix = "samples_per_second/"
        last = self.metrics["last"]
        return {k.removeprefix(prefix): v for k, v in last.items() if k.startswith(prefix)}


def _svg(series: Mapping[str, Points], label: str) -> str:
    colours = {TRAINING: 0, HELD_OUT: 1}
    return line_chart(series, label, colours, dashed=(HELD_OUT,))


def rows_seen(config: Any, mixed: Mapping[str, Mapping[str, Any]]) -> tuple[Seen, ...]:
    """`config`: a training stage's recipe as its manifest has it; `mixed`: corpus → what its
    `mix-*` stage returned; modalities without one are left out."""
    found: list[Seen] = []
    train, modalities = config["train"], config["task"]["modalities"]
    steps = train["steps"]
    if train["gradient_schedule"] in ONE_AT_A_TIME:
        steps /= len(modalities)
    for modality in modalities:
        mix = mixed.get(modality)
        if mix is None:
            continue
        by_source = epochs_by_source(mix, steps * train["batch_sizes"][modality])
        found += [
            Seen(modality, name, int(source["available"]), source["share"], epochs)
            for name, (epochs, source) in by_source.items()
        ]
    return tuple(found)
