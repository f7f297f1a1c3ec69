"""What objectives see of a batch: each pass through the encoder is made once, when the first of
them asks for it.

Shapes: B rows, T tokens of the longest text, S of all texts, D width, E embedding width.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import or_
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from torch.utils.checkpoint import checkpoint

from momo.batches import ROWS_OF_RANKS, TEXTS, TextLengths
from momo.config import TaskConfig
from momo.embeddings import normalise_pixels, normalised_patches, take_tokens
from momo.losses import Loss, Negatives, draw_negatives, mim_loss, mlm_loss, pair_keys
from momo.masking import draw, random_patch_keep
from momo.micro_batches import PART, Part
from momo.modalities import MODALITIES
from momo.model import MoMo
from momo.objectives import Objective
from momo.packing import JointLayout, Layout, Words, lay_out, lay_out_pairs
from momo.passes import Apart, Joint

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Views:
    """A batch as `MoMoTask.on_host` leaves it, the `objectives` on it and their own `heads`.

    `group_lengths`: as in `MoMoTask`. `ranks`: pairs that each rank has in training.
    """

    model: MoMo
    config: TaskConfig
    batch: Mapping[str, Any]
    objectives: Sequence[Objective]
    heads: nn.ModuleDict
    group_lengths: bool = True
    ranks: tuple[int, ...] | None = None

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` gives: made when it is first asked for by this name, for all who ask after,
        such as an objective's `loss` and its `rows`."""
        made = vars(self).setdefault("_made", {})
        if name not in made:
            made[name] = make()
        return made[name]

    def draw(self, name: str, n: int) -> Tensor:
        """Uniform random numbers of an objective's own (`name`), float32 [B, n] in [0, 1): a
        function of each row's noise, so that a batch gives the same each time, and independent of
        what the noise is used for otherwise."""
        one = MODALITIES[self.objectives[0].modality]
        return draw(self.batch[one.drawn_by], zlib.crc32(name.encode()), n)

    @cached_property
    def pixels(self) -> Tensor:
        """Normalised, float [B, 3, H, W]."""
        return normalise_pixels(self.batch["pixels"])

    @cached_property
    def patches(self) -> Tensor:
        """Of the normalised pictures, float [B, N, 3·p·p]."""
        self.model.image_embedding.check_size(self.batch["pixels"])
        return normalised_patches(self.batch["pixels"], self.model.config.patch_size)

    @cached_property
    def patch_mask(self) -> tuple[Tensor, Tensor]:
        """Patches that are kept and masked, int64 [B, K] and [B, N - K]."""
        raise NotImplementedError

    def patch_loss(self, tokens: Tensor) -> Loss:
        """Of the masked patches, from the others' `tokens` [B, 1 + K, D]; the decoder's last block
        makes no others."""
        keep, masked = self.patch_mask
        prediction = self.model.pixel_decoder(tokens, keep, masked)
        return mim_loss(prediction, take_tokens(self.patches, masked))

    def word_loss(self, tokens: Tensor) -> Loss:
        """Of the masked words, from their `tokens` [M, D]."""
        return mlm_loss(self.model.word_logits(tokens), self.batch["targets"])

    def lay_out(self, lengths: Tensor, known: Sequence[int]) -> Layout:
        """Texts of `lengths`, which are `known` on the host, one after another."""
        return lay_out(lengths, known, group=self.groups(lengths))

    def groups(self, tensor: Tensor) -> bool:
        """Whether texts of equal length come together, on the device of `tensor`."""
        return self.group_lengths and tensor.device.type == "cpu"

    @cached_property
    def texts(self) -> Layout:
        """Where each text's tokens are among all S."""
        known: TextLengths = self.batch[TEXTS]
        return self.lay_out(self.batch["lengths"], known.of)


class ImageViews(Views):
    """A batch of pictures."""

    @cached_property
    def patch_mask(self) -> tuple[Tensor, Tensor]:
        return random_patch_keep(self.batch["noise"], self.config.image_mask_ratio)

    @cached_property
    def tokens(self) -> Tensor:
        """[CLS] and the patches that masking leaves, encoded, [B, 1 + K, D]."""
        image = self.model.image_embedding.of_patches(self.patches, self.patch_mask[0])
        return self.model.encode_embedded_image(image)


class TextViews(Views):
    """A batch of texts."""

    @cached_property
    def tokens(self) -> Tensor:
        """Of all texts with their masked words, encoded, [S, D], as `texts` says."""
        model, texts = self.model, self.texts
        ids = self.batch["masked_ids"][texts.row, texts.place]
        tokens = model.text_embedding.packed(ids, texts.place)
        return model.encode_packed(tokens, texts.sequences, model.text_tower)

    @cached_property
    def word_tokens(self) -> Tensor:
        """Those of the masked words, [M, D]."""
        row, place = self.batch["word_row"], self.batch["word_place"]
        return embedding(self.texts.start[row] + place, self.tokens)


@dataclass(frozen=True)
class JointTokens:
    """Pairs as one sequence each: the tokens [Q, D] that are read, and which those are."""

    tokens: Tensor
    layout: JointLayout

    def read(self, index: Tensor) -> Tensor:
        """The tokens at `index` [...] → [..., D]."""
        return embedding(index, self.tokens)


