"""FLAVA's objectives as `transformers.FlavaForPreTraining` computes them, for our training loop.

Pictures and texts alone go through their masked pass only: the class runs an unmasked one too,
which no loss reads (a test compares the losses).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from transformers import FlavaConfig, FlavaForPreTraining

from experiments.flava_baseline.config import FlavaRecipe, FlavaShape
from experiments.flava_baseline.objectives import OBJECTIVES
from momo.crop import with_pixels
from momo.embeddings import normalise_pixels, patchify
from momo.losses import Loss
from momo.masking import PAD, mask_tokens, random_patch_keep, trim_padding

_IGNORED = -100


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
        self.objectives = [
            one for m in recipe.modalities for one in OBJECTIVES if one.modality == m
        ]
        self.weights = {one.name: 1.0 for one in self.objectives}
        self.codes: Tensor
        self.register_buffer("codes", codes, persistent=False)
        self._freeze_unused()

    def _freeze_unused(self) -> None:
        model = self.model
        used = {part for one in self.objectives for part in one.parts}
        for part in {part for one in OBJECTIVES for part in one.parts}:
            attrgetter(part)(model).requires_grad_(part in used)
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

    def forward(self, modality: str, batch: Mapping[str, Tensor]) -> dict[str, Loss]:
        """Losses by objective name."""
        views = FlavaViews(self, batch)
        return {one.name: one.loss(views) for one in self.objectives if one.modality == modality}

    def _visual_words(self, pixels: Tensor) -> Tensor:
        """[B, N]: the nearest centre of each patch."""
        patches = normalised_patches(pixels, self.recipe.shape.patch_size)
        near = self.codes.square().sum(dim=1) - 2 * patches @ self.codes.T
        return near.argmin(dim=-1)

    def _patch_mask(self, noise: Tensor) -> Tensor:
        _, masked = random_patch_keep(noise, self.recipe.image_mask_ratio)
        return torch.zeros_like(noise, dtype=torch.bool).scatter(1, masked, True)

    def visual_word_loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The mean over the masked patches of pictures alone."""
        pixels, noise = batch["pixels"], batch["noise"]
        masked = self._patch_mask(noise)
        tokens = self.model.flava.image_model(
            pixel_values=normalise_pixels(pixels), bool_masked_pos=masked
        ).last_hidden_state[:, 1:]
        logits = self.model.mim_head(tokens[masked])
        return nn.functional.cross_entropy(logits, self._visual_words(pixels)[masked])

    def _masked(self, ids: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        words = mask_tokens(
            ids,
            ids != PAD,
            noise,
            vocab_size=self.recipe.shape.vocab_size,
            ratio=self.recipe.text_mask_ratio,
        )
        return words.ids, ids.masked_fill(~words.selected, _IGNORED)

    def word_loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The mean over the masked words of texts alone."""
        ids, noise = batch["ids"], batch["noise"]
        length = trim_padding(ids)
        ids = ids[:, :length]
        masked, labels = self._masked(ids, noise[:, :length])
        tokens = self.model.flava.text_model(
            input_ids=masked, attention_mask=(ids != PAD).long()
        ).last_hidden_state
        chosen = labels != _IGNORED
        logits = self.model.mlm_head(tokens[chosen])
        return nn.functional.cross_entropy(logits, labels[chosen])

    def pair_losses(self, batch: Mapping[str, Tensor]) -> Any:
        """The published class's losses of pairs, means by name."""
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
        return out.loss_info


@dataclass(frozen=True, eq=False)
class FlavaViews:
    """A batch as the objectives see it."""

    task: FlavaTask
    batch: Mapping[str, Tensor]

    @cached_property
    def pair_losses(self) -> Any:
        """Of the one pass that all objectives on pairs share."""
        return self.task.pair_losses(self.batch)

    def mean(self, loss: Tensor) -> Loss:
        """A mean loss that weighs as much as the batch has rows."""
        first = next(iter(self.batch.values()))
        rows = torch.full((), float(len(first)), device=first.device)
        return Loss(loss * rows, rows)
