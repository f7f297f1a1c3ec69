"""What training will cost, before hours are spent: samples, FLOP, memory a device, hours, and
whether the readers keep up.

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
    encoder_parameters,
    executed_flops,
    parameter_counts,
    passes_of,
    state_bytes,
    trained_parameters,
    training_flops,
)
from momo_platform.cores import readers_from_cores
from momo_platform.stages import Plan, UserError
from momo_platform.training.config import ONE_AT_A_TIME, ScalingConfig
from momo_platform.training.hardware import ACCELERATORS, Accelerator
from pipelines.config import PipelineConfig
from pipelines.modalities import MODALITIES
from pipelines.training import StageRecipe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


DECODED_A_READER = 1900.0
"""Pictures a second that one reader core decodes, where they are cropped on the GPU: JPEG of
341×256 at quality 90 (`experiments/benchmarks/data.py --only decoding`, x86-64 server)."""
CROPPED_A_READER = 690.0
"""The same where it also crops them to 224 px: photographs capped at 256 px, half of what
`experiments/benchmarks/data.py` measured with two (results/data-2026-11-25.json, x86-64 server)."""
_COMPARED = ("A100", "H100", "H200")
_ROOM = 0.9  # of a device's memory; the rest is the framework's, its libraries' and the allocator's


@dataclass(frozen=True)
class StageEstimate:
    """One training stage. `samples` by modality; `memory` in bytes a device; `flops` in all, those
    of the model, `executed_flops` with what checkpointing computes again. `readers`: processes of a
    worker and modality that decode, 0 for a thread; `from_cores`: so many at least, by the cores
    that a worker reserves. `pictures_a_reader` a second, None where pictures lie on the device or
    are decoded there."""

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
    from_cores: bool = False
    pictures_a_reader: float | None = DECODED_A_READER

    @property
    def memory(self) -> float:
        """Bytes a device needs for weights, gradients, moments and activations."""
        return self.state_memory + self.activation_memory

    def hours(self, device: Accelerator, mfu: float) -> float | None:
        """Wall time on this many of `device`, of whose peak the model's FLOP use a share of `mfu`:
        by definition MFU leaves out what is computed again.

        None for training in fp32 or on CPUs: the peak is bf16's.
        """
        if not (self.on_gpus and self.half):
            return None
        return self.flops / (self.devices * device.flops * mfu) / 3600

    def fits(self, device: Accelerator) -> bool:
        """Whether a device has room for it, a tenth left for what is not planned."""
        return self.memory <= _ROOM * device.memory

    def pictures_a_second(self, device: Accelerator, mfu: float) -> float:
        """That one device takes, of the modality that has most; 0 where hours are not known."""
        hours = self.hours(device, mfu)
        most = max([0, *(n for m, n in self.samples.items() if MODALITIES[m].pictured)])
        return most / hours / 3600 / self.devices if hours else 0.0

    def readers_needed(self, device: Accelerator, mfu: float) -> int:
        """Processes of a worker that decode as many pictures as its device takes; 0 where hours
        are not known or readers decode nothing."""
        taken = self.pictures_a_second(device, mfu)
        return math.ceil(taken / self.pictures_a_reader) if self.pictures_a_reader else 0

    def keeps_up(self, device: Accelerator, mfu: float) -> bool:
        """Whether readers give what a device takes."""
        return self.readers_needed(device, mfu) <= max(1, self.readers)


def _readers(scaling: ScalingConfig, modalities: Sequence[str]) -> int:
    if scaling.reader_processes >= 0:
        return scaling.reader_processes
    with_pictures = sum(MODALITIES[modality].pictured for modality in modalities)
    return readers_from_cores(1, with_pictures, int(scaling.cpus_per_worker))


def _pictures_a_reader(scaling: ScalingConfig) -> float | None:
    if scaling.resident or scaling.decode == "nvjpeg":
        return None
    return DECODED_A_READER if scaling.crops_on_device else CROPPED_A_READER


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
        length = MODALITIES[modality].text_length(packed_text_length, recipe.pair_text_length)
        passes = passes_of(model, task, modality, size, length)
        flops += training_flops(model, passes) * train.steps / turns
        executed += executed_flops(model, passes, **recomputed) * train.steps / turns
        samples[modality] = size * train.steps // turns
        rows = -(-size // workers)
        kept.append(
            activation_bytes(
                model,
                passes_of(model, task, modality, rows, length),
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
        _readers(scaling, task.modalities),
        scaling.reader_processes < 0,
        _pictures_a_reader(scaling),
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
    """Tables by stage, their assumptions, and warnings where a device's memory is too small or its
    readers are too slow."""
    from rich.text import Text

    if not found:
        return
    model, mfu = config.model, config.run.mfu
    devices = [device_named(name) for name in _COMPARED]
    devices += [device] if device not in devices else []
    console.print()
    console.print(_cost_table(found, devices))
    encoder, total = encoder_parameters(model), sum(parameter_counts(model).values())
    lines = [
        f"encoder with embeddings {encoder / 1e6:.1f}M parameters, with all heads "
        f"{total / 1e6:.1f}M; texts taken at their greatest length; memory at its "
        "peak, without what the framework itself needs (about 1 GB)"
    ]
    if known := [h for one in found if (h := one.hours(device, mfu)) is not None]:
        console.print()
        console.print(_speed_table(found, devices, mfu))
        lines.append(
            f"together {sum(known):.1f} hours on {device.name} at {mfu:.0%} of "
            f"{device.flops / 1e12:.0f} TFLOP/s bf16 (--gpu, --mfu; assumed, not measured). MFU "
            "counts the model's FLOP: what is computed again takes time too and lowers the MFU "
            "that a stage reaches"
        )
    console.print(Text("\n".join(lines), "dim"))
    for one in found:
        for warning in _warnings(one, device, mfu):
            console.print(Text(f"warning: {warning}", "bold red"))


def _cost_table(found: Sequence[StageEstimate], devices: Sequence[Accelerator]) -> Table:
    from rich.table import Table

    gpus = any(one.on_gpus for one in found)
    table = Table(box=None, pad_edge=False, title="Cost of training", title_justify="left")
    titles = ["stage", "steps", "samples", "devices", "model FLOP", "executed", "GB a device"]
    for title in titles + (["fits on"] if gpus else []):
        left = title in ("stage", "samples", "fits on")
        table.add_column(title, justify="left" if left else "right", no_wrap=title == "stage")
    for one in found:
        row = [
            one.stage,
            f"{one.steps:,}",
            ", ".join(f"{m} {_count(n)}" for m, n in one.samples.items()),
            f"{one.devices} {'GPU' if one.on_gpus else 'CPU'}",
            f"{one.flops:.2e}",
            f"{one.executed_flops:.2e}",
            f"{one.memory / 1e9:.1f}",
        ]
        table.add_row(*row, *([_fitting(one, devices)] if gpus else []))
    return table


def _fitting(one: StageEstimate, devices: Sequence[Accelerator]) -> str:
    if not one.on_gpus:
        return ""
    names = [device.name for device in devices if one.fits(device)]
    return "all" if len(names) == len(devices) else " ".join(names) or "none"


def _speed_table(
    found: Sequence[StageEstimate], devices: Sequence[Accelerator], mfu: float
) -> Table:
    """Hours, and pictures a second that one device takes, `!` where the readers give fewer."""
    from rich.table import Table

    title = f"Hours, and pictures/s that a device takes, at {mfu:.0%} MFU"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    table.add_column("stage", no_wrap=True)
    for device in devices:
        table.add_column(f"{device.name} hours", justify="right")
        table.add_column("pictures/s", justify="right")
    table.add_column("readers give", justify="right")
    for one in found:
        row = [one.stage]
        for device in devices:
            hours, taken = one.hours(device, mfu), one.pictures_a_second(device, mfu)
            late = "" if one.keeps_up(device, mfu) else "!"
            row += ["bf16 only", ""] if hours is None else [f"{hours:.1f}", f"{taken:,.0f}{late}"]
        table.add_row(*row, _given(one))
    return table


def _given(one: StageEstimate) -> str:
    if one.pictures_a_reader is None:
        return "on the device"
    return f"{'≥ ' * one.from_cores}{one.pictures_a_reader * max(1, one.readers):,.0f}"


def _warnings(one: StageEstimate, device: Accelerator, mfu: float) -> list[str]:
    option, found = f"--{one.stage}", []
    needed, scaling = one.readers_needed(device, mfu), f"{option}.train.scaling."
    if not one.keeps_up(device, mfu):
        readers = "" if one.from_cores else f"{scaling}reader-processes {needed} and "
        found.append(
            f"{one.stage} would wait for pictures: a device of {device.name} takes "
            f"{one.pictures_a_second(device, mfu):,.0f}/s, its readers give {_given(one)}: set "
            f"{readers}{scaling}cpus-per-worker {needed + 2} (machines with so many CPU cores a "
            f"GPU), {scaling}decode nvjpeg or, for a corpus that fits the device's memory, "
            f"{scaling}resident"
        )
    if one.on_gpus and not one.fits(device):
        found.append(
            f"{one.stage} needs {one.memory / 1e9:.0f} GB a device, {device.name} has "
            f"{device.memory / 1e9:.0f}: set {scaling}activation-checkpointing, more workers, "
            f"{option}.task.contrastive-chunk or smaller batches"
        )
    return found
