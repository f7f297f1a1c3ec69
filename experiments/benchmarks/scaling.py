"""Time and memory of an update against batch size, sequence length and model size.

    python experiments/benchmarks/scaling.py [--quick] [--plots docs/figures] > RESULT.json

Masked language modelling with AdamW, fp32, one process with all cores a point. The cost of a token
should not depend on the batch: the row's peer is the cheapest batch size. `--plots` writes SVGs.
About 6 minutes on two cores.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.harness import Row, compare, finish, in_a_process, parser, say

UPDATES = 5
BATCHES = (1, 2, 4, 8, 16, 32, 64)
LENGTHS = (32, 64, 128, 256, 512)
MODELS = ("demo", "small", "base")


def measure_here(size: str, rows: int, length: int, updates: int) -> dict[str, Any]:
    """For a process of its own: seconds a token of each update, peak memory, parameters."""
    import torch

    from experiments.benchmarks.updates import random_batch
    from momo.config import SIZES, TaskConfig
    from momo.model import build_model
    from momo.tasks import MoMoTask
    from momo_platform.training.diagnostics import peak_memory_bytes
    from momo_platform.training.feed import to_tensors

    task = MoMoTask(build_model(SIZES[size]), TaskConfig(modalities=("text",)))
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], fused=True)
    batch: Any = to_tensors(random_batch(SIZES[size], "text", rows, length))
    seconds = []
    for _ in range(updates + 1):
        started = time.perf_counter()
        loss = task("text", batch)["mlm"]
        (loss.sum / loss.count).backward()
        forward_backward = time.perf_counter() - started
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(forward_backward / (rows * length))
    return {
        "seconds_per_token": seconds[1:],
        "peak_memory_mb": peak_memory_bytes(torch.device("cpu")) / 2**20,
        "parameters": sum(p.numel() for p in task.parameters() if p.requires_grad),
    }


def measure(size: str, rows: int, length: int, updates: int) -> dict[str, Any]:
    """`measure_here` in a new process."""
    found = in_a_process(measure_here, size, rows, length, updates)
    say(f"{size}, batch {rows}, length {length}: done")
    return found


def median_us(point: Mapping[str, list[float]]) -> float:
    """Microseconds a token."""
    return 1e6 * statistics.median(point["seconds_per_token"])


def plot(points: Mapping[float, float], title: str, x: str, y: str, file: Path) -> None:
    """One curve over a logarithmic axis, as an SVG with a value at every point."""
    width, height, left, base, top = 480, 240, 56, 200, 40
    xs = [math.log(v) for v in points]
    x_span, y_most = (max(xs) - min(xs)) or 1.0, max(points.values()) * 1.1
    places = [
        (left + (a - min(xs)) / x_span * (width - left - 40), base - v / y_most * (base - top))
        for a, v in zip(xs, points.values(), strict=True)
    ]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{left}" y="18" font-size="13">{title}</text>',
        f'<text x="{left}" y="32" fill="#666">{y}</text>',
        f'<path d="M{left} {top}V{base}H{width - 16}" stroke="#888" fill="none"/>',
        f'<text x="{width - 16}" y="{height - 6}" text-anchor="end" fill="#666">{x}</text>',
        '<polyline fill="none" stroke="#2f6fde" stroke-width="2" points="'
        + " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        + '"/>',
    ]
    for (a, b), (value, found) in zip(places, points.items(), strict=True):
        parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="#2f6fde"/>')
        parts.append(f'<text x="{a:.1f}" y="{b - 8:.1f}" text-anchor="middle">{found:.3g}</text>')
        parts.append(f'<text x="{a:.1f}" y="{base + 14}" text-anchor="middle">{value:g}</text>')
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def curves(updates: int) -> dict[str, dict[float, dict]]:
    """All points by what they are measured against."""
    return {
        "batch": {n: measure("small", n, 64, updates) for n in BATCHES},
        "length": {n: measure("small", max(1, 2048 // n), n, updates) for n in LENGTHS},
        "model": {
            point["parameters"] / 1e6: point
            for point in (measure(name, 16, 64, updates) for name in MODELS)
        },
    }


def plots(found: Mapping[str, Mapping[float, dict]], folder: Path) -> None:
    """Six SVGs."""
    axes = {
        "batch": "batch, texts of 64 tokens (small)",
        "length": "tokens a text, 2,048 tokens a batch (small)",
        "model": "million trained parameters, 16 texts of 64 tokens",
    }
    for name, points in found.items():
        time = {n: median_us(p) for n, p in points.items()}
        memory = {n: p["peak_memory_mb"] for n, p in points.items()}
        plot(time, f"Time against {name}", axes[name], "µs a token", folder / f"time-{name}.svg")
        title = f"Peak memory against {name}"
        plot(memory, title, axes[name], "MB, the process", folder / f"memory-{name}.svg")


def result_rows(found: Mapping[str, Mapping[float, dict]]) -> Sequence[Row]:
    """Costs of a token by batch beside the cheapest; the other points beside their first."""
    best = min(found["batch"].values(), key=median_us)
    rows = []
    for name, points in found.items():
        first = best if name == "batch" else next(iter(points.values()))
        for value, point in points.items():
            flat = name == "batch" and value >= 8
            us, peer = ([1e6 * s for s in p["seconds_per_token"]] for p in (point, first))
            rows.append(
                compare(
                    f"µs a token, {name} {value:.3g}",
                    us,
                    "the cheapest batch" if name == "batch" else f"the least {name}",
                    peer,
                    unit="µs",
                    largest_ratio=1.25 if flat else None,
                )
            )
            memory = [point["peak_memory_mb"]], [first["peak_memory_mb"]]
            title = f"peak memory, {name} {value:.3g}"
            rows.append(compare(title, memory[0], f"{rows[-1].peer}", memory[1], unit="MB"))
    return rows


def main() -> int:
    """Print the JSON document; exit code 1 when a goal is missed."""
    options = parser(__doc__)
    options.add_argument("--plots", type=Path, help="folder for SVGs")
    given = options.parse_args()
    found = curves(1 if given.quick else UPDATES)
    if given.plots:
        plots(found, given.plots)
    return finish(result_rows(found))


if __name__ == "__main__":
    sys.exit(main())
