"""A training stage on one device, through the product's own `Trainer`: one update at a time on a
batch that lies there, or the whole loop for some steps."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.benchmarks.gpu_parts.setting import Setting
from experiments.benchmarks.updates import DEVICE, random_batch
from experiments.benchmarks.updates import on_device as made_on_device
from momo.config import TaskConfig
from momo.model import build_model
from momo.tasks import MoMoTask
from momo_platform.training.config import (
    ActivationCheckpointing,
    LoggingConfig,
    Precision,
    ScalingConfig,
    TrainConfig,
)
from momo_platform.training.feed import to_device, to_tensors
from momo_platform.training.loop import Trainer
from momo_platform.training.records import FILE_NAME, read_records
from momo_platform.training.task import TrainingSetup
from pipelines.config import PipelineConfig, TrainingStage
from pipelines.estimates import estimate_stage
from pipelines.training import StageRecipe

HostBatches = Mapping[str, Mapping[str, np.ndarray]]
NEVER = 10**6


def stage_of(config: PipelineConfig, number: int) -> TrainingStage:
    """Stage 1, 2 or 3."""
    return list(config.training.values())[number - 1]


def one_device(
    stage: TrainingStage,
    rows: Mapping[str, int],
    *,
    every_steps: int = NEVER,
    precision: Precision = "auto",
    readers: int = 0,
    checkpointing: ActivationCheckpointing = "none",
    compiled: bool = False,
    **others: Any,
) -> TrainConfig:
    """The stage's training with `rows` an update on one device, which crops, without end and
    checkpoints; `others`: of its scaling."""
    scaling = ScalingConfig(
        num_workers=1,
        gpus_per_worker=float(DEVICE.type == "cuda"),
        reader_processes=readers,
        prefetch_batches=max(2, readers),
        activation_checkpointing=checkpointing,
        compile=compiled,
        crop="device",
        **others,
    )
    logging = LoggingConfig(every_steps, NEVER, tensorboard=False, wandb=False)
    return replace(
        stage.train,
        steps=NEVER,
        batch_sizes=dict(rows),
        precision=precision,
        scaling=scaling,
        logging=logging,
    )


def host_batches(
    config: PipelineConfig, rows: Mapping[str, int], seed: int = 0
) -> dict[str, dict[str, np.ndarray]]:
    """What the loaders give for one update; texts at their greatest length."""
    lengths = {"text": config.packed_text_length, "pair": config.pair_text_length}
    return {m: random_batch(config.model, m, n, lengths.get(m, 0), seed) for m, n in rows.items()}


class StageUpdate:
    """Calling it is one update. `flops`: of the model, what is computed again left out;
    `planned_memory`: bytes, by `--plan`."""

    def __init__(
        self,
        config: PipelineConfig,
        task_config: TaskConfig,
        train: TrainConfig,
        host: HostBatches,
    ) -> None:
        self.task = made_on_device(lambda: MoMoTask(build_model(config.model), task_config))
        loaders = dict.fromkeys(host)
        setup = TrainingSetup(self.task, loaders, lambda task, folder: None)
        nowhere = Path(tempfile.gettempdir()) / "no-checkpoints-here"
        self._trainer = Trainer(setup, train, nowhere, device=DEVICE)
        self._step = 0
        there = {m: self.task.on_host(m, to_tensors(batch)) for m, batch in host.items()}
        self._batches = {
            m: self.task.on_device(m, to_device(batch, DEVICE)) for m, batch in there.items()
        }
        self.flops = sum(self.task.flops(m, batch) for m, batch in there.items())
        recipe = StageRecipe(config.model, task_config, train, config.pair_text_length)
        self.planned_memory = estimate_stage("", recipe, config.packed_text_length).memory

    def __call__(self) -> None:
        self._trainer._update(self._step, self._batches, diagnose=False)
        self._step += 1


def stage_update(
    setting: Setting,
    number: int,
    *,
    chunk: int = 0,
    checkpointing: ActivationCheckpointing = "none",
    compiled: bool = False,
) -> StageUpdate:
    """Stage `number` of the setting's preset, at its rows a GPU."""
    config, rows = setting.preset, setting.stage_rows[number]
    stage = stage_of(config, number)
    train = one_device(stage, rows, checkpointing=checkpointing, compiled=compiled)
    task = replace(stage.task, contrastive_chunk=chunk)
    return StageUpdate(config, task, train, host_batches(config, rows))


class Enough(Exception):
    """The loop has made its steps."""


def run_loop(
    task: nn.Module,
    train: TrainConfig,
    loaders: Mapping[str, Any],
    steps: int,
    *,
    device: torch.device = DEVICE,
    after: Callable[[int], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """`Trainer.run` for `steps` updates, left without a checkpoint; its records. `after` is called
    behind every step with its number, from 1."""
    done = 0

    def stop() -> bool:
        nonlocal done
        done += 1
        after(done)
        if done == steps:
            raise Enough
        return False

    with tempfile.TemporaryDirectory() as folder:
        setup = TrainingSetup(task, loaders, lambda task, folder: None)
        trainer = Trainer(setup, train, Path(folder), device=device, stop=stop)
        try:
            trainer.run()
        except Enough:
            return read_records(Path(folder) / FILE_NAME)
    raise AssertionError("a loop without end has ended")


class RandomLoader:
    """A modality's loader: another random batch at every step."""

    seconds_waiting = 0.0

    def __init__(self, config: PipelineConfig, modality: str, rows: int) -> None:
        self._config, self._modality, self._rows = config, modality, rows

    def iterate(self, start: int) -> Iterator[Mapping[str, np.ndarray]]:
        """Endless."""
        step = start
        while True:
            rows = {self._modality: self._rows}
            yield host_batches(self._config, rows, seed=step)[self._modality]
            step += 1

    def close(self) -> None:
        """Nothing is held."""
