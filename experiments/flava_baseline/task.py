"""FLAVA's objectives as `transformers.FlavaForPreTraining` computes them, for our training loop.

Pictures and texts alone go through their masked pass only: the class runs an unmasked one too,
which no loss reads (a test compares the losses).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import FlavaConfig, FlavaForPreTraining

from experiments.flava_baseline.config import OBJECTIVES, FlavaRecipe, FlavaShape
from momo.crop import with_pixels
from momo.embeddings import normalise_pixels, patchify
from momo.masking import PAD, mask_tokens, random_patch_keep, trim_padding

_IGNORED = -100


@dataclass(frozen=True)
class MeanLoss:
    """A mean loss with its weight: what `sum / count` gives back is the mean."""

    sum: Tensor
    count: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


def build_flava(shape: FlavaShape, seed: int) -> FlavaForPreTraining:
    """A freshly initialised model from `seed`; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FlavaForPreTraining(FlavaConfig(**shape.to_transformers()))


def normalised_patches(
    pixels: Tensor, patch_size: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Pixels uint8 [B, 3, H, W] → patches [B, N, 3 p²] of mean 0 and variance 1 each, as MAE's
    targets are."""
    patches = patchify(normalise_pixels(pixels), patch_size).to(dtype)
    spread = patches.var(dim=-1, keepdim=True)
    return (patches - patches.mean(dim=-1, keepdim=True)) / (spread + 1e-6).sqrt()


class FlavaTask(nn.Module):
    """Batches are those of `momo.tasks.MoMoTask`; `codes` [K, 3 p²] are the visual words."""

    def __init__(self, model: FlavaForPreTraining, recipe: FlavaRecipe, codes: Tensor) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe
        self.modalities = recipe.modalities
        names = [name for m in recipe.modalities for name in OBJECTIVES[m]]
        self.weights = dict.fromkeys(names, 1.0)
        self.codes: Tensor
        self.register_buffer("codes", codes, persistent=False)
        self._freeze_unused()

    def _freeze_unused(self) -> None:
        model, used = self.model, set(self.modalities)
        pair = "pair" in used
        parts: dict[nn.Module | nn.Parameter, bool] = {
            model.flava.image_model: pair or "image" in used,
            model.flava.text_model: pair or "text" in used,
            model.flava.multimodal_model: pair,
            model.flava.image_projection: pair,
            model.flava.text_projection: pair,
            model.flava.image_to_mm_projection: pair,
            model.flava.text_to_mm_projection: pair,
            model.flava.logit_scale: pair,
            model.mim_head: "image" in used,
            model.mlm_head: "text" in used,
            model.itm_head: pair,
            model.mmm_image_head: pair,
            model.mmm_text_head: pair,
        }
        for part, needed in parts.items():
            part.requires_grad_(needed)
        for tower in (
            model.flava.image_model,
            model.flava.text_model,
            model.flava.multimodal_model,
        ):
            if tower.pooler is not None:  # no objective reads it
                tower.pooler.requires_grad_(False)

    def on_device(self, modality: str, batch: Mapping[str, Any]) -> dict[str, Any]:
        """After the copy: pictures that came uncropped become `pixels`."""
        return with_pixels(batch, self.recipe.shape.image_size)

    def forward(self, modality: str, batch: Mapping[str, Tensor]) -> dict[str, MeanLoss]:
        """Losses by objective name."""
        if modality == "image":
            found = self._images(batch["pixels"], batch["noise"])
        elif modality == "text":
            found = self._texts(batch["ids"], batch["noise"])
        else:
            found = self._pairs(batch)
        rows = torch.tensor(float(len(next(iter(batch.values())))))
        return {name: MeanLoss(loss * rows, rows) for name, loss in found.items()}

    def _visual_words(self, pixels: Tensor) -> Tensor:
        """[B, N]: the nearest centre of each patch."""
        patches = normalised_patches(pixels, self.recipe.shape.patch_size)
        near = self.codes.square().sum(dim=1) - 2 * patches @ self.codes.T
        return near.argmin(dim=-1)

    def _patch_mask(self, noise: Tensor) -> Tensor:
        _, masked = random_patch_keep(noise, self.recipe.image_mask_ratio)
        return torch.zeros(noise.shape, dtype=torch.bool).scatter(1, masked, True)

    def _images(self, pixels: Tensor, noise: Tensor) -> dict[str, Tensor]:
        masked = self._patch_mask(noise)
        tokens = self.model.flava.image_model(
            pixel_values=normalise_pixels(pixels), bool_masked_pos=masked
        ).last_hidden_state[:, 1:]
        logits = self.model.mim_head(tokens[masked])
        return {"mim": nn.functional.cross_entropy(logits, self._visual_words(pixels)[masked])}

    def _masked(self, ids: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        words = mask_tokens(
            ids,
            ids != PAD,
            noise,
            vocab_size=self.recipe.shape.vocab_size,
            ratio=self.recipe.text_mask_ratio,
        )
        return words.ids, ids.masked_fill(~words.selected, _IGNORED)

    def _texts(self, ids: Tensor, noise: Tensor) -> dict[str, Tensor]:
        length = trim_padding(ids)
        ids = ids[:, :length]
        masked, labels = self._masked(ids, noise[:, :length])
        tokens = self.model.flava.text_model(
            input_ids=masked, attention_mask=(ids != PAD).long()
        ).last_hidden_state
        chosen = labels != _IGNORED
        logits = self.model.mlm_head(tokens[chosen])
        return {"mlm": nn.functional.cross_entropy(logits, labels[chosen])}

    def _pairs(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        length = trim_padding(batch["ids"])
        ids = batch["ids"][:, :length]
        false = batch["noise_match"] < self.recipe.itm_ratio
        if int(false.sum()) < 2:
            false = torch.zeros_like(false)
        # Texts change places among the false pairs: a true pair's text is nobody else's.
        ids = ids.clone()
        ids[false] = ids[false].roll(1, dims=0)
        masked, labels = self._masked(ids, batch["noise_text"][:, :length])
        out = self.model(
            input_ids=ids,
            input_ids_masked=masked,
            attention_mask=(ids != PAD).long(),
            pixel_values=normalise_pixels(batch["pixels"]),
            bool_masked_pos=self._patch_mask(batch["noise_image"]),
            mim_labels=self._visual_words(batch["pixels"]),
            mlm_labels=labels,
            itm_labels=(~false).long(),
            skip_unmasked_multimodal_encoder=True,
            return_loss=True,
        )
        return {name: getattr(out.loss_info, name) for name in OBJECTIVES["pair"]}
