"""What evaluation costs at full size: retrieval among 100,000 vectors, a probe of 50,000 features.

    python experiments/benchmarks/evaluation.py [--quick] [--only WORD]

Every run in a process of its own, random data: 100,000 pictures and as many texts, 256 wide, both
directions; 40,000 + 5,000 + 5,000 rows of 768 features in 10 classes with the whole path of
regularisation. Peers are the limits: a minute, 2 GB. About 10 minutes on two cores.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

from experiments.benchmarks.harness import Row, compare, in_a_process, in_turn, main

VECTORS, EMBEDDING = 100_000, 256
ROWS, FEATURES, CLASSES = 50_000, 768, 10


def retrieve() -> dict[str, float]:
    """Both directions: seconds, and the process's peak memory in MB."""
    from momo.evaluation.retrieval import zero_shot_retrieval

    g = np.random.default_rng(0)
    images = g.standard_normal((VECTORS, EMBEDDING), dtype=np.float32)
    texts = images + 2 * g.standard_normal((VECTORS, EMBEDDING), dtype=np.float32)
    for vectors in (images, texts):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups = g.permutation(VECTORS)
    order = g.permutation(VECTORS)
    return _measured(lambda: zero_shot_retrieval(images, texts[order], groups, groups[order]))


def probe() -> dict[str, float]:
    """With the choice of the regularisation: as `retrieve`."""
    from momo.evaluation.probe import linear_probe

    g = np.random.default_rng(0)
    labels = g.integers(0, CLASSES, ROWS)
    centres = g.standard_normal((CLASSES, FEATURES), dtype=np.float32)
    features = 0.12 * centres[labels] + g.standard_normal((ROWS, FEATURES), dtype=np.float32)
    parts = [
        (features[a:b], labels[a:b]) for a, b in ((0, 40_000), (40_000, 45_000), (45_000, ROWS))
    ]
    return _measured(lambda: linear_probe(*parts))


def _measured(work: Callable[[], object]) -> dict[str, float]:
    import torch

    from momo_platform.training.diagnostics import peak_memory_bytes

    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "memory": peak_memory_bytes(torch.device("cpu")) / 2**20}


def _taken(work: Callable[[], dict[str, float]], quick: bool) -> tuple[list[float], list[float]]:
    """Seconds and MB of each run."""
    name = work.__name__
    found = in_turn(1 if quick else 5, {name: lambda: in_a_process(work)}, "run")[name]
    return [one["seconds"] for one in found], [one["memory"] for one in found]


def retrieval_rows(quick: bool) -> list[Row]:
    """Beside a minute and 2 GB."""
    seconds, memory = _taken(retrieve, quick)
    name = f"retrieval: {VECTORS:,} × {VECTORS:,} vectors of {EMBEDDING}, both ways"
    return [
        compare(name, seconds, "a minute", [60.0], largest_ratio=1.0),
        compare("retrieval: peak memory", memory, "2 GB", [2000.0], unit="MB", largest_ratio=1.0),
    ]


def probe_rows(quick: bool) -> list[Row]:
    """Beside a minute."""
    seconds, _ = _taken(probe, quick)
    name = f"probe: {ROWS:,} × {FEATURES} features, {CLASSES} classes"
    return [compare(name, seconds, "a minute", [60.0], largest_ratio=1.0)]


if __name__ == "__main__":
    sys.exit(main(__doc__, {"retrieval": retrieval_rows, "probe": probe_rows}))
