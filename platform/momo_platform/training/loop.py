"""The training loop: batches of every modality, one update, logs, checkpoints, exact resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from momo_platform.training.checkpoint import CheckpointWriter, newest_checkpoint, restore
from momo_platform.training.config import TrainConfig
from momo_platform.training.gradients import StepResult, backward_pass, modalities_of_step
from momo_platform.training.optimizer import build_optimizer, learning_rate
from momo_platform.training.records import RunLog
from momo_platform.training.task import Task, TouchedTask, TrainingSetup


class TrainingDiverged(RuntimeError):
    """Too many steps with a non-finite loss or gradient."""


def _to_tensors(batch: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    return {k: torch.from_numpy(np.ascontiguousarray(v)).to(device) for k, v in batch.items()}


class Trainer:
    """One rank's part of a run. Rank 0 writes the log and the checkpoints.

    `folder` survives attempts: it holds `step-*` checkpoints and `metrics.jsonl`.
    """

    def __init__(
        self,
        setup: TrainingSetup,
        config: TrainConfig,
        folder: Path,
        *,
        rank: int = 0,
        device: torch.device | None = None,
        progress: Callable[[dict[str, Any]], None] = lambda _: None,
        run_name: str = "run",
    ) -> None:
        self.config, self.rank, self.folder, self.progress = config, rank, folder, progress
        self.device = device or torch.device("cpu")
        self.setup, self.run_name = setup, run_name
        self.task = TouchedTask(setup.task).to(self.device)
        self.optimizer = build_optimizer(self.task, config.optimizer)
        self.skipped = 0
        self.start_step = 0
        if newest := newest_checkpoint(folder):
            state = restore(newest[1], self.task, self.optimizer)
            self.start_step, self.skipped = state["step"], state["skipped"]
        distributed = torch.distributed.is_initialized()
        self.module: nn.Module = (
            DistributedDataParallel(self.task, broadcast_buffers=False)
            if distributed and torch.distributed.get_world_size() > 1
            else self.task
        )

    def run(self) -> dict[str, float]:
        """Train from the newest checkpoint to `config.steps`; returns the last record."""
        config, logging = self.config, self.config.logging
        log = (
            RunLog(self.folder, self.start_step, logging, self.run_name) if not self.rank else None
        )
        writer = CheckpointWriter(self.folder, logging.keep_checkpoints)
        # `alternate` uses a modality in some steps only: its loader counts its own uses.
        used = dict.fromkeys(self.setup.loaders, 0)
        for step in range(self.start_step):
            for name in self._modalities(step):
                used[name] += 1
        iterators = {n: loader.iterate(used[n]) for n, loader in self.setup.loaders.items()}
        record: dict[str, float] = {}
        window_start, window_step, waited, blocked = time.perf_counter(), self.start_step, 0.0, 0.0
        seen = dict.fromkeys(self.setup.loaders, 0)
        try:
            self.progress({"step": self.start_step, "total": config.steps})
            for step in range(self.start_step, config.steps):
                log_now = (step + 1) % logging.every_steps == 0 or step + 1 == config.steps
                waiting_start = time.perf_counter()
                batches = {
                    n: _to_tensors(next(iterators[n]), self.device) for n in self._modalities(step)
                }
                waited += time.perf_counter() - waiting_start
                for name in batches:
                    seen[name] += config.batch_sizes[name]
                result = self._update(step, batches, diagnose=log_now)
                if step == self.start_step:
                    self.progress({"first_step_at": time.time()})
                if log_now:
                    seconds = time.perf_counter() - window_start
                    steps = step + 1 - window_step
                    rates = {name: count / seconds for name, count in seen.items()}
                    record = self._record(step, result, rates)
                    record |= {
                        "seconds_waiting_for_data": waited,
                        "seconds_blocked_by_checkpoints": blocked,
                    }
                    if log is not None:
                        log.write(step + 1, record)
                    self.progress(
                        {
                            "step": step + 1,
                            "total": config.steps,
                            "metrics": dict(result.losses),
                            "samples_per_second": sum(rates.values()),
                            "eta_seconds": (config.steps - step - 1) * seconds / steps,
                        }
                    )
                    window_start, window_step = time.perf_counter(), step + 1
                    waited = blocked = 0.0
                    seen = dict.fromkeys(seen, 0)
                if not self.rank and (
                    (step + 1) % logging.checkpoint_every_steps == 0 or step + 1 == config.steps
                ):
                    blocking_start = time.perf_counter()
                    state = {"skipped": self.skipped}
                    writer.save(step + 1, self.task, self.optimizer, state)
                    blocked += time.perf_counter() - blocking_start
            self.progress({"last_step_at": time.time()})
        finally:
            writer.close()
            for loader in self.setup.loaders.values():
                loader.close()
            if log is not None:
                log.close()
        return record

    def _modalities(self, step: int) -> tuple[str, ...]:
        schedule, seed = self.config.gradient_schedule, self.config.seed
        return modalities_of_step(schedule, tuple(self.setup.loaders), seed, step)

    def _update(
        self, step: int, batches: Mapping[str, Mapping[str, Tensor]], *, diagnose: bool
    ) -> StepResult:
        config = self.config
        rate = learning_rate(step, config.steps, config.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        weights = cast(Task, self.setup.task).weights
        result = backward_pass(
            self.module, batches, weights, config.gradient_schedule, diagnose=diagnose
        )
        if result.finite:
            norm = torch.nn.utils.clip_grad_norm_(
                self.task.parameters(), config.optimizer.clip_norm
            )
            result.gradient_norms["total"] = norm.item()
            result.finite = bool(torch.isfinite(norm))
        if result.finite:
            self.optimizer.step()
            return result
        self.skipped += 1
        if self.skipped > config.max_skipped_steps:
            samples = {n: (step * b, (step + 1) * b) for n, b in config.batch_sizes.items()}
            raise TrainingDiverged(
                f"{self.skipped} steps had a non-finite loss or gradient, more than "
                f"max_skipped_steps={config.max_skipped_steps}; last at step {step}, samples by "
                f"modality {samples}, losses {result.losses}. Lower optimizer.learning_rate."
            )
        return result

    def _record(
        self, step: int, result: StepResult, rates: Mapping[str, float]
    ) -> dict[str, float]:
        record = {f"loss/{k}": v for k, v in result.losses.items()}
        record |= {f"metric/{k}": v for k, v in result.metrics.items()}
        record |= {f"gradient_norm/{k}": v for k, v in result.gradient_norms.items()}
        record |= {f"gradient_cosine/{k}": v for k, v in result.gradient_cosines.items()}
        record |= {f"samples_per_second/{name}": rate for name, rate in rates.items()}
        record["learning_rate"] = learning_rate(step, self.config.steps, self.config.optimizer)
        record["skipped_steps"] = self.skipped
        return record
