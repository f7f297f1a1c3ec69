"""A training stage: the graph's node that runs one TorchTrainer."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from momo_platform.cores import cores_near, pin_cores, usable_cores
from momo_platform.memory import give_freed_memory_back, keep_freed_memory
from momo_platform.ray_internals import worker_group_callback
from momo_platform.stages.errors import UserError
from momo_platform.stages.storage.folders import SharedFolders, WorkerFolders
from momo_platform.training import interrupt
from momo_platform.training.config import TrainConfig
from momo_platform.training.faults import (
    cause_of,
    fault_of,
    first_worker_error,
    out_of_memory,
)
from momo_platform.training.interrupt import TrainingInterrupted
from momo_platform.training.records import FILE_NAME, PROFILE_FILE_NAME
from momo_platform.training.trackers import RunIdentity, keep_files

if TYPE_CHECKING:
    from momo_platform.training.loop import Trainer
    from momo_platform.training.task import TrainingSetup

Build: TypeAlias = "Callable[[Any, Any, TrainConfig, int, int, int], TrainingSetup]"
"""Called as `build(recipe, inputs, train, rank, world_size, cores)`. `cores` is this worker's part
of its machine's cores, as if none were pinned."""
logger = logging.getLogger(__name__)
LAST = "last"
"""Folder of an artifact with the last model, where the stage's own is an earlier, better one."""
_RESULT = "result.json"
_RESIZE_SECONDS = 300.0  # for a step and its checkpoint


class WorkerFailed(RuntimeError):
    """A training worker raised; the message is its traceback."""


@dataclass(frozen=True)
class WorkerSpec:
    """What each worker of a run gets; pickled to it, so plain values and paths only.

    `builder` imports what is needed to build, which takes seconds, and returns the function that
    does; it is called before `resolve_inputs`, which may have to wait.
    """

    builder: Callable[[], Build]
    recipe: Any
    train: TrainConfig
    resolve_inputs: Callable[[], Any]
    folders: WorkerFolders
    identity: RunIdentity
    progress: Callable[[dict[str, Any]], None]


