"""Other people's encoders, from `transformers` folders, behind the same interface.

Pictures are cut and resized as ours are and normalised by the model's own statistics. Padding is -1
in the ids here, since some tokenizers pad with a token that also ends a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from momo.evaluation.encoder import Capability, Encoder, Trunk
from momo.model import mean_of_tokens
from momo.precision import FloatPrecision

PADDING = -1
_MOST_TOKENS = 512
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model")


def _as_vector(output: Any) -> Tensor:
    """What `get_*_features` gave, tensor or output, of all tokens or pooled → [B, E]."""
    features = output if isinstance(output, Tensor) else output.pooler_output
    return features[:, 0] if features.ndim == 3 else features


class _Body(Trunk):
    """The wrapped model with its picture and token inputs; its towers' names, empty: itself."""

    pad = PADDING
    model: Any
    picture_tower = text_tower = ""

    def __init__(self, model: Any, image: Mapping[str, Any], text: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.count = image.get("patches", 0)
        self.text_settings = text
        self.mean: Tensor
        self.std: Tensor
        for key in ("mean", "std"):
            values = torch.tensor(image.get(key, (0.5, 0.5, 0.5))).view(1, 3, 1, 1)
            self.register_buffer(key, values, persistent=False)

    def pixel_values(self, pixels: Tensor) -> Tensor:
        return (pixels.float() / 255.0 - self.mean) / self.std

    def text_inputs(self, ids: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Keyword arguments and the mask, bool [B, T]."""
        mask = ids != PADDING
        plain = ids.masked_fill(~mask, self.text_settings["pad_id"])
        inputs = {"input_ids": plain, "attention_mask": mask.long()}
        if self.text_settings.get("segments"):
            ends = (ids == self.text_settings["sep_id"]).long()
            inputs["token_type_ids"] = ((ends.cumsum(dim=1) - ends) > 0).long() * mask
        return inputs, mask

    def _tower(self, name: str) -> Any:
        return getattr(self.model, name) if name else self.model

    def patches(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The patch tokens [B, count, D], after [CLS] and registers, and the model's summary."""
        tower, count = self._tower(self.picture_tower), self.count
        if getattr(tower.config, "mask_ratio", 0):  # MAE: nothing hidden, in order
            tower.config.mask_ratio = 0.0
        extra = {}
        if tower.config.model_type == "vit_mae":
            extra["noise"] = (
                torch.arange(count, device=pixels.device).float().expand(len(pixels), -1)
            )
        output = tower(pixel_values=self.pixel_values(pixels), **extra)
        return output.last_hidden_state[:, -count:], self.summary(output)

    def words(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The tokens [B, T, D], which of them count, bool [B, T], and the model's summary."""
        inputs, mask = self.text_inputs(ids)
        output = self._tower(self.text_tower)(**inputs)
        return output.last_hidden_state, mask, self.summary(output)

    def summary(self, output: Any) -> Tensor:
        """The model's own pooled vector, else (or where its pooler was never trained) the first
        token: [B, D]."""
        pooled = getattr(output, "pooler_output", None)
        if pooled is None or not getattr(self.model, "has_pooler", True):
            return output.last_hidden_state[:, 0]
        return pooled


class _OnePicture(_Body):
    def __init__(self, model: Any, image: Mapping[str, Any], text: Mapping[str, Any]) -> None:
        super().__init__(model, image, text)
        self.width = 2 * model.config.hidden_size

    def forward(self, ids: Tensor | None, pixels: Tensor | None) -> Tensor:
        if pixels is None or ids is not None:
            raise ValueError("this model encodes pictures only")
        tokens, summary = self.patches(pixels)
        return torch.cat([summary, tokens.mean(dim=1)], dim=1)


class _OneText(_Body):
    def __init__(self, model: Any, image: Mapping[str, Any], text: Mapping[str, Any]) -> None:
        super().__init__(model, image, text)
        self.width = 2 * model.config.hidden_size

    def forward(self, ids: Tensor | None, pixels: Tensor | None) -> Tensor:
        if ids is None or pixels is not None:
            raise ValueError("this model encodes texts only")
        tokens, mask, summary = self.words(ids)
        return torch.cat([summary, mean_of_tokens(tokens, mask)], dim=1)


class _Both(_Body):
    """The picture's summary, the text's, and the mean of its tokens (a causal text tower ends its
    summary at the first of two sentences), side by side: a missing modality is zeros."""

    picture_tower, text_tower = "vision_model", "text_model"

    def __init__(self, model: Any, image: Mapping[str, Any], text: Mapping[str, Any]) -> None:
        super().__init__(model, image, text)
        config = model.config
        text_width = config.text_config.hidden_size
        self.widths = (config.vision_config.hidden_size, text_width, text_width)
        self.width = sum(self.widths)

    def forward(self, ids: Tensor | None, pixels: Tensor | None) -> Tensor:
        present = ids if ids is not None else pixels
        if present is None:
            raise ValueError("give ids, pixels or both")
        parts = [torch.zeros(len(present), w, device=present.device) for w in self.widths]
        if pixels is not None:
            parts[0] = self.patches(pixels)[1]
        if ids is not None:
            tokens, mask, parts[1] = self.words(ids)
            parts[2] = mean_of_tokens(tokens, mask)
        return torch.cat(parts, dim=1)


class _Flava(_Body):
    """FLAVA's image, text and multimodal encoders: [CLS] and the tokens' mean of the one that
    takes what is given."""

    picture_tower, text_tower = "image_model", "text_model"

    def __init__(self, model: Any, image: Mapping[str, Any], text: Mapping[str, Any]) -> None:
        super().__init__(model, image, text)
        config = model.config
        parts = (config.image_config, config.text_config, config.multimodal_config)
        self.widest = max(part.hidden_size for part in parts)
        self.width = 2 * self.widest

    def _joined(self, first: Tensor, mean: Tensor) -> Tensor:
        room = self.widest - first.shape[1]
        return torch.cat([nn.functional.pad(t, (0, room)) for t in (first, mean)], dim=1)

    def forward(self, ids: Tensor | None, pixels: Tensor | None) -> Tensor:
        model = self.model
        if pixels is None:
            if ids is None:
                raise ValueError("give ids, pixels or both")
            tokens, mask, _ = self.words(ids)
            return self._joined(tokens[:, 0], mean_of_tokens(tokens, mask))
        values = self.pixel_values(pixels)
        if ids is None:
            image = model.image_model(pixel_values=values).last_hidden_state
            return self._joined(image[:, 0], image[:, 1:].mean(dim=1))
        # The model's own forward: what it gives its multimodal encoder has no final norm.
        inputs, mask = self.text_inputs(ids)
        output = model(pixel_values=values, **inputs).multimodal_embeddings
        text = output[:, -ids.shape[1] :]
        return self._joined(output[:, 0], mean_of_tokens(text, mask))


class TransformersEncoder(Encoder):
    """What all of them share; subclasses say what they can do and how they are read."""

    pad = PADDING
    seen: frozenset[Capability]
    body_class: type[_Body]

    def __init__(
        self,
        model: Any,
        folder: Path,
        name: str,
        device: str | torch.device | None = None,
        precision: FloatPrecision = "fp32",
    ) -> None:
        super().__init__(name, device, precision)
        self.folder = folder
        self.model = model.eval().to(self.device)
        self.tokenizer: Any = None
        image: dict[str, Any] = {}
        text: dict[str, Any] = {"pad_id": 0}
        if "image" in self.seen:
            image = self._picture_settings(self._config("vision_config", "image_config"))
            self.image_size = image["size"]
        if "text" in self.seen:
            text = self._text_settings(self._config("text_config"))
        self.body = self.body_class(self.model, image, text).to(self.device).eval()

    def _config(self, *names: str) -> Any:
        config = self.model.config
        return next((getattr(config, n) for n in names if hasattr(config, n)), config)

    def _picture_settings(self, config: Any) -> dict[str, Any]:
        from transformers import AutoImageProcessor

        try:
            processor: Any = AutoImageProcessor.from_pretrained(self.folder)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{self.folder} holds no picture processor ({error}): save the model's processor "
                "there too, which knows how its pictures are normalised"
            ) from error
        size = config.image_size
        side, patch = (v if isinstance(v, int) else v[0] for v in (size, config.patch_size))
        return {
            "size": side,
            "patches": (side // patch) ** 2,
            "mean": tuple(processor.image_mean),
            "std": tuple(processor.image_std),
        }

    def _text_settings(self, config: Any) -> dict[str, Any]:
        from transformers import AutoTokenizer

        try:
            # Without its files the library makes an empty one up.
            if not any((self.folder / name).is_file() for name in _TOKENIZER_FILES):
                raise FileNotFoundError(f"none of {', '.join(_TOKENIZER_FILES)}")
            self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{self.folder} holds no tokenizer ({error}): save the model's tokenizer there too"
            ) from error
        longest = getattr(config, "max_position_embeddings", _MOST_TOKENS)
        if config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet"):
            longest -= 2  # their positions start behind the padding's
        self.text_length = min(longest, self.tokenizer.model_max_length, _MOST_TOKENS)
        # SigLIP reads padding as words do: always as many, without a mask.
        self.fixed_length = config.model_type.startswith("siglip")
        return {
            "pad_id": self.tokenizer.pad_token_id or 0,
            "sep_id": self.tokenizer.sep_token_id,
            "segments": getattr(config, "type_vocab_size", 0) > 1
            and self.tokenizer.sep_token_id is not None,
        }

    def tokenize(
        self, texts: Sequence[str], second: Sequence[str] | None = None, length: int | None = None
    ) -> np.ndarray:
        self._require("text")
        length = self.text_length if self.fixed_length else min(length or 128, self.text_length)
        encoded = self.tokenizer(
            list(texts),
            None if second is None else list(second),
            truncation=True,
            max_length=length,
            padding="max_length",
            return_attention_mask=True,
            return_tensors="np",
        )
        ids = np.asarray(encoded["input_ids"], dtype=np.int64)
        if self.fixed_length:
            return ids
        return np.where(np.asarray(encoded["attention_mask"]) > 0, ids, PADDING)

    def trunk(self) -> Trunk:
        return self.body

    def _patches(self, pixels: Tensor) -> Tensor:
        return self.body.patches(pixels)[0]

    def _words(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        tokens, mask, _ = self.body.words(ids)
        return tokens, mask

    def _embed_pixels(self, pixels: Tensor) -> Tensor:
        values = self.body.pixel_values(pixels)
        found = _as_vector(self.model.get_image_features(pixel_values=values))
        return nn.functional.normalize(found, dim=-1)

    def _embed_ids(self, ids: Tensor) -> Tensor:
        inputs, _ = self.body.text_inputs(ids)
        found = _as_vector(self.model.get_text_features(**inputs))
        return nn.functional.normalize(found, dim=-1)


class PictureEncoder(TransformersEncoder):
    """ViT, DeiT, DINOv2, MAE and their kind."""

    seen = frozenset(("image",))
    body_class = _OnePicture


class TextEncoder(TransformersEncoder):
    """BERT, RoBERTa, DistilBERT, ELECTRA and their kind."""

    seen = frozenset(("text",))
    body_class = _OneText


class TwoTowers(TransformersEncoder):
    """CLIP, SigLIP and their kind. Pairs are fused late: both summaries side by side."""

    seen = frozenset(("image", "text", "pair", "aligned"))
    body_class = _Both


class FlavaEncoder(TransformersEncoder):
    """FLAVA (arXiv 2112.04482): pairs go through its multimodal encoder."""

    seen = frozenset(("image", "text", "pair", "aligned"))
    body_class = _Flava
