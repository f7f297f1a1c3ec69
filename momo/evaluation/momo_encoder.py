"""MoMo under evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from momo.embeddings import normalise_pixels
from momo.evaluation.encoder import Encoder, Trunk
from momo.masking import PAD
from momo.model import MoMo, mean_of_tokens
from momo.precision import FloatPrecision
from momo.tokenizer import encode_pairs, encode_texts


class MoMoTrunk(Trunk):
    """[CLS] and the mean of the tokens; of pairs, the picture's [CLS] and the text's mean."""

    def __init__(self, model: MoMo) -> None:
        super().__init__()
        self.encoder = model
        self.width = 2 * model.config.width

    def forward(self, ids: Tensor | None, pixels: Tensor | None) -> Tensor:
        if ids is None:
            if pixels is None:
                raise ValueError("give ids, pixels or both")
            image = self.encoder.encode_image(normalise_pixels(pixels))
            return torch.cat([image[:, 0], image[:, 1:].mean(dim=1)], dim=1)
        mask = ids != PAD
        if pixels is None:
            text = self.encoder.encode_text(ids, mask)
            return torch.cat([text[:, 0], mean_of_tokens(text, mask)], dim=1)
        image = self.encoder.image_embedding(normalise_pixels(pixels))
        # The last block makes the tokens that are read: [CLS] and the text's.
        read = torch.arange(image.shape[1] - 1, image.shape[1] + ids.shape[1], device=ids.device)
        read[0] = 0
        tokens = self.encoder.encode_joint(
            image, self.encoder.text_embedding(ids), mask, read.expand(len(ids), -1)
        )
        return torch.cat([tokens[:, 0], mean_of_tokens(tokens[:, 1:], mask)], dim=1)

    def layers(self) -> list[list[nn.Parameter]]:
        encoder = self.encoder
        towers = [t for t in (encoder.image_tower, encoder.text_tower) if t is not None]
        own = zip(*([*tower.blocks, tower.norm] for tower in towers), strict=True) if towers else ()
        modules: list[tuple[nn.Module, ...]] = [
            (encoder.image_embedding, encoder.text_embedding),
            *own,
            *((block,) for block in encoder.blocks),
            (encoder.norm,),
        ]
        return [[p for module in part for p in module.parameters()] for part in modules]


class MoMoEncoder(Encoder):
    """MoMo, all of it; `tokenizer` is needed for texts only."""

    savable = True

    def __init__(
        self,
        model: MoMo,
        tokenizer: Tokenizer | None = None,
        *,
        caption_length: int | None = None,
        name: str = "momo",
        device: str | torch.device | None = None,
        precision: FloatPrecision = "fp32",
    ) -> None:
        super().__init__(name, device, precision)
        self.model = model.eval().to(self.device)
        self.tokenizer = tokenizer
        self.seen = frozenset(("image", "text", "pair", "aligned", "matching", "words"))
        self.image_size = model.config.image_size
        self.text_length = model.config.max_text_length
        self.vocab_size = model.config.vocab_size
        self.caption_length = min(caption_length or self.text_length, self.text_length)

    def tokenize(
        self, texts: Sequence[str], second: Sequence[str] | None = None, length: int | None = None
    ) -> np.ndarray:
        if self.tokenizer is None:
            raise ValueError(f"{self.name} has no tokenizer: texts can't be encoded")
        length = min(length or self.text_length, self.text_length)
        if second is None:
            return encode_texts(self.tokenizer, texts, length)
        return encode_pairs(self.tokenizer, texts, second, length)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return self.embed_ids(self.tokenize(texts, length=self.caption_length))

    def trunk(self) -> Trunk:
        return MoMoTrunk(self.model)

    @property
    def tokenizer_json(self) -> str | None:
        return None if self.tokenizer is None else self.tokenizer.to_str()

    def predict_words(self, ids: Tensor, present: Tensor, hidden: Tensor) -> Tensor:
        tokens = self.model.encode_text(ids, present)[hidden]
        return self.model.word_logits(tokens).argmax(dim=-1)

    def _patches(self, pixels: Tensor) -> Tensor:
        return self.model.encode_image(normalise_pixels(pixels))[:, 1:]

    def _words(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        mask = ids != PAD
        return self.model.encode_text(ids, mask), mask

    def _embed_pixels(self, pixels: Tensor) -> Tensor:
        return self.model.embed_image(normalise_pixels(pixels))

    def _embed_ids(self, ids: Tensor) -> Tensor:
        return self.model.embed_text(ids, ids != PAD)

    def _match(self, pixels: Tensor, ids: Tensor) -> Tensor:
        image = self.model.image_embedding(normalise_pixels(pixels))
        first = torch.zeros(len(ids), 1, dtype=torch.int64, device=ids.device)
        tokens = self.model.encode_joint(image, self.model.text_embedding(ids), ids != PAD, first)
        return self.model.matching(tokens[:, 0])
