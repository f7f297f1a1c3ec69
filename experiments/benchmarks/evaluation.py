"""What evaluation costs at full size: retrieval among 100,000 vectors, a probe of 50,000 features.

    python experiments/benchmarks/evaluation.py [--quick] [--only WORD]

Every run in a process of its own, random data: 100,000 pictures and as many texts, 256 wide, both
directions; 40,000 + 5,000 + 5,000 rows of 768 features in 10 classes with the whole path of
regularisation. Peers are the limits: a minute, 2 GB. About 10 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import numpy as np

from experiments.benchmarks.harness import Row, compare, document

VECTORS, EMBEDDING = 100_000, 256
ROWS, FEATURES, CLASSES = 50_000, 768, 10


def retrieve() -> None:
    """Both directions."""
    from momo.evaluation.retrieval import zero_shot_retrieval

    g = np.random.default_rng(0)
    images = g.standard_normal((VECTORS, EMBEDDING), dtype=np.float32)
    texts = images + 2 * g.standard_normal((VECTORS, EMBEDDING), dtype=np.float32)
    for vectors in (images, texts):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups = g.permutation(VECTORS)
    order = g.permutation(VECTORS)
    started = time.perf_counter()
    zero_shot_retrieval(images, texts[order], groups, groups[order])
    report(time.perf_counter() - started)


def probe() -> None:
    """With the choice of the regularisation."""
    from momo.evaluation.probe import linear_probe

    g = np.random.default_rng(0)
    labels = g.integers(0, CLASSES, ROWS)
    centres = g.standard_normal((CLASSES, FEATURES), dtype=np.float32)
    features = 0.12 * centres[labels] + g.standard_normal((ROWS, FEATURES), dtype=np.float32)
    parts = [
        (features[a:b], labels[a:b]) for a, b in ((0, 40_000), (40_000, 45_000), (45_000, ROWS))
    ]
    started = time.perf_counter()
    linear_probe(*parts)
    report(time.perf_counter() - started)


def report(seconds: float) -> None:
    """To the process that measures."""
    import torch

    from momo_platform.training.diagnostics import peak_memory_bytes

    memory = peak_memory_bytes(torch.device("cpu")) / 2**20
    print(json.dumps({"seconds": seconds, "memory": memory}))


PARTS = {"retrieval": retrieve, "probe": probe}


def measure(name: str, runs: int) -> list[Row]:
    """Rows of one part."""
    found = []
    for run in range(runs):
        done = subprocess.run(
            [sys.executable, __file__, "--run", name], capture_output=True, text=True, check=True
        )
        found.append(json.loads(done.stdout))
        print(f"{name} {run + 1}/{runs}: {found[-1]}", file=sys.stderr, flush=True)
    seconds, memory = ([f[key] for f in found] for key in ("seconds", "memory"))
    what = {
        "retrieval": f"{VECTORS:,} × {VECTORS:,} vectors of {EMBEDDING}, both ways",
        "probe": f"{ROWS:,} × {FEATURES} features, {CLASSES} classes",
    }[name]
    rows = [
        compare(f"{name}: {what}", seconds, "a minute", [60.0], unit="s", largest_ratio=1.0),
    ]
    if name == "retrieval":
        rows.append(
            compare(
                "retrieval: peak memory", memory, "2 GB", [2000.0], unit="MB", largest_ratio=1.0
            )
        )
    return rows


def main() -> int:
    """Print the JSON document; exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one run: a test of the script")
    parser.add_argument("--only", default="", help=" or ".join(PARTS))
    parser.add_argument("--run", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        PARTS[options.run]()
        return 0
    runs = 1 if options.quick else 5
    rows = [row for name in PARTS if options.only in name for row in measure(name, runs)]
    print(document(rows))
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