@dataclass(frozen=True, eq=False)
class PairViews(Views):
    """A batch of pairs, or a part of one."""

    _joint: dict[str, JointTokens] = field(default_factory=dict)

    @property
    def part(self) -> Part | None:
        return self.batch.get(PART)

    @cached_property
    def patch_mask(self) -> tuple[Tensor, Tensor]:
        return random_patch_keep(self.batch["noise_image"], self.config.pair_image_mask_ratio)

    @cached_property
    def embedded_texts(self) -> tuple[Tensor, Tensor]:
        """[S, D] before the encoder, without and with masked words. Together: each backward of the
        table of words would fill one of its size."""
        batch, texts = self.batch, self.texts
        both = torch.stack([batch["ids"], batch["masked_ids"]])[:, texts.row, texts.place]
        tokens = self.model.text_embedding.packed(both.flatten(), texts.place.repeat(2))
        text, masked_text = tokens.chunk(2)
        return text, masked_text

    @cached_property
    def keys(self) -> Tensor:
        """[B, K], see `pair_keys`."""
        return pair_keys(self.batch["ids"], self.batch.get("group"))

    @cached_property
    def log_scale(self) -> Tensor:
        """Of the similarities, a scalar."""
        return self.model.contrastive.clamped_log_scale()

    @property
    def alone(self) -> bool:
        """Whether every rank has all rows of the batch, and none of another's."""
        return len(self.batch.get(ROWS_OF_RANKS, ())) == 1

    @property
    def rows_of_ranks(self) -> tuple[int, ...] | None:
        """Pairs of each rank's batch, where the ranks share a batch unevenly."""
        return self.batch.get(ROWS_OF_RANKS, self.ranks)

    @cached_property
    def embeddings(self) -> tuple[Tensor, Tensor]:
        """Unit vectors [B, E] of pictures and of texts. With a chunk, so many rows at a time
        without keeping activations: the backward pass gets the gradient of all embeddings first and
        then replays chunk by chunk (gradient caching, arXiv 2101.06983)."""
        model, text, known = self.model, self.embedded_texts[0], self.batch[TEXTS]
        size = self.config.contrastive_chunk if self.part is None else self.part.chunk
        if not size or not torch.is_grad_enabled():
            return model.embed_both(self.patches, text, self.texts, max(known.of))
        done = []
        for start in range(0, len(known.of), size):
            rows = slice(start, start + size)
            lengths = known.rows(start, start + size)
            texts = self.lay_out(self.texts.lengths[rows], lengths)
            index = self.texts.start[rows][texts.row] + texts.place
            inputs = (self.patches[rows], embedding(index, text), texts, max(lengths))
            done.append(checkpoint(model.embed_both, *inputs, use_reentrant=False))
        image_emb, text_emb = zip(*done, strict=True)
        return torch.cat(image_emb), torch.cat(text_emb)

    @cached_property
    def negatives(self) -> Negatives:
        """False pairs, by how alike `embeddings` are where an objective reads these; of a part
        those that the whole batch drew."""
        part, config = self.part, self.config
        if part is not None and part.drawn.negatives is not None:
            group = min(config.matching_group, part.rows)
            stop = part.start + len(self.batch[TEXTS].of)
            return part.drawn.negatives.of_rows(part.start, stop, group)
        similar: tuple[Tensor, Tensor] | None = None
        # Of a batch in parts only those that compare have all rows at once.
        comparing = (one for one in self.objectives if one.compares)
        if any(isinstance(view, Apart) for one in comparing for view in one.reads):
            image, text = self.embeddings
            similar = (self.log_scale.exp() * image).detach(), text.detach()
        return draw_negatives(
            *(similar, self.keys, self.batch["noise_match"]),
            *(config.matching_group, config.matching_fraction),
        )

    def joint(self, objective: Objective) -> JointTokens:
        """The pass that the objective shares with others, or its own where nothing is shared."""
        shared = self.config.shared_passes
        name = "" if shared else objective.name
        if name not in self._joint:
            readers = self.objectives if shared else (objective,)
            reads = [view for one in readers for view in one.reads if isinstance(view, Joint)]
            self._joint[name] = self._encode(reduce(or_, reads))
        return self._joint[name]

    def _encode(self, read: Joint) -> JointTokens:
        """The true pairs, and the false ones where they are read, masked alike."""
        shared, (text, masked_text) = self.config.shared_passes, self.embedded_texts
        kept = self.patch_mask[0] if shared or read.patches else None
        image = self.model.image_embedding.of_patches(self.patches, kept)
        text = masked_text if shared or read.words else text
        layout = self._lay_out_pairs(image, read)
        model = self.model
        if model.image_tower is not None:
            image = model.encode_embedded_image(image)
            text = model.encode_packed(text, self.texts.sequences, model.text_tower)
        tokens = embedding(layout.index, torch.cat([image.flatten(0, 1), text]))
        found = model.encode_packed(tokens, layout.sequences, None, layout.queries, layout.asked)
        return JointTokens(found, layout)

    def _lay_out_pairs(self, image: Tensor, read: Joint) -> JointLayout:
        """Of embedded pictures `image` [B, K, D] and `texts`."""
        batch, texts = self.batch, self.texts
        rows, length = image.shape[:2]
        image_rows = text_rows = torch.arange(rows, device=image.device)
        known, group = batch[TEXTS].of, self.groups(image)
        if read.false_pairs:
            negatives = self.negatives
            image_rows = torch.cat([image_rows, negatives.image_rows()])
            text_rows = torch.cat([text_rows, negatives.text_rows()])
            if group:
                known = tuple(texts.lengths[text_rows].tolist())
            else:
                known += tuple(known[row] for row in negatives.known_text_rows(rows))
        words = Words(batch["word_row"], batch["word_place"])
        if not read.words:
            words = Words(words.row[:0], words.place[:0])
        return lay_out_pairs(
            *(texts, words, length, image_rows, text_rows),
            known=known,
            pictures_wanted=length if read.patches else 1,
            group=group,
            class_attention=self.model.config.class_attention,
        )
