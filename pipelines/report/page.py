"""The page: a Jinja template filled with plain values."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from momo_platform.charts import Points, colour_of, line_chart
from momo_platform.data.listing import Kind
from momo_platform.pages import template
from momo_platform.stages import Artifact
from pipelines.report.corpora import read_corpus
from pipelines.tasks.registry import GROUPS

if TYPE_CHECKING:
    from pipelines.report.stage import ReportConfig

KINDS: tuple[Kind, ...] = ("images", "text", "pairs")


@dataclass(frozen=True)
class Training:
    """One training stage's result and its curves by metric name."""

    name: str
    metrics: Mapping[str, Any]
    curves: Mapping[str, Points]

    @property
    def loss_charts(self) -> list[tuple[str, str]]:
        """(objective, SVG)."""
        losses = {k.removeprefix("loss/"): v for k, v in self.curves.items() if "loss/" in k}
        return [(name, line_chart({name: points}, name)) for name, points in losses.items()]

    @property
    def cosines(self) -> list[tuple[str, str]]:
        """(modalities, SVG) of the cosine between modalities' gradients."""
        prefix = "gradient_cosine/"
        found = {k.removeprefix(prefix): v for k, v in self.curves.items() if prefix in k}
        return [(name, line_chart({name: points}, name)) for name, points in found.items()]

    @property
    def throughput(self) -> dict[str, float]:
        """Samples a second by modality at the last record."""
        prefix = "samples_per_second/"
        last = self.metrics["last"]
        return {k.removeprefix(prefix): v for k, v in last.items() if k.startswith(prefix)}


def prepared_of(inputs: Mapping[str, Artifact]) -> list[str]:
    """Roles of the prepared corpora that this job had."""
    return [name for kind in KINDS if (name := f"prepare-{kind}") in inputs]


def render(
    config: ReportConfig,
    inputs: Mapping[str, Artifact],
    stages: Mapping[str, Mapping[str, Any]],
    trainings: Sequence[Training],
    markdown: str,
) -> str:
    """The whole page as HTML, without outside resources."""
    from momo.export import load
    from pipelines.report.pictures import HeldOutPairs, nearest_pictures, reconstructions
    from pipelines.tasks.items import Captioned
    from pipelines.tasks.loaders import load_items

    embedder = load(inputs["export"].path / "model", "cpu")  # the stage asks for no GPU
    size = embedder.model.config.image_size
    items, pairs = None, None
    if "prepare-pairs" in inputs:
        items = load_items("demo-pairs", {"demo-pairs": inputs["prepare-pairs"].path})
    if isinstance(items, Captioned):
        pixels = items.pictures.pixels(range(len(items.pictures)), size)
        pairs = HeldOutPairs(pixels, items.image_groups, items.captions, items.text_groups)
    graph = [
        {
            "role": role,
            "name": artifact.name,
            "fingerprint": artifact.fingerprint,
            "seconds": artifact.manifest.seconds,
            "megabytes": sum(f["size"] for f in artifact.manifest.files.values()) / 2**20,
            "inputs": ", ".join(i["name"] for i in artifact.manifest.inputs.values()) or "–",
        }
        for role, artifact in inputs.items()
    ]
    first = inputs[config.training_stages[0]].manifest
    return template(Path(__file__).parent, "page.html.jinja").render(
        preset=config.preset,
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=first.git_commit or "unknown",
        packages=first.packages,
        stages=stages,
        final=list(stages.values())[-1],
        trainings=trainings,
        corpora=[read_corpus(inputs[name].path) for name in prepared_of(inputs)],
        groups=GROUPS,
        markdown=markdown,
        graph=graph,
        colour=colour_of(0),
        reconstructions=(
            reconstructions(embedder.model, pairs, config.reconstructions) if pairs else []
        ),
        nearest=(
            nearest_pictures(embedder, pairs, config.captions, config.nearest) if pairs else []
        ),
    )
