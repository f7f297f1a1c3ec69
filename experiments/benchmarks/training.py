"""What the training loop costs: gradient schedules, and TorchTrainer beside a bare loop.

    python experiments/benchmarks/training.py [--quick] [--only WORD]

Size `small` (22M encoder) on random batches, one process; fp32 on CPUs. Peer of `accumulate` is
`joint`: the same losses summed before one backward. Peer of the TorchTrainer is the same `Trainer`
in a process of its own without Ray, as many threads; steady steps/s are those between the first
and the last. Schedules and memory are measured in processes of their own, in turn.
About 20 minutes on two cores.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.harness import Row, compare, in_a_process, in_turn, main, say
from momo.config import SIZES, ModelConfig, TaskConfig
from momo_platform.training.config import LoggingConfig, ScalingConfig, TrainConfig

LENGTH = {"text": 64, "pair": 32}
# Activations of about equal size in each modality, well above those of the weights' state.
SCHEDULE_BATCHES = {"image": 48, "text": 64, "pair": 12}
LOOP_BATCHES = {"image": 16, "text": 16, "pair": 4}


class RandomBatches:
    """A modality's loader: the same batch at every step.

    `peak_mb`: the process's peak when the newest batch was asked for; `asked_at`: when each was.
    So both leave out the last step, which also compares the modalities' gradients and copies the
    weights for a checkpoint.
    """

    seconds_waiting = 0.0
    peak_mb = 0.0
    asked_at: list[float]

    def __init__(self, modality: str, rows: int, model: ModelConfig = SIZES["small"]) -> None:
        from experiments.benchmarks.updates import random_batch  # torch

        self.asked_at = []
        self.batch = random_batch(model, modality, rows, LENGTH.get(modality, 0))

    def iterate(self, start: int) -> Iterator[Mapping[str, np.ndarray]]:
        """Endless."""
        from momo_platform.training.diagnostics import peak_memory_bytes

        while True:
            self.asked_at.append(time.perf_counter())
            self.peak_mb = peak_memory_bytes(torch_device()) / 2**20
            yield self.batch

    def close(self) -> None:
        """Nothing is held."""


def torch_device() -> Any:
    """Where the benchmark trains."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build(
    recipe: ModelConfig | None,
    inputs: Any,
    train: TrainConfig,
    rank: int,
    world_size: int,
    cores: int | None = None,
) -> Any:
    """A stage's builder: a model of shape `recipe`, None for size `small`; all modalities of the
    batches, nothing saved."""
    from momo.model import build_model
    from momo.tasks import MoMoTask
    from momo_platform.training.task import TrainingSetup

    modalities: Any = tuple(train.batch_sizes)
    model = recipe or SIZES["small"]
    task = MoMoTask(build_model(model), TaskConfig(modalities=modalities))
    loaders = {m: RandomBatches(m, n // world_size, model) for m, n in train.batch_sizes.items()}
    return TrainingSetup(task, loaders, lambda task, folder: None)


def train_config(
    schedule: Any,
    batches: Mapping[str, int],
    steps: int,
    *,
    every_steps: int = 10**6,
    gpu: bool = False,
) -> TrainConfig:
    """One worker with all cores; no checkpoint but the last, one record at the end."""
    return TrainConfig(
        steps=steps,
        batch_sizes=batches,
        gradient_schedule=schedule,
        precision="auto" if gpu else "fp32",
        scaling=ScalingConfig(num_workers=1, cpus_per_worker=1, gpus_per_worker=float(gpu)),
        logging=LoggingConfig(
            every_steps=every_steps, checkpoint_every_steps=10**6, tensorboard=False, wandb=False
        ),
    )


def bare_run(schedule: str, batches: Mapping[str, int], steps: int) -> dict[str, float]:
    """For a process of its own: seconds a step and the peak memory in MB."""
    from momo_platform.training.loop import Trainer

    train, marks = train_config(schedule, batches, steps), {}
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(build(None, {}, train, 0, 1), train, Path(folder), progress=marks.update)
        trainer.run()
    loaders = list(trainer.setup.loaders.values())
    asked = loaders[0].asked_at
    return {
        "seconds": (asked[-1] - asked[1]) / (len(asked) - 2),
        "steady": (marks["last_step_at"] - marks["first_step_at"]) / (steps - 1),
        "memory": max(loader.peak_mb for loader in loaders),
    }


def schedule_rows(quick: bool) -> list[Row]:
    """`accumulate` beside `joint`, three modalities."""
    calls = {
        schedule: partial(in_a_process, bare_run, schedule, SCHEDULE_BATCHES, 3)
        for schedule in ("accumulate", "joint")
    }
    found = in_turn(1 if quick else 5, calls, "schedules")

    def row(field: str, unit: str, most: float) -> Row:
        ours, joint = ([v[field] for v in found[s]] for s in calls)
        name = "seconds an update" if field == "seconds" else "peak memory"
        return compare(f"accumulate: {name}", ours, "joint", joint, unit=unit, largest_ratio=most)

    return [row("seconds", "s", 1.02), row("memory", "MB", 0.6)]


@dataclass
class _Context:
    """What `run_torch_trainer` asks of a stage's context."""

    output: Path
    checkpoints: Path
    marks: Path
    name: str = "benchmark"
    fingerprint: str = ""
    folders: None = None

    def progress(self, values: dict[str, Any]) -> None:
        """Called on the worker, in a process of its own."""
        with self.marks.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def _no_inputs() -> dict[str, Path]:
    return {}


def ray_marks(
    folder: Path, train: TrainConfig, model: ModelConfig | None = None
) -> list[dict[str, Any]]:
    """All that the worker of a TorchTrainer told of its progress."""
    from momo_platform.training.stage import run_torch_trainer

    context = _Context(folder / "out", folder / "checkpoints", folder / "marks")
    for path in (context.output, context.checkpoints):
        path.mkdir(parents=True)
    run_torch_trainer(
        builder="experiments.benchmarks.training:build",
        recipe=model,
        train=train,
        resolve_inputs=_no_inputs,
        context=context,
    )
    return [json.loads(line) for line in context.marks.read_text(encoding="utf-8").splitlines()]


def ray_run(folder: Path, batches: Mapping[str, int], steps: int) -> float:
    """Seconds a step under TorchTrainer."""
    marks: dict[str, float] = {}
    for told in ray_marks(folder, train_config("accumulate", batches, steps)):
        marks |= told
    return (marks["last_step_at"] - marks["first_step_at"]) / (steps - 1)


def torch_trainer_rows(quick: bool) -> list[Row]:
    """Steady steps/s under TorchTrainer beside the bare loop."""
    from momo_platform.cluster import start_ray
    from momo_platform.silence import silence

    steps = 12

    def bare() -> float:
        return 1 / in_a_process(bare_run, "accumulate", LOOP_BATCHES, steps)["steady"]

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)

        def ours() -> float:
            return 1 / ray_run(Path(tempfile.mkdtemp(dir=folder)), LOOP_BATCHES, steps)

        with silence(folder / "ray.log"), start_ray("local"):
            rates = in_turn(1 if quick else 5, {"bare loop": bare, "TorchTrainer": ours}, "steps/s")
    say(f"steps/s: {rates}")  # while Ray ran, progress went to its log
    return [
        compare(
            "steady steps/s under TorchTrainer",
            rates["TorchTrainer"],
            "the same loop without Ray",
            rates["bare loop"],
            unit="steps/s",
            least_ratio=0.97,
        )
    ]


if __name__ == "__main__":
    parts = {"schedules": schedule_rows, "torchtrainer": torch_trainer_rows}
    sys.exit(main(__doc__, parts))
