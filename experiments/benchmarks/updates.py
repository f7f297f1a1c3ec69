"""What the benchmarks time: updates of MoMo, FLAVA and ViT-MAE on random batches, encoding of
pairs, and how seconds are taken."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.benchmarks.harness import Row, compare, in_turn
from experiments.flava_baseline.config import FlavaShape
from momo.config import SIZES, ModelConfig
from momo.model import build_model
from momo.tasks import MoMoTask
from pipelines.presets import PRESETS

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
LONG = 77
BASE = SIZES["base"]
PATCHES = BASE.num_patches


def autocast() -> Any:
    """bf16 on GPUs; CPUs without bf16 units are slower with it."""
    return torch.autocast("cuda", torch.bfloat16) if CUDA else nullcontext()


def on_device(make: Callable[[], nn.Module]) -> Any:
    """A model made on the device, in training mode: a GPU draws weights in no time."""
    with torch.device(DEVICE):
        return make().train()


def synchronize() -> None:
    """Wait until a GPU has done what it was told; a CPU has."""
    if CUDA:
        torch.cuda.synchronize()


def seconds(run: Callable[[], Any], repeat: int = 1) -> float:
    """Wall time of one call, the mean of `repeat` with nothing between them."""
    started = time.perf_counter()
    for _ in range(repeat):
        run()
    synchronize()
    return (time.perf_counter() - started) / repeat


def interleaved(
    runs: int, calls: dict[str, Callable[[], Any]], *, warm_ups: int = 1, at_least: float = 0.0
) -> dict[str, list[float]]:
    """Seconds of each call, in turn, after `warm_ups` of each. `at_least`: seconds that a run of a
    call shall take: shorter ones are repeated, so that a GPU's queue stays full."""
    for _ in range(warm_ups):
        for call in calls.values():
            call()
    synchronize()
    repeat = dict.fromkeys(calls, 1)
    if at_least:
        repeat = {n: max(1, round(at_least / seconds(call))) for n, call in calls.items()}
    timed = {name: partial(seconds, call, repeat[name]) for name, call in calls.items()}
    return in_turn(runs, timed, "seconds")


def rates(
    amount: float, runs: int, calls: dict[str, Callable[[], Any]], **how: Any
) -> dict[str, list[float]]:
    """`amount` a second of each call, by `interleaved` with `how`."""
    taken = interleaved(runs, calls, **how)
    return {name: [amount / s for s in values] for name, values in taken.items()}


def beside(
    name: str,
    amount: float,
    runs: int,
    calls: dict[str, Callable[[], Any]],
    *,
    unit: str,
    least_ratio: float,
    **how: Any,
) -> Row:
    """`rates` of ours, the first call, beside those of the second, which has its peer's name."""
    found, (ours, peer) = rates(amount, runs, calls, **how), calls
    return compare(name, found[ours], peer, found[peer], unit=unit, least_ratio=least_ratio)


def ids_of(rows: int, length: int, real: int, vocabulary: int = BASE.vocab_size) -> Tensor:
    """int64 [rows, length]: `real` tokens, then padding."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(min(1000, vocabulary // 2), vocabulary, (rows, length), generator=generator)
    ids[:, 0] = 2
    ids[:, real:] = 0
    return ids.to(DEVICE)


def pictures(rows: int, size: int = BASE.image_size) -> Tensor:
    """Normalised float [rows, 3, size, size]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, 3, size, size, generator=generator).to(DEVICE)


def random_batch(
    model: ModelConfig, modality: str, rows: int, length: int = 0, seed: int = 0
) -> dict[str, np.ndarray]:
    """A modality's batch as a loader gives it; texts of `length` tokens without padding."""
    rng = np.random.default_rng(seed)
    size = model.image_size
    pixels = rng.integers(0, 255, (rows, 3, size, size), dtype=np.uint8)
    ids = rng.integers(5, model.vocab_size, (rows, length), dtype=np.int64)
    patches = rng.random((rows, model.num_patches), dtype=np.float32)
    words = rng.random((rows, length, 3), dtype=np.float32)
    return {
        "image": {"pixels": pixels, "noise": patches},
        "text": {"ids": ids, "noise": words},
        "pair": {
            "pixels": pixels,
            "ids": ids,
            "noise_image": patches,
            "noise_text": words,
            "noise_match": rng.random(rows, dtype=np.float32),
        },
    }[modality]


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
    recipe = replace(
        PRESETS["base"]().training["stage3-pair"].task, modalities=("pair",), contrastive_chunk=0
    )
    task = on_device(lambda: MoMoTask(build_model(BASE), recipe))
    if recompute:
        task.enable_activation_checkpointing("elementwise")
    host = random_batch(BASE, "pair", rows, LONG)
    batch = {k: torch.from_numpy(v).to(DEVICE) for k, v in host.items()}
    batch["ids"] = ids_of(rows, LONG, real)
    return updater(task, lambda: sum_of(task("pair", batch)))


def sum_of(losses: Any) -> Tensor:
    """The objectives' means added up."""
    return torch.stack([loss.sum / loss.count for loss in losses.values()]).sum()


