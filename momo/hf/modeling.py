"""The model behind `transformers`' interface."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES,
)
from transformers.utils.generic import ModelOutput

from momo.by_length import encode_by_length, text_lengths
from momo.hf.configuration import MoMoConfig
from momo.model import MoMo

# The pipeline for zero-shot classification logs an error for a class that it does not know by name.
_KNOWN: Any = MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES
_KNOWN.setdefault("momo", "MoMoModel")


@dataclass
class MoMoOutput(ModelOutput):
    """What a forward pass gives; what its inputs don't allow is None.

    `text_embeds` [T, E], `image_embeds` [I, E] unit vectors; `logits_per_image` [I, T] their
    cosines times the learned scale, `logits_per_text` its transpose. For pairs (row i of both):
    `image_hidden_states` [B, 1 + N, D] ([CLS] first) and `text_hidden_states` [B, L, D] of the
    joint pass, `matching_logits` [B], above 0 where the text belongs to the picture.
    """

    logits_per_image: torch.FloatTensor | None = None
    logits_per_text: torch.FloatTensor | None = None
    text_embeds: torch.FloatTensor | None = None
    image_embeds: torch.FloatTensor | None = None
    image_hidden_states: torch.FloatTensor | None = None
    text_hidden_states: torch.FloatTensor | None = None
    matching_logits: torch.FloatTensor | None = None


def _lengths_are_known(mask: Tensor) -> bool:
    """Whether the host may look at them: a GPU would have to be waited for, and a gradient or a
    compiler would lose its trace."""
    traced = torch.is_grad_enabled() or torch.compiler.is_compiling()
    return mask.device.type == "cpu" and len(mask) > 0 and not traced


class MoMoModel(PreTrainedModel):
    """`momo.model.MoMo`, all heads included, as `network`."""

    config_class = MoMoConfig
    base_model_prefix = "momo"
    _no_split_modules = ["Block"]  # noqa: RUF012 - read by transformers

    def __init__(self, config: MoMoConfig) -> None:
        super().__init__(config)
        self.network = MoMo(config.to_model_config())
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing by module: `initialize_weights` fills the model as a whole."""

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """Initialise what no checkpoint filled; `transformers` marks the parameters it loaded."""
        parameters = dict(self.network.named_parameters())
        loaded = {n: p for n, p in parameters.items() if getattr(p, "_is_hf_initialized", False)}
        if len(loaded) == len(parameters):
            return
        kept = {name: parameter.clone() for name, parameter in loaded.items()}
        self.network.reset()
        for name, value in kept.items():
            parameters[name].copy_(value)

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any
    ) -> None:
        """As every model of transformers; the folder also gets the code that opens it where this
        package is not installed (`momo.hf.code`)."""
        try:
            from momo.hf.code import MODEL_MAP, write_code
        except ImportError:  # this is a folder's own copy, and transformers copies it on
            pass
        else:
            self.config.auto_map = dict(MODEL_MAP)
            write_code(save_directory)
        super().save_pretrained(save_directory, *args, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        return self.network.text_embedding.words

    def _mask(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """bool [B, L]; the padding token counts for nothing, even written out in a text."""
        mask = input_ids != self.config.pad_token_id
        return mask if attention_mask is None else mask & attention_mask.bool()

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """int64 [B, L], [B, L] (1: a token; None: all but padding) → unit float32 [B, E]."""
        mask = self._mask(input_ids, attention_mask)
        if not _lengths_are_known(mask):
            return self.network.embed_text(input_ids, mask)

        def encode(rows: np.ndarray, longest: int) -> np.ndarray:
            return self.network.embed_text(input_ids[rows, :longest], mask[rows, :longest]).numpy()

        lengths = text_lengths(mask.numpy())
        return torch.from_numpy(encode_by_length(encode, lengths, len(mask), mask.device))

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Normalised float [B, 3, H, W] → unit vectors float32 [B, E]."""
        return self.network.embed_image(pixel_values.to(self.dtype))

    def get_pair_features(
        self, input_ids: Tensor, pixel_values: Tensor, attention_mask: Tensor | None = None
    ) -> Tensor:
        """Pairs, row i of both: the unit vectors between the text's and the picture's, [B, E]."""
        texts = self.get_text_features(input_ids, attention_mask)
        return nn.functional.normalize(texts + self.get_image_features(pixel_values), dim=-1)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        joint: bool | None = None,
        return_dict: bool | None = None,
    ) -> MoMoOutput | tuple[Tensor, ...]:
        """Texts [T, L], pictures [I, 3, H, W] or both → `MoMoOutput`.

        `joint`: also run both as pairs, row by row, which costs a third pass; None: where there
        are as many texts as pictures. Raises ValueError without inputs, and for `joint` without
        pairs.
        """
        if input_ids is None and pixel_values is None:
            raise ValueError("give input_ids, pixel_values or both; processor(...) makes them")
        output = MoMoOutput()
        if input_ids is not None:
            output["text_embeds"] = self.get_text_features(input_ids, attention_mask)
        if pixel_values is not None:
            output["image_embeds"] = self.get_image_features(pixel_values)
        pairs = False
        if input_ids is not None and pixel_values is not None:
            scale = self.network.contrastive.clamped_log_scale().exp().float()
            logits = scale * output["image_embeds"] @ output["text_embeds"].T
            output["logits_per_image"], output["logits_per_text"] = logits, logits.T
            pairs = len(input_ids) == len(pixel_values)
        if joint and not pairs:
            raise ValueError("joint=True needs as many texts as pictures: row i of both is a pair")
        if pairs and joint is not False:
            assert input_ids is not None
            assert pixel_values is not None
            mask = self._mask(input_ids, attention_mask)
            pixels = pixel_values.to(self.dtype)
            image, text = self.network.encode_pair(pixels, input_ids, mask)
            output["image_hidden_states"], output["text_hidden_states"] = image, text
            output["matching_logits"] = self.network.matching(image[:, 0])
        return output if return_dict is not False else output.to_tuple()
