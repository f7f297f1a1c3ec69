"""What base and large would cost on 1 to 256 GPUs, and how far such a forecast can be trusted.

    python experiments/benchmarks/scale.py [--gpu A100] [--mfu 0.35] [--price DOLLARS_A_GPU_HOUR]
        [--plots docs/figures] > RESULT.json

The forecast is `pipelines/scaling.py`'s: computing by the config's FLOP, gradients by a ring
all-reduce over the links' speeds. It is checked here: two gloo processes on this machine train at
equal work a process; from their step beside each other without communication, the gradients' size
and the speed of an all-reduce of another size, the same formula foretells their step together.
About 3 minutes on two cores; the forecast itself is assumed, never measured on a GPU.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.harness import Row, compare, finish, parser, say, started
from experiments.scaling_law import chart
from momo_platform.charts import standalone
from pipelines.estimates import device_named
from pipelines.presets import PRESETS
from pipelines.scaling import Point, counts_up_to, project, ring_seconds
from pipelines.training import StageRecipe

SIZE, ROWS, LENGTH = "small", 8, 64
RUNS, STEPS = 5, 3
_HOPS, _PROBE_BYTES = (1e-5, 2**24)
MOST_GPUS = 256


def _seconds(work: Callable[[], object], steps: int) -> float:
    begun = time.perf_counter()
    for _ in range(steps):
        work()
    return (time.perf_counter() - begun) / steps


def measure_rank(rank: int, meeting: str, runs: int) -> None:
    """One of two processes; the first prints each run's seconds by phase, a JSON line each."""
    import torch
    import torch.distributed as dist

    from experiments.benchmarks.updates import random_batch
    from momo.config import SIZES, TaskConfig
    from momo.model import build_model
    from momo.tasks import MoMoTask
    from momo_platform.training.feed import to_tensors
    from momo_platform.training.parallel import parallelise
    from momo_platform.training.task import TouchedTask

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    config = SIZES[SIZE]
    task = MoMoTask(build_model(config), TaskConfig(modalities=("text",)))
    module: Any = parallelise(TouchedTask(task, False), task, "ddp")
    batch = to_tensors(random_batch(config, "text", ROWS, LENGTH, seed=rank))
    gradients = sum(4 * p.numel() for p in task.parameters() if p.requires_grad)
    probe = torch.zeros(_PROBE_BYTES // 4)

    def step() -> None:
        parts, touched = module("text", batch, True)  # every parameter, as a step's last part
        loss = parts["mlm"].total / parts["mlm"].terms
        (loss + touched).backward()
        module.zero_grad(set_to_none=False)

    def apart() -> None:
        with module.no_sync():
            step()

    def phase(work: Callable[[], object], alone: bool = False) -> float:
        dist.barrier()
        found = 0.0 if alone and rank else _seconds(work, STEPS)
        dist.barrier()
        return found

    step()
    apart()
    for _ in range(runs):
        found = {
            "alone": phase(apart, alone=True),
            "beside": phase(apart),
            "together": phase(step),
            "probe": phase(lambda: dist.all_reduce(probe)),
            "gradients": gradients,
        }
        if not rank:
            print(json.dumps(found), flush=True)
    dist.barrier()
    os._exit(0)


def measure(runs: int) -> list[dict[str, float]]:
    """Both processes; the first one's seconds of every run."""
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        ranks = [started(measure_rank, rank, meeting, runs) for rank in (0, 1)]
        output, _ = ranks[0].communicate()
        if any(rank.wait() for rank in ranks):
            raise SystemExit("a measuring process failed; its error is above")
    return [json.loads(line) for line in output.splitlines()]


def foretold(run: dict[str, float]) -> float:
    """The step together, from the phases without it: gloo computes on the processes' own cores, so
    that nothing is hidden."""
    bandwidth = _PROBE_BYTES / (run["probe"] - 2 * _HOPS)  # 2 (n - 1) / n is 1 for two
    return run["beside"] + ring_seconds(run["gradients"], 2, bandwidth, _HOPS)


def check_rows(found: Sequence[dict[str, float]]) -> list[Row]:
    """The forecast beside what was measured, and what two processes make of two cores."""
    together = [run["together"] for run in found]
    return [
        compare(
            "step of two processes, foretold",
            [foretold(run) for run in found],
            "measured",
            together,
            largest_ratio=1.15,
            least_ratio=0.85,
        ),
        compare(
            "efficiency of two processes at equal work each",
            [run["alone"] / run["together"] for run in found],
            "without communication",
            [run["alone"] / run["beside"] for run in found],
            unit="of one process",
        ),
    ]


def projections(gpu: str, mfu: float) -> dict[str, list[list[Point]]]:
    """Preset → for each number of GPUs its stages."""
    device = device_named(gpu)
    found = {}
    for preset in ("base", "large"):
        config = PRESETS[preset]()
        recipes = {
            name: StageRecipe(config.model, stage.task, stage.train, config.pair_text_length)
            for name, stage in config.training.items()
        }
        found[preset] = [
            [
                project(name, recipe, config.packed_text_length, count, device, mfu)
                for name, recipe in recipes.items()
            ]
            for count in counts_up_to(MOST_GPUS)
        ]
    return found


def summary(points: Sequence[Point], memory: float, price: float | None) -> dict[str, Any]:
    """One preset on one number of GPUs, all stages."""
    hours, gpus = sum(p.hours for p in points), points[0].gpus
    told: dict[str, Any] = {
        "gpus": gpus,
        "hours": round(hours, 2),
        "gpu_hours": round(hours * gpus, 1),
        "efficiency": round(sum(p.computing * p.steps for p in points) / hours / 3600, 4),
        "sent_tb_a_gpu": round(sum(p.sent * p.steps for p in points) / 1e12, 3),
        "sent_tb": round(sum(p.sent * p.steps for p in points) * gpus / 1e12, 2),
        "memory_gb": round(max(p.memory for p in points) / 1e9, 1),
        "fits": max(p.memory for p in points) <= 0.9 * memory,
    }
    if price is not None:
        told["dollars"] = round(hours * gpus * price)
    return told


def plot(found: Mapping[str, Sequence[Sequence[Point]]], gpu: str, file: Path) -> None:
    """Hours by number of GPUs, a line a preset, as SVG."""
    hours = {
        preset: {float(points[0].gpus): [sum(p.hours for p in points)] for points in by_count}
        for preset, by_count in found.items()
    }
    drawn = chart(hours, {}, f"GPUs ({gpu})", "hours of training, all stages")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(standalone(drawn), encoding="utf-8")


def main() -> int:
    """Print the JSON document; exit code 1 when the forecast misses this machine."""
    options = parser(__doc__)
    options.add_argument("--gpu", default="A100")
    options.add_argument("--mfu", type=float, default=0.35)
    options.add_argument("--price", type=float, help="dollars a GPU hour; without it no costs")
    options.add_argument("--plots", type=Path, help="folder for SVGs")
    given = options.parse_args()
    rows = check_rows(measure(1 if given.quick else RUNS))
    found = projections(given.gpu, given.mfu)
    memory = device_named(given.gpu).memory
    if given.plots:
        plot(found, given.gpu, given.plots / "scale-hours.svg")
    say(f"foretold / measured {rows[0].ratio:.3f}")
    return finish(
        rows,
        assumed={"gpu": given.gpu, "mfu": given.mfu, "price": given.price},
        projection={
            preset: [summary(points, memory, given.price) for points in by_count]
            for preset, by_count in found.items()
        },
    )


if __name__ == "__main__":
    sys.exit(main())
