"""The training loop: batches of every modality, one update, logs, checkpoints, exact resume."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from momo_platform.stages.errors import UserError, is_disk_full
from momo_platform.training import interrupt
from momo_platform.training.average import WeightAverage
from momo_platform.training.best import BestCheckpoint
from momo_platform.training.checkpoint import (
    CheckpointWriter,
    load_progress,
    load_weights,
    newest_checkpoint,
)
from momo_platform.training.compiling import seconds_compiling
from momo_platform.training.config import TrainConfig
from momo_platform.training.diagnostics import Window
from momo_platform.training.feed import Feed
from momo_platform.training.gradients import StepResult, backward_pass
from momo_platform.training.interrupt import TrainingInterrupted
from momo_platform.training.offers import check_parts, prepare_task
from momo_platform.training.optimizer import (
    build_optimizer,
    learning_rate,
    update_where_finite,
)
from momo_platform.training.parallel import (
    clip_gradients,
    is_sharded,
    parallelise,
    unshard,
    world_size,
)
from momo_platform.training.profiling import Profiler
from momo_platform.training.records import FILE_NAME, RunLog, last_values
from momo_platform.training.resume import checkpoint_to_resume
from momo_platform.training.skips import TrainingDiverged, culprit_samples
from momo_platform.training.task import TouchedTask, TrainingSetup, TrainingTask
from momo_platform.training.trackers import RunIdentity
from momo_platform.training.turns import Turns
from momo_platform.training.validation import Validation
from momo_platform.training.verdicts import Verdict, Verdicts

logger = logging.getLogger(__name__)
Batches = Mapping[str, Mapping[str, Tensor]]


class Trainer:
    """One rank's part of a run. Rank 0 writes the log and the checkpoints.

    `folder` survives attempts: it holds `step-*` checkpoints and `metrics.jsonl`. `stop` is asked
    after every step; where one rank says yes, all of them save and raise `TrainingInterrupted`.
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
        identity: RunIdentity = RunIdentity(),  # noqa: B008 - frozen
        stop: Callable[[], bool] = interrupt.requested,
    ) -> None:
        self.config, self.rank, self.folder, self.progress = config, rank, folder, progress
        self.device = device or torch.device("cpu")
        self.setup, self.identity, self.stop = setup, identity, stop
        cuda = self.device.type == "cuda"
        bf16 = config.precision == "bf16" or (config.precision == "auto" and cuda)
        self.task = TouchedTask(setup.task, bf16).to(self.device)
        self._after_step: Callable[[], None] | None = getattr(setup.task, "after_step", None)
        self.skipped = 0
        self._verdicts = Verdicts(self.device)
        self._turns = Turns(config, tuple(setup.loaders))
        self.start_step = 0
        self.best = BestCheckpoint(folder, config)
        newest = checkpoint_to_resume(folder, rank, self.device, self._warn)
        if newest:
            state = load_weights(newest, self.task)
            self.start_step, self.skipped = state["step"], state["skipped"]
            self.best.record = state.get("best") or {}
        self._compiled_before = seconds_compiling() if config.scaling.compile else 0.0
        prepare_task(setup.task, config, rank)
        check_parts(setup, config)
        self.module = parallelise(self.task, setup.task, config.scaling.sharding, bf16)
        self.sharded = is_sharded(self.task)
        self.optimizer = build_optimizer(self.task, config.optimizer)
        self.average = WeightAverage(self.task, config.ema_decay) if config.ema_decay else None
        if newest:
            load_progress(newest, self.task, self.optimizer, self.average)
        self.validation = Validation(setup, config, self.task, self.device, self.average)
        if config.keep == "best" and config.steps and not self.validation.plan.every_steps:
            raise UserError(
                f"{identity.name}: train.keep=best needs held-out rows to choose by, and there are "
                "too few: give the corpora rows with split valid, or set train.keep to last"
            )

    def run(self) -> dict[str, float]:
        """Train from the newest checkpoint to `config.steps`; returns the last record.

        Raises `TrainingInterrupted` when asked to stop, `UserError` where a disk is full.
        """
        logging_config = self.config.logging
        interrupt.begin()
        try:
            with contextlib.ExitStack() as stack:
                stack.callback(interrupt.end)
                for loader in self.setup.loaders.values():
                    stack.callback(loader.close)
                log = None
                if not self.rank:
                    start = self.start_step, logging_config, self.identity, self._warn
                    log = stack.enter_context(RunLog(self.folder, *start))
                keep = logging_config.keep_checkpoints
                writer = CheckpointWriter(self.folder, keep, writes=not self.rank)
                stack.callback(writer.close)
                feed = self._feed()
                stack.callback(feed.close)
                traced = logging_config.profile_steps if not self.rank else 0
                ahead = self.config.steps - self.start_step
                profiler = Profiler(self.folder, traced, ahead)
                stack.callback(profiler.close)
                return self._train(log, writer, feed, profiler)
        except Exception as error:
            if not is_disk_full(error):
                raise
            newest = newest_checkpoint(self.folder)
            raise UserError(
                f"disk full while training {self.identity.name} wrote to {self.folder}: make room "
                f"there and run again; training goes on at step {newest[0] if newest else 0}"
            ) from error

    def finish(self) -> nn.Module:
        """The task to save: its weights are whole, and the average where one is kept.

        For every rank, after `run`; training can't go on afterwards.
        """
        if self.average is not None:
            self.average.apply()
        if self.sharded:
            unshard(self.task)
        if not self.rank:
            self.best.forget_damaged(self._warn)
        return self.setup.task

    def seconds_compiling(self) -> float:
        """What compiling has taken since this trainer was made; only with `scaling.compile`."""
        return seconds_compiling() - self._compiled_before

    def _say(self, message: str) -> None:
        logger.info(message)
        self.progress({"message": message})

    def _warn(self, message: str) -> None:
        logger.warning(message)
        self.progress({"message": message})

    def _feed(self) -> Feed:
        """Batches from the step that the run goes on at."""
        start, setup, turns = self.start_step, self.setup, self._turns
        what = setup.task, setup.loaders, self.device, turns.of, turns.before(start)
        return Feed(*what, start, self.config.steps, report=self._say)

    def _train(
        self, log: RunLog | None, writer: CheckpointWriter, feed: Feed, profiler: Profiler
    ) -> dict[str, float]:
        config, every = self.config, self.config.logging
        # Where a step uses one modality only: its loader counts its own uses.
        used = self._turns.before(self.start_step)
        record = {} if log is None else last_values(self.folder / FILE_NAME)
        modalities = tuple(self.setup.loaders)
        window = Window(self.start_step, modalities)
        self.progress({"step": self.start_step, "total": config.steps})
        first_step_at, since = time.time(), time.perf_counter()
        if not self.start_step and self.validation.due(0):
            before = self._validate(0)
            if log is not None:
                log.write(0, before)
            window = Window(0, modalities)
        for step in range(self.start_step, config.steps):
            first, last = step == self.start_step, step + 1 == config.steps
            log_now = (step + 1) % every.every_steps == 0 or last
            save_now = (step + 1) % every.checkpoint_every_steps == 0 or last
            valid_now = self.validation.due(step + 1)
            batches = self._next_batches(feed, window)
            result = self._update(step, batches, diagnose=log_now)
            self._verdicts.add(step, used, result, self._stop_flag())
            for name in batches:
                used[name] += 1
            stop = self._settle(log, everything=first or log_now or save_now) and not last
            if first:
                first_step_at, since = time.time(), time.perf_counter()
                self.progress({"first_step_at": first_step_at})
                if config.scaling.compile:
                    self._say(f"compiled for {self.seconds_compiling():.0f} s in the first step")
            values: dict[str, float] = {}
            if log_now:
                values = self._record(step, result) | window.record(self.device)
                self._report(step, values, window)
                window = Window(step + 1, modalities)
            if valid_now:
                held_out = self._validate(step + 1)
                save_now = self.best.is_new(step + 1, held_out) or save_now
                window.leave_out(held_out["seconds_validating"])
                values |= held_out
            if values:
                record |= values
                if log is not None:
                    log.write(step + 1, values)
            if save_now or stop:
                self._settle(log, everything=True)
                blocking_start = time.perf_counter()
                self._save(step + 1, writer)
                window.blocked += time.perf_counter() - blocking_start
            profiler.step()
            if stop:
                self._leave(step + 1, writer)
        # Not the wall clock's: set back meanwhile, the last step would come before the first.
        self.progress({"last_step_at": first_step_at + time.perf_counter() - since})
        return record

    def _validate(self, step: int) -> dict[str, float]:
        """Measure the model as it is after `step` steps; on all ranks."""
        before = self.validation.seconds
        values = self.validation.run()
        self.progress({"validation": {"step": step, **values}})
        return values | {"seconds_validating": self.validation.seconds - before}

    def _settle(self, log: RunLog | None, *, everything: bool) -> bool:
        """Count the steps that the device skipped. Whether a rank was asked to stop: the same on
        all ranks."""
        stop = False
        for verdict in self._verdicts.settle(everything=everything):
            stop = stop or verdict.stop
            if not verdict.finite:
                self.skipped += 1
                self._name_skipped(verdict, log)
        return stop

    def _next_batches(self, feed: Feed, window: Window) -> dict[str, dict[str, Any]]:
        waiting_start = time.perf_counter()
        fed = feed.next()
        window.waited += time.perf_counter() - waiting_start
        window.add(self.setup.task, self.config.batch_sizes, fed.host)
        return fed.device

    def _save(self, step: int, writer: CheckpointWriter) -> None:
        if not self.rank or self.sharded:
            state: dict[str, Any] = {"skipped": self.skipped}
            if self.best.record:
                state["best"] = self.best.record
            writer.save(step, self.task, self.optimizer, state, self.average)

    def _stop_flag(self) -> Tensor:
        """Above 0 where a rank was asked to stop: reduced, and not yet read."""
        flag = torch.full((), float(self.stop()), device=self.device)
        if world_size() > 1:
            torch.distributed.all_reduce(flag)
        return flag

    def _leave(self, step: int, writer: CheckpointWriter) -> None:
        writer.wait()
        if world_size() > 1:
            torch.distributed.barrier()  # the first to raise ends the others, mid-write
        raise TrainingInterrupted(f"asked to stop; the checkpoint of step {step} is written")

    def _update(self, step: int, batches: Batches, *, diagnose: bool) -> StepResult:
        config = self.config
        rate = learning_rate(step, config.steps, config.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # Under DDP gradients are views of its buckets: others beside them would double the memory.
        in_buckets = isinstance(self.module, DistributedDataParallel)
        self.optimizer.zero_grad(set_to_none=not in_buckets)
        weights = cast(TrainingTask, self.setup.task).weights
        result = backward_pass(
            self.module,
            batches,
            weights,
            config.gradient_schedule,
            diagnose=diagnose,
            split=self._split,
        )
        norm = clip_gradients(self.task, config.optimizer.clip_norm)
        result.gradient_norms["total"] = norm
        result.finite = result.finite & norm.isfinite()
        update_where_finite(self.optimizer, result.finite)
        if self._after_step is not None:
            self._after_step()
        if self.average is not None:
            self.average.update(result.finite)
        return result

    def _split(self, modality: str, batch: Any) -> Sequence[Any]:
        size, task = self.config.scaling.micro_batch_size, cast(Any, self.setup.task)
        return task.split(modality, batch, size) if size else (batch,)

    def _name_skipped(self, verdict: Verdict, log: RunLog | None) -> None:
        """Write down which samples a skipped step saw; raise `TrainingDiverged` at too many."""
        config, step, names = self.config, verdict.step, self._turns.of(verdict.step)
        sizes = config.batch_sizes
        units = {n: getattr(loader, "unit", 1) for n, loader in self.setup.loaders.items()}
        samples = culprit_samples(verdict.culprits, names, verdict.used, sizes, world_size(), units)
        what = "loss" if verdict.culprits else "gradient"
        message = f"step {step}: non-finite {what}, skipped; samples by modality {samples}"
        if log is not None:
            log.write_skipped(step + 1, {"what": what, "samples": samples})
            logger.warning(message)
            self.progress({"message": message})
        if self.skipped > config.max_skipped_steps:
            raise TrainingDiverged(
                f"{self.skipped} steps had a non-finite loss or gradient, more than "
                f"max_skipped_steps={config.max_skipped_steps}; last at step {step}, samples by "
                f"modality {samples}, {verdict.result.read()}. Lower optimizer.learning_rate."
            )

    def _report(self, step: int, record: Mapping[str, float], window: Window) -> None:
        rates = [v for k, v in record.items() if k.startswith("samples_per_second/")]
        losses = {k.removeprefix("loss/"): v for k, v in record.items() if k.startswith("loss/")}
        remaining = self.config.steps - step - 1
        self.progress(
            {
                "step": step + 1,
                "total": self.config.steps,
                "metrics": losses,
                "samples_per_second": sum(rates),
                "eta_seconds": remaining * window.seconds_per_step(step),
            }
        )

    def _record(self, step: int, result: StepResult) -> dict[str, float]:
        record = result.read()
        record["learning_rate"] = learning_rate(step, self.config.steps, self.config.optimizer)
        record["skipped_steps"] = self.skipped
        return record
