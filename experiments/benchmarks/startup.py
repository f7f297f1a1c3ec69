"""How long a training stage takes to start and to end, beside a plain TorchTrainer.

Hypothesis: a run's fixed cost is process start and imports; starting the next stage's processes
while the stage before trains hides it. Peer: a TorchTrainer with an empty loop, same workers,
same Ray, in turn with ours. Ours: stage start → first optimizer step, plus last step → stage end,
data and model included; the training in between is left out.

    python experiments/benchmarks/startup.py [--quick] > experiments/results/startup-DATE.json

Cost: about 8 minutes on two cores. Results: experiments/results/.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from experiments.benchmarks.harness import compare, document
from momo_platform.cluster import start_ray
from momo_platform.console import silence
from momo_platform.stages import Storage, make_plan
from momo_platform.stages.executor import StageStatus, execute
from pipelines.config import PipelineConfig
from pipelines.graph import TRAINING_STAGES, build_graph
from pipelines.presets import PRESETS


def _empty_loop(config: dict[str, str]) -> None:
    Path(config["mark"]).write_text(str(time.time()))


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

    scaling = config.stage1.train.scaling
    task = ray.remote(num_cpus=0)(_fit_plain)
    started = time.time()
    ray.get(task.remote(folder, scaling.num_workers, scaling.cpus_per_worker))
    return time.time() - started


class Clock:
    """A view that notes when each stage got its inputs, stepped and ended."""

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
    for name in ("stage1", "stage2", "stage3"):
        stage = getattr(config, name)
        changed = replace(stage, train=replace(stage.train, steps=steps))
        config = replace(config, **{name: changed})
    return config


def main() -> int:
    """Print the JSON document; exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one run: a test of the script")
    options = parser.parse_args()
    runs = 1 if options.quick else 5
    config = benchmark_config(300)
    ours: dict[str, list[float]] = {name: [] for name in TRAINING_STAGES}
    plain: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(f"{folder}/runs")
        storage.create()
        graph = build_graph(config)
        target = graph[TRAINING_STAGES[-1]]
        inputs = [s for s in target.inputs.values() if s.name not in TRAINING_STAGES]
        inputs.append(graph["mix-images"])
        # `silence` sends standard error to the log: progress goes to a copy of it.
        progress = os.fdopen(os.dup(sys.stderr.fileno()), "w")
        with silence(Path(folder) / "ray.log"), start_ray("local"):
            execute(make_plan(inputs, storage), storage)
            for run in range(runs):
                plain.append(plain_seconds(folder, config))
                clock = Clock()
                execute(make_plan([target], storage, rerun=["stage*"]), storage, clock)
                for name in TRAINING_STAGES:
                    ours[name].append(clock.overhead(name))
                print(
                    f"run {run + 1}/{runs}: plain {plain[-1]:.1f} s, "
                    + ", ".join(f"{name} {values[-1]:.1f} s" for name, values in ours.items()),
                    file=progress,
                    flush=True,
                )
    rows = [
        compare(
            f"{name}: start → first step, last step → end",
            values,
            "TorchTrainer with an empty loop",
            plain,
            largest_ratio=1.3,
            largest_value=None if index == 0 else 10.0,
        )
        for index, (name, values) in enumerate(ours.items())
    ]
    print(document(rows))
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
