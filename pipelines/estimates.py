"""What training will cost, before hours are spent: samples, FLOP, memory a device, hours.

Neither ray nor torch is needed. Everything follows from the config's shapes; hours also from
`--gpu` and `--mfu`, an assumption: nothing of ours has been measured on a GPU yet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from momo.cost import (
    activation_bytes,
    executed_flops,
    parameter_counts,
    passes_of,
    state_bytes,
    trained_parameters,
    training_flops,
)
from momo_platform.stages import Plan, UserError
from momo_platform.training.config import ONE_AT_A_TIME
from momo_platform.training.hardware import ACCELERATORS, Accelerator
from pipelines.config import PipelineConfig
from pipelines.training import StageRecipe

if TYPE_CHECKING:
    from rich.console import Console


# Photographs capped at 256 px, decoded and cropped to 224 px by one reader process: half of what
# `experiments/benchmarks/data.py` measured with two (results/data-2026-11-25.json, x86-64 server).
PICTURES_A_READER = 690.0


@dataclass(frozen=True)
class StageEstimate:
    """One training stage. `samples` by modality; `memory` in bytes a device; `flops` in all.
    `readers`: processes of a worker and modality that decode, 0 for a thread."""

    stage: str
    steps: int
    samples: dict[str, int]
    flops: float
    executed_flops: float
    state_memory: float
    activation_memory: float
    devices: int
    on_gpus: bool
    half: bool
    readers: int = 0

    @property
    def memory(self) -> float:
        """Bytes a device needs for weights, gradients, moments and activations."""
        return self.state_memory + self.activation_memory

    def hours(self, device: Accelerator, mfu: float) -> float | None:
        """Wall time on this many of `device`, of whose peak a share of `mfu` is used.

        None for training in fp32 or on CPUs: the peak is bf16's.
        """
        if not (self.on_gpus and self.half):
            return None
        return self.flops / (self.devices * device.flops * mfu) / 3600

    def readers_needed(self, device: Accelerator, mfu: float) -> int:
        """Processes of a worker that decode as many pictures as its device takes; 0 where hours
        are not known."""
        hours = self.hours(device, mfu)
        most = max(self.samples.get("image", 0), self.samples.get("pair", 0))
        return math.ceil(most / hours / 3600 / self.devices / PICTURES_A_READER) if hours else 0


def estimate_stage(name: str, recipe: StageRecipe, packed_text_length: int) -> StageEstimate:
    """From the recipe's shapes, with texts at their greatest length."""
    model, task, train = recipe.model, recipe.task, recipe.train
    scaling = train.scaling
    workers, half = max(1, scaling.num_workers), train.precision == "bf16"
    half = half or (train.precision == "auto" and scaling.gpus_per_worker > 0)
    turns = len(task.modalities) if train.gradient_schedule in ONE_AT_A_TIME else 1
    flops, executed, samples, kept = 0.0, 0.0, {}, []
    recomputed = {
        "checkpointing": scaling.activation_checkpointing,
        "chunk": task.contrastive_chunk,
    }
    for modality in task.modalities:
        size = train.batch_sizes[modality]
        length = recipe.pair_text_length if modality == "pair" else packed_text_length
        passes = passes_of(task, modality, size, length, model.num_patches)
        flops += training_flops(model, passes) * train.steps / turns
        executed += executed_flops(model, passes, **recomputed) * train.steps / turns
        samples[modality] = size * train.steps // turns
        rows = -(-size // workers)
        kept.append(
            activation_bytes(
                model,
                passes_of(task, modality, rows, length, model.num_patches),
                half=half,
                **recomputed,
            )
        )
    sharded = scaling.sharding == "fsdp2" and workers > 1
    trained = trained_parameters(model, task)
    return StageEstimate(
        name,
        train.steps,
        samples,
        flops,
        executed,
        state_bytes(
            trained,
            frozen=sum(parameter_counts(model).values()) - trained,
            shards=workers if sharded else 1,
            ema=train.ema_decay > 0,
        ),
        sum(kept) if train.gradient_schedule == "joint" else max(kept),
        workers,
        scaling.gpus_per_worker > 0,
        half,
        scaling.reader_processes,
    )


def estimates(plan: Plan, config: PipelineConfig) -> list[StageEstimate]:
    """Of each training stage that the plan would run."""
    return [
        estimate_stage(entry.name, entry.stage.config, config.packed_text_length)
        for entry in plan.entries
        if isinstance(entry.stage.config, StageRecipe) and entry.action in ("run", "resume")
    ]


def device_named(name: str) -> Accelerator:
    """Raises UserError that lists the known ones."""
    for device in ACCELERATORS:
        if device.name.lower() == name.lower():
            return device
    known = ", ".join(device.name for device in ACCELERATORS)
    raise UserError(f"--gpu {name!r} is not known: give one of {known}")


def _count(number: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return f"{number:.0f}"


def print_estimates(
    found: Sequence[StageEstimate], config: PipelineConfig, device: Accelerator, console: Console
) -> None:
    """A table by stage, its assumptions, and a warning where a device's memory is too small."""
    from rich.table import Table
    from rich.text import Text

    if not found:
        return
    counts = parameter_counts(config.model)
    encoder = sum(
        counts[part]
        for part in ("blocks", "image_tower", "text_tower", "image_embedding", "text_embedding")
    )
    console.print()
    table = Table(box=None, pad_edge=False, title="Cost of training", title_justify="left")
    gpus = any(one.on_gpus for one in found)
    titles = ["stage", "steps", "samples", "FLOP", "GB a device", "devices"]
    for title in titles + (["hours"] if gpus else []):
        left = title in ("stage", "samples")
        table.add_column(title, justify="left" if left else "right", no_wrap=title == "stage")
    for one in found:
        row = [
            one.stage,
            f"{one.steps:,}",
            ", ".join(f"{m} {_count(n)}" for m, n in one.samples.items()),
            f"{one.flops:.2e}",
            f"{one.memory / 1e9:.1f}",
            f"{one.devices} " + (device.name if one.on_gpus else "CPU"),
        ]
        hours = one.hours(device, config.run.mfu)
        table.add_row(*row, *(["bf16 only" if hours is None else f"{hours:.1f}"] if gpus else []))
    console.print(table)
    lines = [
        f"encoder with embeddings {encoder / 1e6:.1f}M parameters, with all heads "
        f"{sum(counts.values()) / 1e6:.1f}M; texts taken at their greatest length; memory without "
        "what the framework itself needs (about 1 GB)"
    ]
    if known := [h for one in found if (h := one.hours(device, config.run.mfu)) is not None]:
        lines.append(
            f"together {sum(known):.1f} hours on {device.name} at {config.run.mfu:.0%} of "
            f"{device.flops / 1e12:.0f} TFLOP/s bf16 (--gpu, --mfu; assumed, not measured)"
        )
    console.print(Text("\n".join(lines), "dim"))
    for one in found:
        option = one.stage.partition("-")[0]
        if (needed := one.readers_needed(device, config.run.mfu)) > max(1, one.readers):
            console.print(
                Text(
                    f"warning: {one.stage} would wait for pictures: set --{option}.train.scaling."
                    f"reader-processes {needed} ({PICTURES_A_READER:.0f} photographs/s each)",
                    "bold red",
                )
            )
        if one.on_gpus and one.memory > 0.9 * device.memory:
            console.print(
                Text(
                    f"warning: {one.stage} needs {one.memory / 1e9:.0f} GB a device, {device.name} "
                    f"has {device.memory / 1e9:.0f}: set --{option}.train.scaling."
                    "activation-checkpointing, more workers, "
                    f"--{option}.task.contrastive-chunk or smaller batches",
                    "bold red",
                )
            )
