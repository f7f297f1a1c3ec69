"""How often a run sees each source's rows: what a plan can tell before hours are spent.

Neither ray nor torch is needed: the numbers are in the metrics of the mix-* artifacts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from momo_platform.stages import Plan, PlanEntry, Storage
from momo_platform.training.config import ONE_AT_A_TIME
from pipelines.training import StageRecipe

if TYPE_CHECKING:
    from rich.console import Console

TOO_OFTEN = 40.0
"""Repeats of a source above which a plan warns: the model learns its rows by heart."""


@dataclass(frozen=True)
class SourceEpochs:
    """How often a training stage sees each row of one source; None: `mix` was never run.

    `weight` is how often each row comes in an epoch, `share` the source's part of the modality's
    samples, `rows` what it has for training.
    """

    stage: str
    modality: str
    source: str
    mix: str
    weight: float
    epochs: float | None = None
    share: float = 0.0
    rows: int = 0

    @property
    def warning(self) -> str | None:
        """What to do about a source that is repeated too often, or None."""
        if self.epochs is None or self.epochs <= TOO_OFTEN:
            return None
        return (
            f"{self.stage} sees each of the {self.rows:,} {self.modality} rows of source "
            f"{self.source} {self.epochs:.0f} times (more than {TOO_OFTEN:.0f}): give more data, a "
            f"smaller weight or fewer --{self.stage}.train.steps"
        )


def _samples(recipe: StageRecipe, modality: str) -> float:
    """Samples of a modality in the whole stage; one modality a step: on average over seeds."""
    modalities = recipe.task.modalities
    steps = float(recipe.train.steps)
    if recipe.train.gradient_schedule in ONE_AT_A_TIME:
        steps /= len(modalities)
    return steps * recipe.train.batch_sizes[modality]


def _of_mix(
    entry: PlanEntry, modality: str, mix: PlanEntry, storage: Storage
) -> Iterator[SourceEpochs]:
    manifest = storage.manifest(mix.name, mix.fingerprint)
    sources = manifest.metrics.get("sources") if manifest else None
    if manifest is None or sources is None:
        for name, weight in mix.stage.config.weights.items():
            yield SourceEpochs(entry.name, modality, name, mix.name, weight)
        return
    by_source = epochs_by_source(manifest.metrics, _samples(entry.stage.config, modality))
    for name, (epochs, source) in by_source.items():
        known = source["weight"], epochs, source["share"], int(source["available"])
        yield SourceEpochs(entry.name, modality, name, mix.name, *known)


def epochs_by_source(
    mixed: Mapping[str, Any], samples: float
) -> dict[str, tuple[float, Mapping[str, Any]]]:
    """Source → how often each of its rows is seen in `samples` of a mixture, and what its `mix-*`
    stage says of it.

    For pictures this is samples × share / rows available. Documents are cut into sequences, so
    there it is passes over the mixture × how often a row is in it.
    """
    passes = samples / max(1, mixed["rows"])
    return {
        name: (passes * source["rows"] / max(1, source["available"]), source)
        for name, source in mixed["sources"].items()
    }


def source_epochs(plan: Plan, storage: Storage) -> list[SourceEpochs]:
    """For each training stage of the plan, each of its modalities and each of their sources."""
    by_name = {e.name: e for e in plan.entries}
    return [
        found
        for entry in plan.entries
        if isinstance(entry.stage.config, StageRecipe)
        for modality in entry.stage.config.task.modalities
        for mix in [entry.stage.inputs[modality].name]
        for found in _of_mix(entry, modality, by_name[mix], storage)
    ]


def print_epochs(found: Sequence[SourceEpochs], console: Console) -> None:
    """A table by stage, modality and source, and a warning for each source seen too often."""
    from rich.table import Table
    from rich.text import Text

    if not found:
        return
    table = Table(box=None, pad_edge=False, title="Epochs of each source", title_justify="left")
    for title in ("stage", "modality", "source"):
        table.add_column(title, no_wrap=True)
    for title in ("rows", "share", "epochs"):
        table.add_column(title, justify="right", no_wrap=title != "epochs")
    for row in found:
        weighted = row.source if row.weight == 1.0 else f"{row.source} × {row.weight:g}"
        names = [row.stage, row.modality, weighted]
        if row.epochs is None:
            table.add_row(*names, "", "", Text(f"known after {row.mix}", "dim"))
            continue
        style = "bold red" if row.warning else ""
        numbers = [
            f"{row.weight:g}",
            f"{row.rows:,}",
            f"{row.share:.0%}",
            Text(f"{row.epochs:.1f}", style),
        ]
        table.add_row(*names, *numbers)
    console.print()
    console.print(table)
    for row in found:
        if row.warning:
            console.print(Text(f"warning: {row.warning}", "bold red"))
