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
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from experiments.benchmarks.harness import Row, compare, document
from momo.config import SIZES, TaskConfig
from momo.model import build_model
from momo.tasks import MoMoTask
from momo_platform.training.diagnostics import peak_memory_bytes
from pipelines.presets import PRESETS

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
LONG, SHORT = 77, 16
PATCHES, IMAGE, VOCABULARY = 196, 224, 30522


def autocast() -> Any:
    """bf16 on GPUs; CPUs without bf16 units are slower with it."""
    return torch.autocast("cuda", torch.bfloat16) if CUDA else nullcontext()


def on_device(module: nn.Module) -> Any:
    """transformers' own types hide `.to`'s signature from the type checker."""
    return module.to(DEVICE)


def seconds(run: Callable[[], Any]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    run()
    if CUDA:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def interleaved(
    runs: int, calls: dict[str, Callable[[], Any]], once: bool = True
) -> dict[str, list[float]]:
    """Seconds of each call, in turn, after one warm-up of each."""
    if once:
        for call in calls.values():
            call()
    found: dict[str, list[float]] = {name: [] for name in calls}
    for run in range(runs):
        for name, call in calls.items():
            found[name].append(seconds(call))
        shown = ", ".join(f"{n} {v[-1]:.2f} s" for n, v in found.items())
        print(f"{run + 1}/{runs}: {shown}", file=sys.stderr, flush=True)
    return found


def ids_of(rows: int, length: int, real: int) -> Tensor:
    """int64 [rows, length]: `real` tokens, then padding."""
    ids = torch.randint(
        1000, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(0)
    )
    ids[:, 0] = 2
    ids[:, real:] = 0
    return ids.to(DEVICE)


def pictures(rows: int) -> Tensor:
    """Normalised float [rows, 3, 224, 224]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, 3, IMAGE, IMAGE, generator=generator).to(DEVICE)


def gemm_rate() -> float:
    """GFLOP/s of large matrix products, the median of nine."""
    a, b = (torch.randn(1576, 768, device=DEVICE), torch.randn(768, 3072, device=DEVICE))
    rates = []
    with torch.inference_mode(), autocast():
        for _ in range(9):
            took = seconds(lambda: [a @ b for _ in range(10)])
            rates.append(10 * 2 * a.shape[0] * a.shape[1] * b.shape[1] / took / 1e9)
    return statistics.median(rates)


def encoder_flops(rows: int, tokens: int, depth: int = 12, width: int = 768) -> float:
    """Multiply-adds × 2 of the blocks: projections, attention, MLP."""
    linear = 2 * tokens * 12 * width**2
    attention = 4 * tokens**2 * width
    return rows * depth * (linear + attention)


def flava_inputs(rows: int, real: int) -> dict[str, Tensor]:
    ids = ids_of(rows, LONG, real)
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "pixel_values": pictures(rows)}


def inference_rows(runs: int, rows: int) -> list[Row]:
    """Joint encoding of pairs, in evaluation mode."""
    from transformers import FlavaConfig, FlavaModel

    momo = build_model(SIZES["base"]).to(DEVICE).eval()
    flava = on_device(FlavaModel(FlavaConfig())).eval()
    found: list[Row] = []
    for real, goal in ((LONG, 1.65), (SHORT, 2.5)):
        ids, pixels = ids_of(rows, real, real), pictures(rows)
        inputs = flava_inputs(rows, real)

        @torch.inference_mode()
        def ours(ids: Tensor = ids, pixels: Tensor = pixels) -> Any:
            with autocast():
                return momo.encode_pair(pixels, ids, ids != 0)

        @torch.inference_mode()
        def theirs(inputs: dict[str, Tensor] = inputs) -> Any:
            with autocast():
                return flava(**inputs)

        taken = interleaved(runs, {"ours": ours, "FLAVA": theirs})
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


def updater(module: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """One update: forward, backward, AdamW."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)

    def update() -> None:
        with autocast():
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update


def momo_pair_updater(rows: int, real: int, *, recompute: bool = False) -> Callable[[], None]:
    """Stage 3's pair objectives as preset base has them: contrastive, matching, masked text and
    image; no gradient caching at this batch. `recompute`: `activation_checkpointing=elementwise`,
    which repeats no product."""
    recipe = replace(PRESETS["base"]().stage3.task, modalities=("pair",), contrastive_chunk=0)
    task = MoMoTask(build_model(SIZES["base"]), recipe).to(DEVICE)
    if recompute:
        task.enable_activation_checkpointing("elementwise")
    generator = torch.Generator().manual_seed(2)

    def noise(*shape: int) -> Tensor:
        return torch.rand(rows, *shape, generator=generator).to(DEVICE)

    raw = torch.randint(0, 255, (rows, 3, IMAGE, IMAGE), generator=generator, dtype=torch.uint8)
    batch = {
        "pixels": raw.to(DEVICE),
        "ids": ids_of(rows, LONG, real),
        "noise_image": noise(PATCHES),
        "noise_text": noise(LONG, 3),
        "noise_match": noise(),
    }
    return updater(task, lambda: sum_of(task("pair", batch)))


def sum_of(losses: Any) -> Tensor:
    """The objectives' means added up."""
    return torch.stack([loss.sum / loss.count for loss in losses.values()]).sum()


def flava_pair_updater(rows: int, real: int, *, codebook: bool) -> Callable[[], None]:
    """FLAVA's published objectives on pairs."""
    from transformers import (
        FlavaConfig,
        FlavaForPreTraining,
        FlavaImageCodebook,
        FlavaImageCodebookConfig,
    )

    # A codebook with weights of its own: the default would be fetched.
    book = FlavaImageCodebook(FlavaImageCodebookConfig()) if codebook else None
    model = on_device(FlavaForPreTraining(FlavaConfig(init_codebook=False), book))
    inputs = flava_inputs(rows, real)
    generator = torch.Generator().manual_seed(3)
    masked = (torch.rand(rows, PATCHES, generator=generator) < 0.4).to(DEVICE)
    chosen = (torch.rand(rows, LONG, generator=generator) < 0.15).to(DEVICE)
    chosen &= inputs["attention_mask"].bool()
    chosen[:, 1] = True
    labels = torch.where(chosen, inputs["input_ids"], torch.tensor(-100, device=DEVICE))
    masked_ids = inputs["input_ids"].masked_fill(chosen, 103)
    matches = torch.ones(rows, dtype=torch.long, device=DEVICE)
    targets = torch.randint(0, 8192, (rows, PATCHES), generator=generator).to(DEVICE)
    small = torch.rand(rows, 3, 112, 112, generator=generator).to(DEVICE)

    def loss() -> Tensor:
        extra: dict[str, Any] = (
            {"codebook_pixel_values": small} if codebook else {"mim_labels": targets.clone()}
        )
        output = model(
            **inputs,
            input_ids_masked=masked_ids,
            bool_masked_pos=masked,
            mlm_labels=labels.clone(),
            itm_labels=matches,
            return_loss=True,
            **extra,
        )
        return output.loss

    return updater(model, loss)


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
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    task = MoMoTask(build_model(SIZES["base"]), TaskConfig(modalities=("image",))).to(DEVICE)
    generator = torch.Generator().manual_seed(4)
    raw = torch.randint(0, 255, (rows, 3, IMAGE, IMAGE), generator=generator, dtype=torch.uint8)
    batch = {"pixels": raw.to(DEVICE), "noise": torch.rand(rows, PATCHES).to(DEVICE)}
    mae = on_device(ViTMAEForPreTraining(ViTMAEConfig(norm_pix_loss=True)))
    pixels = pictures(rows)
    taken = interleaved(
        runs,
        {
            "ours": updater(task, lambda: sum_of(task("image", batch))),
            "ViT-MAE": updater(mae, lambda: mae(pixel_values=pixels).loss),
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
