"""How fast the device multiplies and copies, and what share of that the stages' updates reach."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch

from experiments.benchmarks.gpu_parts.setting import Cases, Setting
from experiments.benchmarks.gpu_parts.stages import StageUpdate, stage_of, stage_update
from experiments.benchmarks.harness import Row, compare
from experiments.benchmarks.updates import (
    CUDA,
    DEVICE,
    interleaved,
    product_rate,
    synchronize,
)
from momo_platform.training.config import ActivationCheckpointing
from momo_platform.training.diagnostics import peak_flops, peak_memory_bytes

EAGER, COMPILED = 0.38, 0.45  # least MFU of the GEMM rate
_PLANNED = 0.85  # of a device's memory, for what is planned


@cache
def gemm_rate() -> float:
    """TFLOP/s of large products in bf16 (fp32 on CPUs): what the MFU is a share of."""
    side = 8192 if CUDA else 512
    return product_rate(side, side, side, dtype=torch.bfloat16 if CUDA else None) / 1e12


def _product_rows(setting: Setting) -> Iterator[Row]:
    peak = peak_flops(DEVICE)
    yield compare(
        "ceilings: large matrix products, bf16" if CUDA else "ceilings: products, fp32",
        [gemm_rate()],
        "data sheet" if peak else "itself",
        [peak / 1e12 if peak else gemm_rate()],
        unit="TFLOP/s",
    )
    width = setting.model.width
    tokens = setting.stage_rows[1].get("image", 1) * 50
    for inner, columns in ((width, 4 * width), (4 * width, width), (width, width)):
        rate = product_rate(tokens, inner, columns, dtype=torch.bfloat16 if CUDA else None)
        yield compare(
            f"ceilings: products [{tokens}, {inner}] × [{inner}, {columns}]",
            [rate / 1e12],
            "large matrix products",
            [gemm_rate()],
            unit="TFLOP/s",
        )
    if CUDA:
        yield compare(
            "ceilings: large matrix products, fp32",
            [product_rate(8192, 8192, 8192, repeat=3, dtype=torch.float32) / 1e12],
            "in bf16",
            [gemm_rate()],
            unit="TFLOP/s",
        )


def _copy_rows(setting: Setting) -> Iterator[Row]:
    size = 2**20 if setting.quick else 2**28
    pageable = torch.ones(size, dtype=torch.uint8)
    there = torch.empty(size, dtype=torch.uint8, device=DEVICE)
    other = torch.empty_like(there)
    pinned = pageable.pin_memory() if CUDA else pageable.clone()
    calls: dict[str, Callable[[], Any]] = {
        "within the device": lambda: other.copy_(there),
        "from pinned memory": lambda: there.copy_(pinned, non_blocking=True),
        "from pageable memory": lambda: there.copy_(pageable),
        "to pinned memory": lambda: pinned.copy_(there, non_blocking=True),
    }
    taken = interleaved(5, calls)
    rates = {name: [size / s / 1e9 for s in values] for name, values in taken.items()}
    first = next(iter(calls))
    for name, found in rates.items():
        yield compare(f"ceilings: copies {name}", found, first, rates[first], unit="GB/s")


def ceilings(setting: Setting) -> Cases:
    """Products and copies."""
    return {"products": partial(_product_rows, setting), "copies": partial(_copy_rows, setting)}


def free_memory() -> None:
    """What an earlier case held; its peak is forgotten."""
    gc.collect()
    if CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def fitting(setting: Setting, number: int, **options: Any) -> StageUpdate:
    """The stage without checkpointing where the plan says that it fits, else `elementwise`."""
    update = stage_update(setting, number, **options)
    if not CUDA or update.planned_memory < _PLANNED * torch.cuda.mem_get_info()[1]:
        return update
    del update
    free_memory()
    return stage_update(setting, number, checkpointing="elementwise", **options)


def update_rows(
    setting: Setting, what: str, number: int, make: Callable[[], StageUpdate], least: float | None
) -> Iterator[Row]:
    """MFU, samples/s and peak memory of an update."""
    free_memory()
    update = make()
    started = time.perf_counter()
    update()
    synchronize()
    first = time.perf_counter() - started
    taken = interleaved(setting.runs, {what: update}, warm_ups=2, at_least=setting.run_seconds)[
        what
    ]
    rows = setting.stage_rows[number]
    name = f"{what}: stage {number}, " + ", ".join(f"{n} {m}" for m, n in rows.items())
    rates = [update.flops / s / 1e12 for s in taken]
    yield compare(
        f"{name}: model FLOP/s (the ratio is the MFU)",
        rates,
        "large matrix products",
        [gemm_rate()],
        unit="TFLOP/s",
        least_ratio=least,
    )
    if peak := peak_flops(DEVICE):
        yield compare(f"{name}: model FLOP/s", rates, "data sheet", [peak / 1e12], unit="TFLOP/s")
    samples = sum(rows.values())
    yield compare(
        f"{name}: seconds of the first update, with all that is made once",
        [first],
        "of a later one",
        taken,
    )
    yield compare(
        f"{name}: samples a second",
        [samples / s for s in taken],
        "itself",
        [samples / s for s in taken],
        unit="samples/s",
    )
    yield compare(
        f"{name}: peak memory",
        [peak_memory_bytes(DEVICE) / 1e9],
        "the plan",
        [update.planned_memory / 1e9],
        unit="GB",
        least_ratio=0.9,
        largest_ratio=1.1,
    )


def eager(setting: Setting) -> Cases:
    """Stages 1 to 3 without compiling, nothing computed twice."""
    return {
        f"stage {n}": partial(
            *(update_rows, setting, "eager", n, partial(fitting, setting, n), EAGER)
        )
        for n in (1, 2, 3)
    }


def preset(setting: Setting) -> Cases:
    """Stages 1 to 3 as the preset has them, with its checkpointing and chunk; eager or compiled
    as it says."""

    def cases(number: int) -> Callable[[], Iterator[Row]]:
        stage = stage_of(setting.preset, number)
        scaling = stage.train.scaling
        checkpointing: ActivationCheckpointing = scaling.activation_checkpointing
        chunk = stage.task.contrastive_chunk
        what = f"preset ({checkpointing}, chunk {chunk}{', compiled' * scaling.compile})"
        make = partial(
            *(stage_update, setting, number),
            chunk=chunk,
            checkpointing=checkpointing,
            compiled=scaling.compile,
        )
        return partial(update_rows, setting, what, number, make, None)

    return {f"stage {n}": cases(n) for n in (1, 2, 3)}


def _compiled_rows(setting: Setting, number: int) -> Iterator[Row]:
    torch._dynamo.reset()  # of what an earlier stage compiled
    make = partial(fitting, setting, number, compiled=True)
    yield from update_rows(setting, "compiled", number, make, COMPILED)


def compiled(setting: Setting) -> Cases:
    """Stages 1 to 3 compiled; how long compiling took is told apart. As a toy stage 1 alone: a
    C++ compiler takes a minute over each."""
    stages = (1,) if setting.quick else (1, 2, 3)
    return {f"stage {n}": partial(_compiled_rows, setting, n) for n in stages}
