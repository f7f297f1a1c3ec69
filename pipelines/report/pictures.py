"""What the model shows: reconstructions of masked pictures, nearest pictures of captions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from momo.device import device_of, to_device
from momo.embeddings import PIXEL_MEAN, PIXEL_STD, normalise_pixels, patchify, unpatchify
from momo.export import Embedder, load_embedder
from momo.masking import random_patch_keep
from momo.model import MoMo
from momo_platform.charts import data_uri
from momo_platform.stages import Artifact
from pipelines.evaluation.datasets import Roots
from pipelines.evaluation.items import Captioned
from pipelines.evaluation.loaders import load_items


@dataclass(frozen=True)
class HeldOutPairs:
    """Held-out pictures, uint8 [N, 3, S, S], and the captions of their groups."""

    pixels: np.ndarray
    image_groups: np.ndarray
    captions: list[str]
    text_groups: np.ndarray


@dataclass(frozen=True)
class Reconstruction:
    """Data URIs of a picture, of what the model saw and of what it made of it."""

    original: str
    masked: str
    predicted: str


@dataclass(frozen=True)
class Nearest:
    """A held-out caption and its nearest held-out pictures with cosines; `right` marks its own."""

    caption: str
    pictures: list[tuple[str, float, bool]]


def shown_pictures(
    model: Path, prepared: Artifact | None, counts: tuple[int, int, int]
) -> tuple[list[Reconstruction], list[Nearest]]:
    """Both, from an exported model's folder and the prepared pairs, where there are any; empty
    where none are held out.

    `counts`: pictures to restore, captions to look for, pictures of each. On the CPU: the report's
    stage asks for no GPU.
    """
    items = load_items("demo-pair", Roots(artifacts={"demo-pair": prepared})) if prepared else None
    if not isinstance(items, Captioned):
        return [], []
    embedder = load_embedder(model, "cpu")
    pixels = items.pictures.pixels(range(len(items.pictures)), embedder.model.config.image_size)
    pairs = HeldOutPairs(pixels, items.image_groups, items.captions, items.text_groups)
    restored, captions, nearest = counts
    return (
        reconstructions(embedder.model, pairs, restored),
        nearest_pictures(embedder, pairs, captions, nearest),
    )


@torch.inference_mode()
def reconstructions(model: MoMo, pairs: HeldOutPairs, count: int) -> list[Reconstruction]:
    """Half of the patches are hidden; predictions are put back on each patch's own mean and
    deviation, since the model learns normalised pixels."""
    rows = np.linspace(0, len(pairs.pixels) - 1, min(count, len(pairs.pixels))).astype(int)
    device = device_of(model)
    pixels = normalise_pixels(to_device(pairs.pixels[rows], device))
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(len(rows), model.config.num_patches, generator=generator).to(device)
    keep, masked = random_patch_keep(noise, 0.5)
    predicted = model.pixel_decoder(model.encode_image(pixels, keep), keep)
    size = model.config.patch_size
    patches = patchify(pixels, size)  # in the scale that the model learns in
    mean = patches.mean(dim=-1, keepdim=True)
    deviation = patches.std(dim=-1, keepdim=True)
    hidden = torch.zeros_like(noise, dtype=torch.bool).scatter(1, masked, True).unsqueeze(-1)
    painted = torch.where(hidden, predicted * deviation + mean, patches)
    grey = torch.where(hidden, torch.zeros_like(patches), patches)

    def pictures(x: torch.Tensor) -> np.ndarray:
        scale = torch.tensor(PIXEL_STD).view(1, 3, 1, 1)
        offset = torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1)
        values = (unpatchify(x.cpu(), size) * scale + offset) * 255.0
        return values.round().clamp(0, 255).to(torch.uint8).numpy()

    return [
        Reconstruction(data_uri(a), data_uri(b), data_uri(c))
        for a, b, c in zip(pairs.pixels[rows], pictures(grey), pictures(painted), strict=True)
    ]


def nearest_pictures(embedder: Embedder, pairs: HeldOutPairs, count: int, k: int) -> list[Nearest]:
    """The `k` nearest held-out pictures of `count` held-out captions, evenly spread."""
    rows = np.linspace(0, len(pairs.captions) - 1, min(count, len(pairs.captions))).astype(int)
    captions = [pairs.captions[i] for i in rows]
    similarity = embedder.embed(texts=captions) @ embedder.embed_pixels(pairs.pixels).T
    result = []
    for caption, row, scores in zip(captions, rows, similarity, strict=True):
        best = np.argsort(-scores)[:k]
        result.append(
            Nearest(
                caption,
                [
                    (
                        data_uri(pairs.pixels[i]),
                        float(scores[i]),
                        bool(pairs.image_groups[i] == pairs.text_groups[row]),
                    )
                    for i in best
                ],
            )
        )
    return result
