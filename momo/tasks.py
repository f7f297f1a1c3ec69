"""From a modality's batch to its losses: the module that the training loop calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from torch.utils.checkpoint import checkpoint

from momo.batches import ROWS_OF_RANKS, TEXTS, TextLengths, with_masked_words
from momo.config import JOINT_OBJECTIVES, TaskConfig
from momo.cost import encoder_passes, training_flops
from momo.crop import with_pixels
from momo.embeddings import normalise_pixels, patchify, take_tokens
from momo.losses import (
    Loss,
    Negatives,
    contrastive_loss,
    draw_negatives,
    matching_loss,
    mim_loss,
    mlm_loss,
    pair_keys,
)
from momo.masking import random_patch_keep
from momo.micro_batches import PART, Part, split
from momo.model import MoMo, Recomputed
from momo.packing import JointLayout, Layout, Words, lay_out, lay_out_pairs
from momo.retrieval import retrieval

Batch = Mapping[str, Any]


class MoMoTask(nn.Module):
    """MoMo's objectives on one model.

    Batches (tensors of one modality, B rows, N patches, T tokens; noise uniform in [0, 1)):

    - `image`: `pixels` uint8 [B, 3, H, W], `noise` [B, N]
    - `text`: `ids` int64 [B, T] (padding 0, at the right), `noise` [B, T, 3]
    - `pair`: `pixels`, `ids`, `noise_image` [B, N], `noise_text` [B, T, 3], `noise_match` [B],
      and optionally `group` int64 [B]: pairs of one group are never each other's negatives

    Every random choice comes from the batch's noise, so a batch gives the same losses each time.
    On the CPU, `on_host` gets a batch ready for a GPU: the forward pass then waits for nothing.
    Parameters that no objective of the config reaches are frozen, so that neither weight decay
    nor a gradient of zeros touches them.
    """

    def __init__(self, model: MoMo, config: TaskConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.weights: dict[str, float] = config.objectives
        self.modalities = config.modalities
        # Texts of equal length together: a batch for each length, where unequal ones have no kernel
        self.group_lengths = True
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
        """The transformer blocks: units of sharding."""
        return self.model.encoder_blocks()

    def split(self, modality: str, batch: Batch, size: int) -> list[Batch]:
        """A prepared batch in parts of at most `size` rows, to be given to `forward` in turn; each
        part's losses have the count of the whole batch, so that they add up to its losses.

        Of pairs the first part compares all, `size` at a time, by gradient caching, and draws the
        false pairs; the others join pictures with texts. Raises ValueError where `size` cuts
        through groups that false pairs are drawn in.
        """
        rows = len(batch["noise" if modality == "image" else "lengths"])
        if rows <= size:
            return [batch]
        if modality != "pair":
            return list(split(batch, rows, size))
        group = min(self.config.matching_group, rows)
        if "matching" in self.weights and size % group:
            raise ValueError(
                f"scaling.micro_batch_size={size} must be a multiple of task.matching_group={group}"
            )
        parts = split(batch, rows, size)
        whole: Part = parts[0][PART]
        found: list[Batch] = []
        if "contrastive" in self.weights:
            found.append({**batch, PART: replace(whole, chunk=size)})
        elif "matching" in self.weights:
            whole.drawn.negatives = self._draw(batch, None)
        if self.weights.keys() & JOINT_OBJECTIVES:
            found += [part | {PART: replace(part[PART], drawn=whole.drawn)} for part in parts]
        return found

    def regions(self) -> list[nn.Module]:
        """What is compiled, each once: all blocks, and the heads that are more than a product."""
        self.group_lengths = False  # else every batch would have shapes of its own
        model = self.model
        return [*self.blocks(), *model.pixel_decoder.blocks, model.word_head, model.matching]

    def enable_activation_checkpointing(self, what: Recomputed = "blocks") -> None:
        """Less memory, more computing; equal losses and gradients."""
        self.model.enable_activation_checkpointing(what)

    def on_host(self, modality: str, batch: Batch) -> dict[str, Any]:
        """A loader's batch as the forward pass takes it, on the CPU: texts cut to the longest,
        words masked, and everything counted that a GPU would have to be asked for."""
        if modality == "image":
            return dict(batch)
        config = self.config
        ratio = config.text_mask_ratio if modality == "text" else config.pair_text_mask_ratio
        vocab_size = self.model.config.vocab_size
        return with_masked_words(modality, batch, vocab_size=vocab_size, ratio=ratio)

    def on_device(self, modality: str, batch: Batch) -> dict[str, Any]:
        """After the copy: pictures that came uncropped become `pixels`."""
        return with_pixels(batch, self.model.config.image_size)

    def after_step(self) -> None:
        """For the training loop, after every update: the temperature stays within its limit."""
        self.model.contrastive.limit_scale()

    def tokens(self, modality: str, batch: Batch) -> int:
        """Tokens that the encoder processes for a batch."""
        return round(sum(p.rows * p.length for p in encoder_passes(self.config, modality, batch)))

    def flops(self, modality: str, batch: Batch) -> float:
        """Floating-point operations of forward and backward for a batch."""
        passes = encoder_passes(self.config, modality, batch)
        return training_flops(self.model.config, passes)

    def forward(self, modality: str, batch: Batch) -> dict[str, Loss]:
        """Losses by objective name. Raises `ValueError` on a modality the task does not have."""
        return self.with_rows(modality, batch)[0]

    def with_rows(self, modality: str, batch: Batch) -> tuple[dict[str, Loss], dict[str, Tensor]]:
        """As `forward`, and of pairs that are compared what `measure` takes of each row: unit
        vectors `image` and `text` [B, E], `keys` [B, K]."""
        if modality not in self.modalities:
            raise ValueError(f"the task has modalities {list(self.modalities)}, not {modality!r}")
        batch = self.on_host(modality, batch)
        if modality == "pair":
            return self._pair(batch)
        losses = self._image(batch) if modality == "image" else self._text(batch)
        return self._of_whole(batch, losses), {}

    def measure(self, modality: str, rows: Mapping[str, Tensor]) -> dict[str, float]:
        """How well each picture finds its text among all `rows` of `with_rows`, and the reverse."""
        if modality != "pair":
            return {}
        found = retrieval(rows["image"], rows["text"], rows["keys"])
        return {f"retrieval/{name}": value for name, value in found.items()}

    def _of_whole(self, batch: Batch, losses: dict[str, Loss]) -> dict[str, Loss]:
        part: Part | None = batch.get(PART)
        if part is None:
            return losses
        rows = len(batch["noise"] if "noise" in batch else batch["ids"])
        return {name: part.of_whole(name, loss, rows) for name, loss in losses.items()}

    def _image(self, batch: Batch) -> dict[str, Loss]:
        pixels = normalise_pixels(batch["pixels"])
        keep, masked = random_patch_keep(batch["noise"], self.config.image_mask_ratio)
        tokens = self.model.encode_image(pixels, keep)
        return {"mim": self._masked_patches(tokens, pixels, keep, masked).named("mim")}

    def _masked_patches(self, tokens: Tensor, pixels: Tensor, keep: Tensor, masked: Tensor) -> Loss:
        """The loss of the masked patches; the decoder's last block makes no others."""
        prediction = self.model.pixel_decoder(tokens, keep, masked)
        patches = patchify(pixels, self.model.config.patch_size)
        return mim_loss(prediction, take_tokens(patches, masked))

    def _lay_out(self, lengths: Tensor, known: tuple[int, ...]) -> Layout:
        return lay_out(lengths, known, group=self._groups(lengths))

    def _groups(self, tensor: Tensor) -> bool:
        return self.group_lengths and tensor.device.type == "cpu"

    def _text(self, batch: Batch) -> dict[str, Loss]:
        model, row, place = self.model, batch["word_row"], batch["word_place"]
        texts = self._lay_out(batch["lengths"], batch[TEXTS].of)
        ids = batch["masked_ids"][texts.row, texts.place]
        tokens = model.text_embedding.packed(ids, texts.place)
        tokens = model.encode_packed(tokens, texts.sequences, model.text_tower)
        logits = model.word_logits(embedding(texts.start[row] + place, tokens))
        return {"mlm": mlm_loss(logits, batch["targets"]).named("mlm")}

    def _pair(self, batch: Batch) -> tuple[dict[str, Loss], dict[str, Tensor]]:
        pairs, part = self._embed(batch), batch.get(PART)
        if part is None:
            losses, negatives, kept = self._compare(pairs, self.config.contrastive_chunk)
            if self.weights.keys() & JOINT_OBJECTIVES:
                losses |= self._join(pairs, negatives)
            return losses, kept
        if part.chunk:
            losses, part.drawn.negatives, kept = self._compare(pairs, part.chunk)
            return losses, kept
        negatives, rows = part.drawn.negatives, len(pairs.known.of)
        if negatives is not None:
            group = min(self.config.matching_group, part.rows)
            negatives = negatives.of_rows(part.start, part.start + rows, group)
        return self._of_whole(batch, self._join(pairs, negatives)), {}

    def _embed(self, batch: Batch) -> _Pairs:
        texts = self._lay_out(batch["lengths"], batch[TEXTS].of)
        both = torch.stack([batch["ids"], batch["masked_ids"]])[:, texts.row, texts.place]
        # Embedded together: each backward of the table of words would fill one of its size.
        tokens = self.model.text_embedding.packed(both.flatten(), texts.place.repeat(2))
        text, masked_text = tokens.chunk(2)
        pixels = normalise_pixels(batch["pixels"])
        return _Pairs(batch, pixels, texts, text, masked_text, batch[TEXTS])

    def _compare(
        self, pairs: _Pairs, chunk: int
    ) -> tuple[dict[str, Loss], Negatives | None, dict[str, Tensor]]:
        """The contrastive loss, the false pairs that its similarities choose, and what `measure`
        takes. `chunk` as in `TaskConfig.contrastive_chunk`."""
        model, batch = self.model, pairs.batch
        keys = pair_keys(batch["ids"], batch.get("group"))
        losses: dict[str, Loss] = {}
        kept: dict[str, Tensor] = {}
        similar: tuple[Tensor, Tensor] | None = None
        if "contrastive" in self.weights:
            image_emb, text_emb = self._embed_both(pairs, chunk)
            log_scale = model.contrastive.clamped_log_scale()
            shared: tuple[int, ...] | None = batch.get(ROWS_OF_RANKS, self.rows_of_ranks)
            loss = contrastive_loss(
                *(image_emb, text_emb, log_scale, keys),
                gather=not _alone(batch),
                rows_of_ranks=shared,
            )
            kept = {"image": image_emb.detach(), "text": text_emb.detach(), "keys": keys}
            losses["contrastive"] = loss.named("contrastive")
            similar = (log_scale.exp() * image_emb).detach(), text_emb.detach()
        drawn = self._draw(batch, similar) if "matching" in self.weights else None
        return losses, drawn, kept

    def _draw(self, batch: Batch, similar: tuple[Tensor, Tensor] | None) -> Negatives:
        keys, config = pair_keys(batch["ids"], batch.get("group")), self.config
        return draw_negatives(
            similar, keys, batch["noise_match"], config.matching_group, config.matching_fraction
        )

    def _embed_both(self, pairs: _Pairs, size: int) -> tuple[Tensor, Tensor]:
        """Unit vectors [B, E] of pictures and of texts. With `size`, so many rows at a time without
        keeping activations: the backward pass gets the gradient of all embeddings first and then
        replays chunk by chunk (gradient caching, arXiv 2101.06983)."""
        model, known = self.model, pairs.known
        if not size or not torch.is_grad_enabled():
            length = max(known.of)
            return model.embed_both(pairs.pixels, pairs.text, pairs.texts, length)
        done = []
        for start in range(0, len(known.of), size):
            rows = slice(start, start + size)
            lengths = known.rows(start, start + size)
            texts = self._lay_out(pairs.texts.lengths[rows], lengths)
            index = pairs.texts.start[rows][texts.row] + texts.place
            part = embedding(index, pairs.text)
            inputs = (pairs.pixels[rows], part, texts, max(lengths))
            done.append(checkpoint(model.embed_both, *inputs, use_reentrant=False))
        image_emb, text_emb = zip(*done, strict=True)
        return torch.cat(image_emb), torch.cat(text_emb)

    def _join(self, pairs: _Pairs, negatives: Negatives | None) -> dict[str, Loss]:
        """Losses of the objectives that read a picture and a text in one sequence."""
        weights, config, model = self.weights, self.config, self.model
        noise = pairs.batch["noise_image"]
        keep, masked = random_patch_keep(noise, config.pair_image_mask_ratio)
        objectives = [name for name in ("matching", "pair_mlm", "pair_mim") if name in weights]
        if config.shared_passes:  # one pass for all, the true pairs and the false ones masked alike
            image = model.image_embedding(pairs.pixels, keep)
            one = self._encode_joint(pairs, image, pairs.masked_text, negatives, set(objectives))
            passes = dict.fromkeys(objectives, one)
        else:  # each its own, where only what it predicts is masked
            passes = {}
            for name in objectives:
                kept = keep if name == "pair_mim" else None
                image = model.image_embedding(pairs.pixels, kept)
                text = pairs.masked_text if name == "pair_mlm" else pairs.text
                false = negatives if name == "matching" else None
                passes[name] = self._encode_joint(pairs, image, text, false, {name})
        losses: dict[str, Loss] = {}
        if "matching" in weights and negatives is not None:
            tokens, layout = passes["matching"]
            cls = torch.cat([layout.pictures[:, 0], layout.others])
            logits = model.matching(embedding(cls, tokens))
            true = torch.arange(len(cls), device=cls.device) < layout.pictures.shape[0]
            valid = torch.cat([true[: len(layout.pictures)], negatives.valid_pairs()])
            loss = matching_loss(logits, true, valid)
            losses["matching"] = loss.named("matching")
        if "pair_mlm" in weights:
            tokens, layout = passes["pair_mlm"]
            logits = model.word_logits(embedding(layout.words, tokens))
            losses["pair_mlm"] = mlm_loss(logits, pairs.batch["targets"]).named("pair_mlm")
        if "pair_mim" in weights:
            tokens, layout = passes["pair_mim"]
            image_tokens = embedding(layout.pictures, tokens)
            loss = self._masked_patches(image_tokens, pairs.pixels, keep, masked)
            losses["pair_mim"] = loss.named("pair_mim")
        return losses

    def _encode_joint(
        self,
        pairs: _Pairs,
        image: Tensor,
        text: Tensor,
        negatives: Negatives | None,
        objectives: set[str],
    ) -> tuple[Tensor, JointLayout]:
        """The tokens [Q, D] of the true pairs and the `negatives` that `objectives` read. `image`
        [B, K, D] and `text` [S, D] are embeddings."""
        model, batch, texts = self.model, pairs.batch, pairs.texts
        rows, length = image.shape[:2]
        image_rows = text_rows = torch.arange(rows, device=image.device)
        known = pairs.known.of
        group = self._groups(image)
        if negatives is not None:
            image_rows = torch.cat([image_rows, negatives.image_rows()])
            text_rows = torch.cat([text_rows, negatives.text_rows()])
            if group:
                known = tuple(texts.lengths[text_rows].tolist())
            else:
                known += tuple(known[row] for row in negatives.known_text_rows(rows))
        words = Words(batch["word_row"], batch["word_place"])
        if "pair_mlm" not in objectives:
            words = Words(words.row[:0], words.place[:0])
        layout = lay_out_pairs(
            texts,
            words,
            length,
            image_rows,
            text_rows,
            known=known,
            pictures_wanted=length if "pair_mim" in objectives else 1,
            group=group,
            class_attention=model.config.class_attention,
        )
        if model.image_tower is not None:
            image = model.encode_embedded_image(image)
            text = model.encode_packed(text, texts.sequences, model.text_tower)
        tokens = embedding(layout.index, torch.cat([image.flatten(0, 1), text]))
        found = model.encode_packed(tokens, layout.sequences, None, layout.queries, layout.asked)
        return found, layout


def _alone(batch: Batch) -> bool:
    """Whether every rank has all rows of a batch, and none of another's."""
    return len(batch.get(ROWS_OF_RANKS, ())) == 1


@dataclass(frozen=True)
class _Pairs:
    """A batch of pairs with its embedded texts [S, D], without and with masked words."""

    batch: Batch
    pixels: Tensor
    texts: Layout
    text: Tensor
    masked_text: Tensor
    known: TextLengths
