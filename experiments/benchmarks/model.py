"""How fast the model encodes and trains, beside transformers' FLAVA and ViT-MAE at base size.

    python experiments/benchmarks/model.py [--quick] [--only WORD]

fp32 on CPUs, bf16 autocast on a GPU; the machine line says which. Random weights: speed does not
depend on them. FLAVA in transformers has no SDPA attention, ViT-MAE has. "77 tokens" are 77 real
tokens for both; at "16 tokens" FLAVA's text is padded to 77, as its processor does, and ours is
cut to the longest text of the batch. FLAVA's update computes an image codebook for its targets:
the rows "without codebook" pass it ready targets. About 25 minutes on two cores.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial

import torch

from experiments.benchmarks.harness import Row, compare, document
from experiments.benchmarks.updates import (
    BASE,
    DEVICE,
    LONG,
    PATCHES,
    flava_pair_updater,
    interleaved,
    mae_updater,
    momo_pair_updater,
    on_device,
    pair_encoders,
    product_rate,
    random_batch,
    sum_of,
    updater,
)
from momo.config import TaskConfig
from momo.model import build_model
from momo.tasks import MoMoTask
from momo_platform.training.diagnostics import peak_memory_bytes

SHORT = 16


def gemm_rate() -> float:
    """GFLOP/s of large matrix products, the median of nine."""
    return product_rate(1576, 768, 3072) / 1e9


def encoder_flops(rows: int, tokens: int, depth: int = 12, width: int = 768) -> float:
    """Multiply-adds × 2 of the blocks: projections, attention, MLP."""
    linear = 2 * tokens * 12 * width**2
    attention = 4 * tokens**2 * width
    return rows * depth * (linear + attention)


def inference_rows(runs: int, rows: int) -> list[Row]:
    """Joint encoding of pairs, in evaluation mode."""

    goals = {LONG: 1.65, SHORT: 2.5}
    calls = pair_encoders(rows, tuple(goals))
    found: list[Row] = []
    for real, goal in goals.items():
        taken = interleaved(runs, calls[real])
        rates = {name: [rows / s for s in values] for name, values in taken.items()}
        found.append(
            compare(
                f"pair inference, base, {real} tokens, batch {rows}",
                rates["ours"],
                "FlavaModel",
                rates["FLAVA"],
                unit="pairs/s",
                least_ratio=goal,
            )
        )
        gemm = gemm_rate()
        flops = encoder_flops(rows, 1 + PATCHES + real) / 1e9
        found.append(
            compare(
                f"share of the machine's GEMM rate, {real} tokens",
                [flops / s for s in taken["ours"]],
                "large matrix products",
                [gemm],
                unit="GFLOP/s",
                least_ratio=0.9,
            )
        )
    return found


def pair_update_rows(runs: int, rows: int) -> list[Row]:
    """Stage 3's update beside FLAVA's."""
    found = []
    for real, goal in ((LONG, 1.7), (SHORT, 2.2)):
        calls = {
            "ours": momo_pair_updater(rows, real),
            "FLAVA": flava_pair_updater(rows, real, codebook=True),
            "FLAVA without codebook": flava_pair_updater(rows, real, codebook=False),
        }
        taken = interleaved(runs, calls)
        rates = {name: [rows / s for s in values] for name, values in taken.items()}
        for peer in ("FLAVA", "FLAVA without codebook"):
            found.append(
                compare(
                    f"stage-3 update, base, {real} tokens, batch {rows}",
                    rates["ours"],
                    f"FlavaForPreTraining{peer.removeprefix('FLAVA')}",
                    rates[peer],
                    unit="pairs/s",
                    least_ratio=goal if peer == "FLAVA" else None,
                )
            )
        del calls
        gc.collect()
    return found


def mim_row(runs: int, rows: int) -> Row:
    """Stage 1's update beside ViT-MAE's."""

    task = on_device(lambda: MoMoTask(build_model(BASE), TaskConfig(modalities=("image",))))
    host = random_batch(BASE, "image", rows)
    batch = {k: torch.from_numpy(v).to(DEVICE) for k, v in host.items()}
    taken = interleaved(
        runs,
        {
            "ours": updater(task, lambda: sum_of(task("image", batch))),
            "ViT-MAE": mae_updater(rows),
        },
    )
    rates = {name: [rows / s for s in values] for name, values in taken.items()}
    return compare(
        f"MIM update, base, batch {rows}",
        rates["ours"],
        "ViTMAEForPreTraining",
        rates["ViT-MAE"],
        unit="pictures/s",
        least_ratio=1.1,
    )


MEMORY_CALLS: dict[str, Callable[[int, int], Callable[[], None]]] = {
    "ours": momo_pair_updater,
    "ours, elementwise checkpointing": partial(momo_pair_updater, recompute=True),
    "FLAVA": lambda rows, real: flava_pair_updater(rows, real, codebook=True),
}


@cache
def peak_memory(name: str, rows: int, real: int) -> float:
    """MB at the peak of two updates, in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", name, str(rows), str(real)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def print_memory(name: str, rows: int, real: int) -> None:
    """For `peak_memory`'s process."""
    update = MEMORY_CALLS[name](rows, real)
    update()
    update()
    print(peak_memory_bytes(DEVICE) / 2**20)


def memory_rows(rows: int, more: int) -> list[Row]:
    """Peak memory of an update: at `rows` pairs weights and moments are most of it, at `more` it
    is activations, as in training."""
    cases = [("ours", rows, LONG), ("ours", rows, SHORT), ("ours", more, LONG)]
    cases.append(("ours, elementwise checkpointing", more, LONG))
    return [
        compare(
            f"peak memory of a stage-3 update, {real} tokens, batch {batch}"
            + name.removeprefix("ours"),
            [peak_memory(name, batch, real)],
            "FlavaForPreTraining",
            [peak_memory("FLAVA", batch, real)],
            unit="MB",
            largest_ratio=0.5,
        )
        for name, batch, real in cases
    ]


def main() -> int:
    """Print the JSON document; exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one run: a test of the script")
    parser.add_argument("--only", default="", help="inference, mim, update or memory")
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        name, batch, real = options.memory_of
        print_memory(name, int(batch), int(real))
        return 0
    runs = 1 if options.quick else 5
    parts: dict[str, Callable[[], list[Row]]] = {
        "memory": lambda: memory_rows(4, 16),  # while we are small: FLAVA's process takes 14 GB
        "inference": lambda: inference_rows(runs, 32),
        "mim": lambda: [mim_row(runs, 16)],
        "update": lambda: pair_update_rows(runs, 4),
    }
    rows: list[Row] = []
    for name, part in parts.items():
        if options.only in name:
            rows += part()
            gc.collect()
    print(document(rows))
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
