"""From a modality's batch to its losses: the module that the training loop calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from momo.config import JOINT_OBJECTIVES, TaskConfig
from momo.cost import encoder_passes, training_flops
from momo.embeddings import normalise_pixels, patchify, take_tokens
from momo.masking import (
    PAD,
    MaskedTokens,
    mask_tokens,
    most_masked,
    positions_of,
    random_patch_keep,
    trim_padding,
)
from momo.model import MoMo, Recomputed
from momo.objectives import (
    Loss,
    contrastive_loss,
    hard_negatives,
    matching_loss,
    mim_loss,
    mlm_loss,
    pair_keys,
    same_meaning,
)


def in_chunks(
    embed: Callable[..., tuple[Tensor, ...]], size: int, *inputs: Tensor
) -> tuple[Tensor, ...]:
    """`embed(*inputs)`, `size` rows at a time (0: all at once) without keeping activations.

    The backward pass gets the gradient of all embeddings first and then replays chunk by chunk
    (gradient caching, arXiv 2101.06983), so activations of one chunk exist at a time.
    """
    if not size or not torch.is_grad_enabled():
        return embed(*inputs)
    chunks = zip(*(tensor.split(size) for tensor in inputs), strict=True)
    done = [checkpoint(embed, *chunk, use_reentrant=False) for chunk in chunks]
    return tuple(torch.cat(parts) for parts in zip(*done, strict=True))


class MoMoTask(nn.Module):
    """MoMo's objectives on one model.

    Batches (tensors of one modality, B rows, N patches, T tokens; noise uniform in [0, 1)):

    - `image`: `pixels` uint8 [B, 3, H, W], `noise` [B, N]
    - `text`: `ids` int64 [B, T] (padding 0), `noise` [B, T, 3]
    - `pair`: `pixels`, `ids`, `noise_image` [B, N], `noise_text` [B, T, 3], `noise_match` [B],
      and optionally `group` int64 [B]: pairs of one group are never each other's negatives

    Every random choice comes from the batch's noise, so a batch gives the same losses each time.
    Parameters that no objective of the config reaches are frozen, so that neither weight decay
    nor a gradient of zeros touches them.
    """

    def __init__(self, model: MoMo, config: TaskConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.weights: dict[str, float] = config.objectives
        self.modalities = config.modalities
        # Pairs of each rank's batch, where the ranks share a batch unevenly.
        self.rows_of_ranks: tuple[int, ...] | None = None
        self._freeze_unused()

    def _freeze_unused(self) -> None:
        model, weights = self.model, self.weights
        modalities = self.modalities
        used = {
            model.image_embedding: "image" in modalities or "pair" in modalities,
            model.text_embedding: "text" in modalities or "pair" in modalities,
            model.pixel_decoder: "mim" in weights or "pair_mim" in weights,
            model.word_head: "mlm" in weights or "pair_mlm" in weights,
            model.contrastive: "contrastive" in weights,
            model.matching: "matching" in weights,
        }
        if model.image_tower is not None and model.text_tower is not None:
            used[model.image_tower] = used[model.image_embedding]
            used[model.text_tower] = used[model.text_embedding]
            joint = bool(weights.keys() & JOINT_OBJECTIVES)
            used |= {model.blocks: joint, model.norm: joint}
        model.requires_grad_(True)
        for part, needed in used.items():
            part.requires_grad_(needed)

    def blocks(self) -> list[nn.Module]:
        """The transformer blocks: units of sharding and compilation."""
        return self.model.encoder_blocks()

    def enable_activation_checkpointing(self, what: Recomputed = "blocks") -> None:
        """Less memory, more computing; equal losses and gradients."""
        self.model.enable_activation_checkpointing(what)

    def tokens(self, modality: str, batch: Mapping[str, Tensor]) -> int:
        """Tokens that the encoder processes for a batch, padding of its longest text included."""
        return sum(p.rows * p.length for p in encoder_passes(self.config, modality, batch))

    def flops(self, modality: str, batch: Mapping[str, Tensor]) -> float:
        """Floating-point operations of forward and backward for a batch."""
        passes = encoder_passes(self.config, modality, batch)
        return training_flops(self.model.config, passes)

    def forward(self, modality: str, batch: Mapping[str, Tensor]) -> dict[str, Loss]:
        """Losses by objective name. Raises `ValueError` on a modality the task does not have."""
        if modality not in self.modalities:
            raise ValueError(f"the task has modalities {list(self.modalities)}, not {modality!r}")
        if modality == "image":
            return self._image(batch)
        if modality == "text":
            return self._text(batch)
        return self._pair(batch)

    def _mask(self, ids: Tensor, noise: Tensor, ratio: float) -> MaskedTokens:
        vocab_size = self.model.config.vocab_size
        return mask_tokens(ids, ids != PAD, noise, vocab_size=vocab_size, ratio=ratio)

    def _image(self, batch: Mapping[str, Tensor]) -> dict[str, Loss]:
        pixels = normalise_pixels(batch["pixels"])
        keep, masked = random_patch_keep(batch["noise"], self.config.image_mask_ratio)
        tokens = self.model.encode_image(pixels, keep)
        return {"mim": self._masked_patches(tokens, pixels, keep, masked).named("mim")}

    def _masked_patches(self, tokens: Tensor, pixels: Tensor, keep: Tensor, masked: Tensor) -> Loss:
        """The loss of the masked patches; the decoder's last block makes no others."""
        prediction = self.model.pixel_decoder(tokens, keep, masked)
        patches = patchify(pixels, self.model.config.patch_size)
        return mim_loss(prediction, take_tokens(patches, masked))

    def _text(self, batch: Mapping[str, Tensor]) -> dict[str, Loss]:
        length = trim_padding(batch["ids"])
        ids, noise = batch["ids"][:, :length], batch["noise"][:, :length]
        words = self._mask(ids, noise, self.config.text_mask_ratio)
        tokens = self.model.encode_text(words.ids, ids != PAD)
        logits = self.model.word_logits(tokens[words.selected])
        return {"mlm": mlm_loss(logits, ids[words.selected]).named("mlm")}

    def _pair(self, batch: Mapping[str, Tensor]) -> dict[str, Loss]:
        model, weights = self.model, self.weights
        length = trim_padding(batch["ids"])
        ids, noise_text = batch["ids"][:, :length], batch["noise_text"][:, :length]
        pixels, present = normalise_pixels(batch["pixels"]), ids != PAD
        keys = pair_keys(ids, batch.get("group"))
        losses: dict[str, Loss] = {}
        words = self._mask(ids, noise_text, self.config.pair_text_mask_ratio)
        # Embedded together: each backward of the table of words would fill one of its size.
        text, masked_text = model.text_embedding(torch.cat([ids, words.ids])).chunk(2)

        rows = ids.shape[0]
        similarity = torch.zeros(rows, rows, device=ids.device)
        if "contrastive" in weights:
            chunk = self.config.contrastive_chunk
            image_emb, text_emb = in_chunks(model.embed_both, chunk, pixels, text, present)
            log_scale = model.contrastive.clamped_log_scale()
            loss = contrastive_loss(
                image_emb, text_emb, log_scale, keys, rows_of_ranks=self.rows_of_ranks
            )
            losses["contrastive"] = loss.named("contrastive")
            similarity = (log_scale.exp() * image_emb @ text_emb.T).detach()
        if not weights.keys() & JOINT_OBJECTIVES:
            return losses

        keep, masked = random_patch_keep(batch["noise_image"], self.config.pair_image_mask_ratio)
        own = torch.arange(rows, device=ids.device)
        image_rows = text_rows = own
        if "matching" in weights:
            noise = batch["noise_match"]
            image_other, text_other = self._negatives(similarity, same_meaning(keys, keys), noise)
            image_rows = torch.cat([own, image_other])
            text_rows = torch.cat([own, text_other])

        texts = text, masked_text
        joint, chosen = self._joint(pixels, keep, texts, words, present, image_rows, text_rows)
        if "matching" in weights:
            image_tokens, _ = joint["matching"]
            matches = torch.arange(len(image_rows), device=ids.device) < rows
            logits = model.matching(image_tokens[:, 0])
            losses["matching"] = matching_loss(logits, matches).named("matching")
        if "pair_mlm" in weights:
            _, text_tokens = joint["pair_mlm"]
            logits = model.word_logits(text_tokens[:rows][chosen])
            losses["pair_mlm"] = mlm_loss(logits, ids[words.selected]).named("pair_mlm")
        if "pair_mim" in weights:
            image_tokens, _ = joint["pair_mim"]
            loss = self._masked_patches(image_tokens[:rows], pixels, keep, masked)
            losses["pair_mim"] = loss.named("pair_mim")
        return losses

    def _joint(
        self,
        pixels: Tensor,
        keep: Tensor,
        texts: tuple[Tensor, Tensor],
        words: MaskedTokens,
        present: Tensor,
        image_rows: Tensor,
        text_rows: Tensor,
    ) -> tuple[dict[str, tuple[Tensor, Tensor]], Tensor]:
        """Objective → image and text tokens of its joint pass, the true pairs first; matching has
        the false ones (`image_rows`, `text_rows`) too. And which of the true pairs' text tokens
        are masked words. `texts`: embeddings without and with masks."""
        model, weights, (text, masked_text) = self.model, self.weights, texts
        if self.config.shared_passes:  # the true pairs and the false ones, masked alike
            most = most_masked(text.shape[1], self.config.pair_text_mask_ratio)
            positions, chosen = positions_of(words.selected, most)
            image = model.image_embedding(pixels, keep)
            length = image.shape[1]
            pictures = torch.arange(length, device=text.device).expand(len(text_rows), -1)
            tokens = model.encode_joint(
                *(image[image_rows], masked_text[text_rows], present[text_rows]),
                wanted=torch.cat([pictures, length + positions[text_rows]], dim=1),
            )
            return dict.fromkeys(weights, (tokens[:, :length], tokens[:, length:])), chosen
        found = {}
        if weights.keys() & {"matching", "pair_mlm"}:
            image = model.image_embedding(pixels)
            if "matching" in weights:
                found["matching"] = model.encode_embedded_pair(
                    image[image_rows], text[text_rows], present[text_rows]
                )
            if "pair_mlm" in weights:
                found["pair_mlm"] = model.encode_embedded_pair(image, masked_text, present)
        if "pair_mim" in weights:
            image = model.image_embedding(pixels, keep)
            found["pair_mim"] = model.encode_embedded_pair(image, text, present)
        return found, words.selected

    def _negatives(self, similarity: Tensor, same: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the pictures and of the texts that make false pairs, [M] each.

        The first `matching_fraction` of the batch: even rows keep their picture and draw a text,
        odd rows keep their text and draw a picture. Drawn within the rank's own rows.
        """
        count = round(similarity.shape[0] * self.config.matching_fraction)
        own = torch.arange(count, device=similarity.device)
        even = own % 2 == 0
        scores = torch.where(even[:, None], similarity[:count], similarity.T[:count])
        other, valid = hard_negatives(scores, same[:count], noise[:count])
        image_rows = torch.where(even, own, other)
        text_rows = torch.where(even, other, own)
        return image_rows[valid], text_rows[valid]
