"""How long a training stage takes to start and to end, beside a plain TorchTrainer.

Hypothesis: a run's fixed cost is process start and imports; starting the next stage's processes
while the stage before trains hides it. Peer: a TorchTrainer with an empty loop, same workers,
same Ray, in turn with ours. Ours: stage start → first optimizer step, plus last step → stage end,
data and model included; the training in between is left out.

A trial of a sweep: the time from one trial's end to the next one's, where each trains two steps of
preset smoke on shared corpora. Peer: Tune trials that each start a TorchTrainer with an empty loop.

    python experiments/benchmarks/startup.py [--quick] > experiments/results/startup-DATE.json

Cost: about 11 minutes on two cores. Results: experiments/results/.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ray import tune

from experiments.benchmarks.harness import Row, compare, main
from momo_platform.cluster import start_ray
from momo_platform.overrides import with_settings
from momo_platform.silence import silence
from momo_platform.stages import Stage, Storage, make_plan, open_storage
from momo_platform.stages.executor import execute
from momo_platform.stages.status import StageStatus
from momo_platform.sweeps import Settings, Sweep
from momo_platform.sweeps.driver import SweepOptions, run_sweep
from momo_platform.training.config import ScalingConfig
from pipelines.config import PipelineConfig
from pipelines.graph import build_graph
from pipelines.presets import PRESETS


def _empty_loop(config: dict[str, str]) -> None:
    Path(config["mark"]).write_text(str(time.time()), encoding="utf-8")


def _fit_plain(folder: str, workers: int, cpus: float) -> None:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    TorchTrainer(
        _empty_loop,
        train_loop_config={"mark": f"{folder}/mark"},
        scaling_config=ScalingConfig(num_workers=workers, resources_per_worker={"CPU": cpus}),
        run_config=RunConfig(name=f"plain-{time.time_ns()}", storage_path=folder),
    ).fit()


def plain_seconds(folder: str, config: PipelineConfig) -> float:
    """A whole run with an empty loop, in a Ray task as our stages are."""
    import ray

    scaling = config.training["stage1-image"].train.scaling
    task = ray.remote(num_cpus=0)(_fit_plain)
    started = time.perf_counter()
    ray.get(task.remote(folder, scaling.num_workers, scaling.cpus_per_worker))
    return time.perf_counter() - started


class Clock:
    """A display that notes when each stage got its inputs, stepped and ended."""

    def __init__(self) -> None:
        self.started: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.progress: dict[str, dict[str, float]] = {}

    def __call__(self, statuses: list[StageStatus]) -> None:
        for status in statuses:
            name = status.entry.name
            if status.state == "running":
                self.started[name] = status.started
            if status.state == "done":
                self.ended.setdefault(name, time.time())
            self.progress[name] = status.progress

    def overhead(self, name: str) -> float:
        """Seconds from the start to the first step and from the last step to the end."""
        progress = self.progress[name]
        first = progress["first_step_at"] - self.started[name]
        return max(0.0, first) + self.ended[name] - progress["last_step_at"]


def benchmark_config(steps: int) -> PipelineConfig:
    """Preset smoke with `steps` steps a stage: long enough for the next one to be started."""
    config = PRESETS["smoke"]()
    return with_settings(config, {f"training.{n}.train.steps": steps for n in config.training})


def _trials(config: PipelineConfig, arms: range) -> Sweep:
    """Trials that each train stage 1 for two steps, with a rate that no other has."""
    rates = {
        f"rate {i}": {"training.stage1-image.train.optimizer.learning_rate": 1e-4 * (i + 1)}
        for i in arms
    }
    return Sweep(f"fixed-{arms.start}", _stage1, "steps", base=config, arms=rates)


def _stage1(base: PipelineConfig, history: Sequence[Settings], seed: int) -> Stage:
    scaling = ScalingConfig(num_workers=0, cpus_per_worker=1.0, threads_per_worker=1)
    changes = {
        "training.stage1-image.train.steps": 2,
        "training.stage1-image.train.scaling": scaling,
        **history[-1],
    }
    return build_graph(with_settings(base, changes))["stage1-image"]


class Ends(tune.Callback):
    """When each trial ended."""

    times: ClassVar[list[float]] = []

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        self.times.append(time.time())

    def between(self) -> list[float]:
        """Seconds from one end to the next; forgets them."""
        found = [b - a for a, b in itertools.pairwise(self.times)]
        self.times.clear()
        return found


def trial_seconds(storage: Storage, config: PipelineConfig, arms: range) -> float:
    """Our sweep, one trial at a time: the median of all but the first."""
    sweep, ends = _trials(config, arms), Ends()
    options = SweepOptions(storage=storage.uri, concurrency=1, verbose=True)
    run_sweep(sweep, options, callbacks=[ends])
    return statistics.median(ends.between())


def plain_trial_seconds(folder: str, trials: int) -> float:
    """Tune and TorchTrainer with an empty loop and one worker, one trial at a time."""

    def trial(parameters: dict[str, Any]) -> None:
        _fit_plain(folder, 1, 0.5)
        tune.report({"done": 1})

    ends = Ends()
    tune.Tuner(
        tune.with_resources(trial, {"CPU": 0.1}),
        param_space={"number": tune.grid_search(list(range(trials)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(
            name=f"plain-{time.time_ns()}", storage_path=folder, verbose=0, callbacks=[ends]
        ),
    ).fit()
    return statistics.median(ends.between())


def run_once(
    folder: str, storage: Storage, config: PipelineConfig, target: Stage, run: int
) -> dict[str, float]:
    """Seconds of a plain run, of each of our stages, and of a trial of ours and a plain one."""
    found = {"plain": plain_seconds(folder, config)}
    clock = Clock()
    execute(make_plan([target], storage, rerun=["stage*"]), storage, clock)
    found |= {name: clock.overhead(name) for name in config.training}
    found["trial"] = trial_seconds(storage, config, range(run * 4, run * 4 + 4))
    return found | {"plain trial": plain_trial_seconds(folder, 3)}


def rows(quick: bool) -> list[Row]:
    """Stages beside a plain run, a trial beside a plain one."""
    runs, config = 1 if quick else 5, benchmark_config(300)
    names = tuple(config.training)
    taken: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        storage = open_storage(f"{folder}/runs")
        storage.create()
        graph = build_graph(config)
        target = graph[names[-1]]
        inputs = [s for s in target.inputs.values() if s.name not in names]
        inputs.append(graph["mix-image"])
        # `silence` sends standard error to the log: progress goes to a copy of it.
        progress = os.fdopen(os.dup(sys.stderr.fileno()), "w")
        with silence(Path(folder) / "ray.log"), start_ray("local"):
            execute(make_plan(inputs, storage), storage)
            for run in range(runs):
                found = run_once(folder, storage, config, target, run)
                for name, seconds in found.items():
                    taken[name].append(seconds)
                told = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found.items())
                print(f"run {run + 1}/{runs}: {told}", file=progress, flush=True)
    stages = [
        compare(
            f"{name}: start → first step, last step → end",
            taken[name],
            "TorchTrainer with an empty loop",
            taken["plain"],
            largest_ratio=1.3,
            largest_value=None if name == names[0] else 10.0,
        )
        for name in names
    ]
    trial = compare(
        "a trial of a sweep: two steps of training, and all that is not",
        taken["trial"],
        "Tune trial that starts a TorchTrainer with an empty loop",
        taken["plain trial"],
        largest_value=10.0,
    )
    return [*stages, trial]


if __name__ == "__main__":
    sys.exit(main(__doc__, {"": rows}))