def _worker(loop_config: Mapping[str, Any]) -> None:
    """Runs on every worker of the TorchTrainer."""
    import torch
    from ray import train as ray_train
    from ray.train.torch import get_device

    spec: WorkerSpec = loop_config["spec"]
    build = spec.builder()
    from momo_platform.training.diagnostics import pci_address
    from momo_platform.training.loop import Trainer

    context = ray_train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    scaling = spec.train.scaling
    workers_here = context.get_local_world_size()
    cores = max(1, usable_cores() // workers_here)  # before it is pinned to its own
    if scaling.num_workers:  # else the process outlives the stage, and what follows wants all cores
        near = cores_near(pci_address(get_device()))
        pin_cores(near, context.get_local_rank(), workers_here, split=scaling.pin_cores)
    torch.set_num_threads(scaling.threads_per_worker or cores)
    if get_device().type == "cpu":
        keep_freed_memory()
    torch.manual_seed(spec.train.seed)
    inputs = spec.resolve_inputs()
    started = time.perf_counter()  # the wall clock may be set meanwhile
    setup = build(spec.recipe, inputs, spec.train, rank, world_size, cores)
    with spec.folders.open(writes=rank == 0) as (output, checkpoints):
        trainer = Trainer(
            setup,
            spec.train,
            checkpoints,
            rank=rank,
            device=get_device(),
            progress=spec.progress if rank == 0 else lambda _: None,
            identity=spec.identity,
        )
        record = trainer.run()
        task = trainer.finish()
        if rank == 0:
            if trainer.best.checkpoint is not None:
                (output / LAST).mkdir()
                setup.save(task, output / LAST)
                trainer.best.load(trainer.task)
            setup.save(task, output)
            for name in (FILE_NAME, PROFILE_FILE_NAME):
                if (checkpoints / name).exists():
                    shutil.copyfile(checkpoints / name, output / name)
            keep_files(checkpoints, output)
            seconds = time.perf_counter() - started
            result = _result(trainer, seconds, world_size, record)
            (output / _RESULT).write_text(json.dumps(result), encoding="utf-8")
    if not scaling.num_workers:
        give_freed_memory_back()


def _result(
    trainer: Trainer, seconds: float, world_size: int, record: Mapping[str, float]
) -> dict[str, Any]:
    """The stage's metrics; `record` is the last one of the log."""
    result = {
        "parameters": sum(p.numel() for p in trainer.setup.task.parameters()),
        "resumed_at_step": trainer.start_step,
        "steps": trainer.config.steps,
        "steps_skipped": trainer.skipped,
        "seconds_training": seconds,
        "world_size": world_size,
        "last": record,
    }
    plan = trainer.validation.plan
    if plan.every_steps:
        result["seconds_validating"] = trainer.validation.seconds
        result["validation"] = {"every_steps": plan.every_steps, "rows": plan.rows()}
    if trainer.best.record:
        result["best"] = trainer.best.record
    if trainer.config.scaling.compile:
        result["seconds_compiling"] = trainer.seconds_compiling()
    return result


def _torch_trainer(spec: WorkerSpec, ray_folder: Path) -> Any:
    """A TorchTrainer that runs `_worker` once."""
    from ray.train import RunConfig
    from ray.train import ScalingConfig as RayScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    scaling = spec.train.scaling
    resources = {"CPU": scaling.cpus_per_worker}
    if scaling.gpus_per_worker:
        resources["GPU"] = scaling.gpus_per_worker
    callbacks = []
    if scaling.num_workers:
        # Every worker handles SIGTERM, and a group saves its step before it gets another size.
        hooks = interrupt.install, interrupt.leave
        callbacks.append(worker_group_callback(*hooks, _RESIZE_SECONDS))
    return TorchTrainer(
        _worker,
        train_loop_config={"spec": spec},
        torch_config=TorchConfig(
            backend=None if scaling.backend == "auto" else scaling.backend,
            timeout_s=round(60 * scaling.collective_timeout_minutes),
        ),
        scaling_config=RayScalingConfig(
            num_workers=(
                (scaling.min_workers, scaling.num_workers)
                if scaling.min_workers
                else scaling.num_workers
            ),
            elastic_resize_monitor_interval_s=scaling.resize_check_seconds,
            use_gpu=scaling.gpus_per_worker > 0,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(
            name=f"{spec.identity.name}-{time.time_ns()}",
            storage_path=str(ray_folder),
            callbacks=callbacks,
        ),
    )


def run_torch_trainer(
    *,
    builder: Callable[[], Build],
    recipe: Any,
    train: TrainConfig,
    resolve_inputs: Callable[[], Any],
    context: Any,
) -> dict[str, Any]:
    """Train on Ray and return the run's metrics. `context` is the stage's `Context`.

    A worker that dies of its machine (killed, node lost) or meets a fault of its device or of a
    collective (`faults`) restarts the group at the newest checkpoint, up to `scaling.max_restarts`
    times; an exception of the code never does. Too little memory on a device is a `UserError`.
    A worker asked to leave (SIGTERM) makes the group save its step first.
    With `scaling.num_workers` 0 the loop runs in this process (TorchTrainer's local mode); if the
    process dies, the executor starts the stage again.
    Raises the first failing worker's error.
    """
    from ray.train import TrainingFailedError

    scaling = train.scaling
    folders: WorkerFolders = SharedFolders(context.output, context.checkpoints)
    if scaling.num_workers and context.folders is not None:
        folders = context.folders
    run = RunIdentity(context.name, context.fingerprint, recipe)
    spec = WorkerSpec(builder, recipe, train, resolve_inputs, folders, run, context.progress)
    ray_folder = context.checkpoints / "ray-train"
    if not scaling.num_workers:
        interrupt.install()
    for attempt in range(scaling.max_restarts + 1):
        trainer = _torch_trainer(spec, ray_folder)
        try:
            trainer.fit()
            break
        except TrainingFailedError as error:
            first = first_worker_error(error)
            if attempt == scaling.max_restarts or not _is_lost(first):
                raise _told(first, context.name) from None
            logger.warning("worker lost (%s); restarting from the newest checkpoint", first)
            context.progress(_again(f"worker lost, restart {attempt + 1}"))
        except TrainingInterrupted:  # of this process
            if attempt == scaling.max_restarts:
                raise
            context.progress(_again(f"asked to leave, restart {attempt + 1}"))
            interrupt.install()
        except RuntimeError as error:  # of this process
            if fault_of(error) != "memory":
                raise
            raise out_of_memory(error, context.name) from error
    shutil.rmtree(ray_folder, ignore_errors=True)
    folders.collect()
    result = json.loads((context.output / _RESULT).read_text(encoding="utf-8"))
    (context.output / _RESULT).unlink()
    return result


def _is_lost(error: BaseException) -> bool:
    """Whether a worker's error may go well at a second try."""
    from ray.exceptions import RayActorError

    if isinstance(error, RayActorError) or isinstance(cause_of(error), TrainingInterrupted):
        return True
    return fault_of(error) in ("machine", "peer")


def _told(error: BaseException, name: str) -> BaseException:
    """What the stage raises for a worker's error."""
    cause = cause_of(error)
    if isinstance(cause, UserError | OSError):  # the executor tells or tries again
        return cause
    return out_of_memory(error, name) if fault_of(error) == "memory" else WorkerFailed(str(error))


def _again(message: str) -> dict[str, Any]:
    """Progress of a group that starts again: until its first step no stage may start beside it."""
    return {"message": message, "first_step_at": None}
