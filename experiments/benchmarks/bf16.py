"""What bf16 gives on this machine's CPU, and where an autocast step's time goes.

    python experiments/benchmarks/bf16.py [--quick] [--only WORD]

Processors with bf16 units (avx512_bf16, amx_bf16) make matrix products about twice as fast in bf16;
without them torch emulates it, slowly. Parts: `products` at the shapes of demo and base, `updates`
of each demo stage and of base's first under fp32 and under bf16 autocast, `inference` by
`momo.load(…, precision=…)`, which keeps linear weights in bf16 and casts none a call. With each
update: the shares of its processor time that are products, casts and the rest. About 5 minutes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from experiments.benchmarks.harness import Row, compare, main, say
from experiments.benchmarks.updates import interleaved, random_batch
from momo.config import SIZES
from momo.model import build_model
from momo.tasks import MoMoTask
from momo_platform.training.feed import to_tensors
from momo_platform.training.loop import Trainer
from momo_platform.training.task import TrainingSetup
from pipelines.presets import PRESETS

SHAPES = ((1088, 128, 512), (2176, 512, 128), (1576, 768, 3072), (788, 3072, 768))
"""Rows, inputs and outputs of a product: the demo's MLP, then base's."""
_PRODUCTS = ("mm", "addmm", "bmm", "linear", "mkldnn", "attention", "flash")
_CASTS = ("aten::_to_copy", "aten::copy_", "aten::to")


def beside(name: str, quick: bool, calls: dict[str, Callable[[], Any]]) -> Row:
    """bf16's seconds beside fp32's."""
    taken = interleaved(1 if quick else 7, calls)
    row = compare(name, taken["bf16"], "fp32", taken["fp32"], largest_ratio=1.0)
    say(f"{name}: bf16 takes {row.ratio} of fp32")
    return row


def products(quick: bool) -> list[Row]:
    """Forward products of a linear layer."""
    found = []
    for rows, width, out in SHAPES:
        x, w = torch.randn(rows, width), torch.randn(out, width)
        halves = x.bfloat16(), w.bfloat16()
        calls = {
            "fp32": lambda x=x, w=w: [torch.nn.functional.linear(x, w) for _ in range(20)],
            "bf16": lambda a=halves: [torch.nn.functional.linear(*a) for _ in range(20)],
        }
        with torch.inference_mode():
            found.append(beside(f"product {rows}×{width}×{out}", quick, calls))
    return found


def _batches(preset: str, stage: int, rows: int) -> dict[str, Any]:
    config = PRESETS[preset]()
    lengths = {"image": 0, "text": config.packed_text_length, "pair": 32}
    return {
        modality: to_tensors(random_batch(config.model, modality, rows, lengths[modality]))
        for modality in list(config.training.values())[stage - 1].task.modalities
    }


def _updater(preset: str, stage: int, rows: int, precision: Any) -> Callable[[], Any]:
    config = PRESETS[preset]()
    chosen = list(config.training.values())[stage - 1]
    scaling = replace(
        chosen.train.scaling, num_workers=0, gpus_per_worker=0.0, activation_checkpointing="none"
    )
    train = replace(chosen.train, scaling=scaling, precision=precision)
    task = MoMoTask(build_model(config.model), replace(chosen.task, contrastive_chunk=0))
    batches = _batches(preset, stage, rows)
    prepared = {m: task.on_host(m, batch) for m, batch in batches.items()}
    setup = TrainingSetup(task, dict.fromkeys(prepared), lambda *_: None)
    trainer = Trainer(setup, train, Path(tempfile.mkdtemp()))
    return lambda: trainer._update(0, prepared, diagnose=False)


def shares(call: Callable[[], Any]) -> dict[str, float]:
    """Of the processor time of a call: products, casts and copies, the rest; and how many casts."""
    with profile(activities=[ProfilerActivity.CPU]) as record:
        call()
    groups, casts = {"products": 0.0, "casts": 0.0, "rest": 0.0}, 0
    for event in record.key_averages():
        if any(word in event.key for word in _PRODUCTS):
            groups["products"] += event.self_cpu_time_total
        elif event.key in _CASTS:
            groups["casts"] += event.self_cpu_time_total
            casts += event.count if event.key == "aten::_to_copy" else 0
        else:
            groups["rest"] += event.self_cpu_time_total
    total = sum(groups.values())
    return {name: round(value / total, 3) for name, value in groups.items()} | {"count": casts}


def updates(found_shares: dict[str, Any], quick: bool) -> list[Row]:
    """Whole updates, fp32 beside bf16 autocast; adds their `shares` by name."""
    found = []
    for preset, stage, rows in (("demo", 1, 128), ("demo", 2, 64), ("demo", 3, 64), ("base", 1, 8)):
        name = f"update of {preset} stage {stage}"
        calls = {kind: _updater(preset, stage, rows, kind) for kind in ("fp32", "bf16")}
        found.append(beside(name, quick, calls))
        found_shares[name] = {kind: shares(call) for kind, call in calls.items()}
    return found


def inference(quick: bool) -> list[Row]:
    """Texts and pictures as `momo.load` encodes them, fp32 beside bf16."""
    import momo.export as export
    from momo.tokenizer import train_wordpiece

    found = []
    for size, rows in (("demo", 256), ("base", 16)):
        with tempfile.TemporaryDirectory() as folder:
            config = SIZES[size]
            words = train_wordpiece(["a red apple on a green tree"], min(200, config.vocab_size))
            export.save(build_model(config), Path(folder), words.to_str())
            models = {p: export.load(folder, "cpu", p) for p in ("fp32", "bf16")}
        side = config.image_size
        pixels = torch.randint(0, 256, (rows, 3, side, side)).byte().numpy()
        calls = {p: lambda m=m, x=pixels: m.embed_pixels(x) for p, m in models.items()}
        found.append(beside(f"pictures of {size}", quick, calls))
        texts = ["a red apple on a green tree"] * rows
        calls = {p: lambda m=m, x=texts: m.embed(texts=x) for p, m in models.items()}
        found.append(beside(f"texts of {size}", quick, calls))
    return found


def _processor(of_time: Mapping[str, Any]) -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    flags = info.read_text(encoding="utf-8") if info.exists() else ""
    return {
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16_units": [name for name in ("avx512_bf16", "amx_bf16") if name in flags],
        "shares": of_time,
    }


if __name__ == "__main__":
    of_time: dict[str, Any] = {}
    parts = {"products": products, "updates": partial(updates, of_time), "inference": inference}
    sys.exit(main(__doc__, parts, partial(_processor, of_time)))
