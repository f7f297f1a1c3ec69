"""How fast the model encodes and trains, beside transformers' FLAVA and ViT-MAE at base size.

    python experiments/benchmarks/model.py [--quick] [--only WORD]

fp32 on CPUs, bf16 autocast on a GPU; the machine line says which. Random weights: speed does not
depend on them. FLAVA in transformers has no SDPA attention, ViT-MAE has. "77 tokens" are 77 real
tokens for both; at "16 tokens" FLAVA's text is padded to 77, as its processor does, and ours is
cut to the longest text of the batch. FLAVA's update computes an image codebook for its targets:
the rows "without codebook" pass it ready targets. About 25 minutes on two cores.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from functools import cache, partial

import torch

from experiments.benchmarks.harness import Row, compare, in_a_process, main
from experiments.benchmarks.updates import (
    BASE,
    DEVICE,
    LONG,
    PATCHES,
    beside,
    flava_pair_updater,
    mae_updater,
    momo_pair_updater,
    on_device,
    pair_encoders,
    product_rate,
    random_batch,
    rates,
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


def inference_rows(quick: bool, rows: int = 32) -> list[Row]:
    """Joint encoding of pairs, in evaluation mode."""
    goals = {LONG: 1.65, SHORT: 2.5}
    calls = pair_encoders(rows, tuple(goals))
    found: list[Row] = []
    for real, goal in goals.items():
        pairs = rates(rows, _runs(quick), calls[real])
        found.append(
            compare(
                f"pair inference, base, {real} tokens, batch {rows}",
                pairs["ours"],
                "FlavaModel",
                pairs["FlavaModel"],
                unit="pairs/s",
                least_ratio=goal,
            )
        )
        flops = encoder_flops(1, 1 + PATCHES + real) / 1e9
        found.append(
            compare(
                f"share of the machine's GEMM rate, {real} tokens",
                [flops * rate for rate in pairs["ours"]],
                "large matrix products",
                [gemm_rate()],
                unit="GFLOP/s",
                least_ratio=0.9,
            )
        )
    return found


def pair_update_rows(quick: bool, rows: int = 4) -> list[Row]:
    """Stage 3's update beside FLAVA's."""
    found = []
    for real, goal in ((LONG, 1.7), (SHORT, 2.2)):
        calls = {
            "ours": momo_pair_updater(rows, real),
            "FLAVA": flava_pair_updater(rows, real, codebook=True),
            "FLAVA without codebook": flava_pair_updater(rows, real, codebook=False),
        }
        pairs = rates(rows, _runs(quick), calls)
        for peer in ("FLAVA", "FLAVA without codebook"):
            found.append(
                compare(
                    f"stage-3 update, base, {real} tokens, batch {rows}",
                    pairs["ours"],
                    f"FlavaForPreTraining{peer.removeprefix('FLAVA')}",
                    pairs[peer],
                    unit="pairs/s",
                    least_ratio=goal if peer == "FLAVA" else None,
                )
            )
        del calls
        gc.collect()
    return found


def mim_rows(quick: bool, rows: int = 16) -> list[Row]:
    """Stage 1's update beside ViT-MAE's."""
    task = on_device(lambda: MoMoTask(build_model(BASE), TaskConfig(modalities=("image",))))
    host = random_batch(BASE, "image", rows)
    batch = {k: torch.from_numpy(v).to(DEVICE) for k, v in host.items()}
    calls = {
        "ours": updater(task, lambda: sum_of(task("image", batch))),
        "ViTMAEForPreTraining": mae_updater(rows),
    }
    name = f"MIM update, base, batch {rows}"
    return [beside(name, rows, _runs(quick), calls, unit="pictures/s", least_ratio=1.1)]


MEMORY_CALLS: dict[str, Callable[[int, int], Callable[[], None]]] = {
    "ours": momo_pair_updater,
    "ours, elementwise checkpointing": partial(momo_pair_updater, recompute=True),
    "FLAVA": partial(flava_pair_updater, codebook=True),
}


def memory_here(name: str, rows: int, real: int) -> float:
    """For a process of its own: MB at the peak of two updates."""
    update = MEMORY_CALLS[name](rows, real)
    update()
    update()
    return peak_memory_bytes(DEVICE) / 2**20


peak_memory = cache(partial(in_a_process, memory_here))


def memory_rows(quick: bool, rows: int = 4, more: int = 16) -> list[Row]:
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


def _runs(quick: bool) -> int:
    gc.collect()  # what the part before held
    return 1 if quick else 5


if __name__ == "__main__":
    parts = {
        "memory": memory_rows,  # while we are small: FLAVA's process takes 14 GB
        "inference": inference_rows,
        "mim": mim_rows,
        "update": pair_update_rows,
    }
    sys.exit(main(__doc__, parts))
