"""The task of every stage: which losses each modality's batch gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from momo.masking import mask_patches, mask_tokens
from momo.model import MoMo, normalise_pixels, patchify, pool_image, pool_text
from momo.objectives.losses import (
    Loss,
    contrastive_loss,
    hard_negatives,
    matching_loss,
    mim_loss,
    mlm_loss,
)


@dataclass(frozen=True)
class TaskConfig:
    """Mask ratios and weights. Alone: 75 % of patches (MAE), 15 % of tokens (BERT); in a pair
    50 % and 30 %, our choice. A weight of 0 leaves a loss out."""

    image_mask_ratio: float = 0.75
    text_mask_ratio: float = 0.15
    pair_image_mask_ratio: float = 0.5
    pair_text_mask_ratio: float = 0.3
    matching_fraction: float = 0.5
    max_scale: float = 100.0
    weights: Mapping[str, float] = field(
        default_factory=lambda: {
            "mim": 1.0,
            "mlm": 1.0,
            "contrastive": 1.0,
            "matching": 1.0,
            "pair_mlm": 1.0,
            "pair_mim": 1.0,
        }
    )


class MoMoTask(nn.Module):
    """Batches hold `pixels` uint8 [B, 3, H, W], `ids` int64 [B, T] and uniform noise:

    `image_noise` [B, N], `text_noise` [B, T, 3], `match_noise` [B, 2]; pairs also `caption_key`
    int64 [B], equal for equal captions.
    """

    def __init__(self, model: MoMo, config: TaskConfig = TaskConfig()) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.weights = dict(config.weights)

    def forward(self, modality: str, batch: Mapping[str, Tensor]) -> Mapping[str, Loss]:
        if modality == "image":
            return self.image_losses(batch)
        if modality == "text":
            return self.text_losses(batch)
        if modality == "pair":
            return self.pair_losses(batch)
        raise ValueError(f"unknown modality {modality!r}; image, text or pair")

    def image_losses(self, batch: Mapping[str, Tensor]) -> dict[str, Loss]:
        """Masked image modelling of images alone."""
        model = self.model
        pixels = normalise_pixels(batch["pixels"])
        mask = mask_patches(batch["image_noise"], self.config.image_mask_ratio)
        tokens = model.encode_image(pixels, mask.keep)
        predicted = model.decoder(tokens[:, 1:], mask.keep)
        patches = patchify(pixels, model.config.patch_size)
        return {"mim": mim_loss(predicted, patches, mask.masked)}

    def text_losses(self, batch: Mapping[str, Tensor]) -> dict[str, Loss]:
        """Masked language modelling of text alone; logits at masked positions only."""
        ids = batch["ids"]
        mask = mask_tokens(
            ids, batch["text_noise"], self.config.text_mask_ratio, self.model.config.vocab_size
        )
        tokens = self.model.encode_text(mask.ids)
        logits = self.model.mlm_logits(tokens[mask.masked])
        return {"mlm": mlm_loss(logits, ids[mask.masked])}

    def pair_losses(self, batch: Mapping[str, Tensor]) -> dict[str, Loss]:
        """Contrastive on two unimodal passes; one joint pass for masked modelling and matching."""
        model, weights = self.model, self.weights
        pixels, ids = normalise_pixels(batch["pixels"]), batch["ids"]
        key = batch["caption_key"]
        losses: dict[str, Loss] = {}
        scale = model.log_scale.exp().clamp_max(self.config.max_scale)
        image = model.project_image(model.encode_image(pixels))
        text = model.project_text(model.encode_text(ids), ids)
        if weights.get("contrastive", 0.0):
            losses["contrastive"] = contrastive_loss(image, text, scale, key)
        masked_weights = weights.get("pair_mlm", 0.0) + weights.get("pair_mim", 0.0)
        if masked_weights or weights.get("matching", 0.0):
            losses |= self._joint(batch, pixels, ids)
        if weights.get("matching", 0.0):
            losses["matching"] = self._match(batch, pixels, ids, (scale * image @ text.T).detach())
        return losses

    def _joint(self, batch: Mapping[str, Tensor], pixels: Tensor, ids: Tensor) -> dict[str, Loss]:
        model, config = self.model, self.config
        patch_mask = mask_patches(batch["image_noise"], config.pair_image_mask_ratio)
        token_mask = mask_tokens(
            ids, batch["text_noise"], config.pair_text_mask_ratio, model.config.vocab_size
        )
        image, text = model.encode_pair(pixels, token_mask.ids, patch_mask.keep)
        logits = model.mlm_logits(text[token_mask.masked])
        masked_text = mlm_loss(logits, ids[token_mask.masked])
        predicted = model.decoder(image[:, 1:], patch_mask.keep)
        patches = patchify(pixels, model.config.patch_size)
        accuracy = {"pair_mlm_accuracy": masked_text.metrics["mlm_accuracy"]}
        return {
            "pair_mlm": Loss(masked_text.sum, masked_text.count, accuracy),
            "pair_mim": mim_loss(predicted, patches, patch_mask.masked),
        }

    def _match(
        self, batch: Mapping[str, Tensor], pixels: Tensor, ids: Tensor, similarity: Tensor
    ) -> Loss:
        """Positives, and for each one hard negative: its image with another's text.

        On a part of the batch only (`matching_fraction`), since it needs unmasked joint passes.
        """
        key = batch["caption_key"]
        forbidden = key[:, None] == key[None, :]
        rows = torch.arange(max(1, int(len(ids) * self.config.matching_fraction)))
        rows = rows.to(ids.device)
        drawn = hard_negatives(similarity[rows], forbidden[rows], batch["match_noise"][rows, 0])
        usable = drawn >= 0
        texts = torch.cat([ids[rows], ids[drawn[usable]]])
        images = torch.cat([pixels[rows], pixels[rows[usable]]])
        image, text = self.model.encode_pair(images, texts)
        logits = self.model.matching(pool_image(image) + pool_text(text, texts))
        matches = torch.zeros(len(texts), dtype=torch.long, device=ids.device)
        matches[: len(rows)] = 1
        return matching_loss(logits, matches)