def flava_config(model: ModelConfig = BASE) -> Any:
    """FLAVA of our model's shape: at base size the published one."""
    from transformers import FlavaConfig

    shape = FlavaShape(
        *(model.image_size, model.patch_size, model.vocab_size, model.width, model.depth),
        multimodal_depth=max(1, model.depth // 2),
        heads=model.heads,
        max_text_length=512,
        embed_dim=768,
        codebook_size=8192,
    )
    return FlavaConfig(**shape.to_transformers())


def flava_inputs(rows: int, real: int, model: ModelConfig = BASE) -> dict[str, Tensor]:
    """Texts of `real` tokens padded to 77, as FLAVA's processor pads them."""
    ids = ids_of(rows, LONG, real, model.vocab_size)
    mask = (ids != 0).long()
    pixels = pictures(rows, model.image_size)
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": pixels}


def flava_pair_updater(
    rows: int, real: int, *, codebook: bool, model: ModelConfig = BASE
) -> Callable[[], None]:
    """FLAVA's published objectives on pairs."""
    from transformers import FlavaForPreTraining, FlavaImageCodebook, FlavaImageCodebookConfig

    # A codebook with weights of its own: the default would be fetched.
    book = FlavaImageCodebook(FlavaImageCodebookConfig()) if codebook else None
    flava = on_device(lambda: FlavaForPreTraining(flava_config(model), book)).to(DEVICE)
    inputs = flava_inputs(rows, real, model)
    generator = torch.Generator().manual_seed(3)
    patches = model.num_patches
    masked = (torch.rand(rows, patches, generator=generator) < 0.4).to(DEVICE)
    chosen = (torch.rand(rows, LONG, generator=generator) < 0.15).to(DEVICE)
    chosen &= inputs["attention_mask"].bool()
    chosen[:, 1] = True
    labels = torch.where(chosen, inputs["input_ids"], torch.tensor(-100, device=DEVICE))
    masked_ids = inputs["input_ids"].masked_fill(chosen, 103)
    matches = torch.ones(rows, dtype=torch.long, device=DEVICE)
    targets = torch.randint(0, 8192, (rows, patches), generator=generator).to(DEVICE)
    small = torch.rand(rows, 3, 112, 112, generator=generator).to(DEVICE)

    def loss() -> Tensor:
        extra: dict[str, Any] = (
            {"codebook_pixel_values": small} if codebook else {"mim_labels": targets.clone()}
        )
        output = flava(
            **inputs,
            input_ids_masked=masked_ids,
            bool_masked_pos=masked,
            mlm_labels=labels.clone(),
            itm_labels=matches,
            return_loss=True,
            **extra,
        )
        return output.loss

    return updater(flava, loss)


def mae_updater(rows: int, model: ModelConfig = BASE) -> Callable[[], None]:
    """ViT-MAE's update on pictures that lie on the device; of our model's shape: at base size the
    published one."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    config = ViTMAEConfig(
        hidden_size=model.width,
        num_hidden_layers=model.depth,
        num_attention_heads=model.heads,
        intermediate_size=int(model.mlp_ratio * model.width),
        image_size=model.image_size,
        patch_size=model.patch_size,
        decoder_hidden_size=model.decoder_width,
        decoder_num_hidden_layers=model.decoder_depth,
        decoder_num_attention_heads=model.decoder_heads,
        decoder_intermediate_size=int(model.mlp_ratio * model.decoder_width),
        norm_pix_loss=True,
    )
    mae = on_device(lambda: ViTMAEForPreTraining(config))
    pixels = pictures(rows, model.image_size)
    return updater(mae, lambda: mae(pixel_values=pixels).loss)


def pair_encoders(
    rows: int, reals: Sequence[int], model: ModelConfig = BASE
) -> dict[int, dict[str, Callable[[], Any]]]:
    """Joint encoding of pairs in evaluation mode by ours and by FlavaModel, for texts of each of
    `reals` tokens: ours are cut to them, FLAVA's padded up to 77."""
    from transformers import FlavaModel

    momo = on_device(lambda: build_model(model)).eval()
    flava = on_device(lambda: FlavaModel(flava_config(model))).eval()
    pixels = pictures(rows, model.image_size)

    @torch.inference_mode()
    def ours(ids: Tensor) -> Any:
        with autocast():
            return momo.encode_pair(pixels, ids, ids != 0)

    @torch.inference_mode()
    def theirs(inputs: dict[str, Tensor]) -> Any:
        with autocast():
            return flava(**inputs)

    return {
        real: {
            "ours": partial(ours, ids_of(rows, real, real, model.vocab_size)),
            "FlavaModel": partial(theirs, flava_inputs(rows, real, model)),
        }
        for real in reals
    }


def product_rate(
    rows: int, inner: int, columns: int, *, repeat: int = 10, dtype: torch.dtype | None = None
) -> float:
    """FLOP/s of products [rows, inner] × [inner, columns], the median of nine; `dtype`: of both,
    else as `autocast` has them."""
    a, b = torch.randn(rows, inner, device=DEVICE), torch.randn(inner, columns, device=DEVICE)
    taken = []
    with torch.inference_mode(), autocast() if dtype is None else nullcontext():
        if dtype is not None:
            a, b = a.to(dtype), b.to(dtype)
        for _ in range(9):
            taken.append(seconds(lambda: a @ b, repeat))
    return 2 * rows * inner * columns / statistics.median(taken)
