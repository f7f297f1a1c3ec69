"""Texts and pictures into the model's inputs, as `momo.load(...).embed` prepares them."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from transformers import BatchFeature, PreTrainedTokenizerFast, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor
from transformers.processing_utils import ProcessingKwargs
from transformers.utils.generic import TensorType

from momo.embeddings import normalise_pixels
from momo.pictures import open_picture
from momo.tokenizer import SPECIAL_TOKENS, check_special_tokens
from momo.transforms import stack_pictures

_CHANNELS = (1, 3, 4)


class MoMoImageProcessor(BaseImageProcessor):
    """Pictures → `pixel_values` float32 [B, 3, S, S]: the largest central square, resized
    (Pillow, bilinear), normalised as in training. Only the size S is a setting.

    Takes paths, `data:image/…;base64,` URIs, PIL pictures (turned by their EXIF orientation,
    transparency on white) and uint8 arrays or tensors, one or a list. Addresses are not fetched.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012 - read by transformers

    def __init__(self, size: int | Mapping[str, int] = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        side = size if isinstance(size, int) else size["height"]
        self.size = {"height": side, "width": side}

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """As given: `preprocess` opens files itself, keeping transparency."""
        return image_url_or_urls

    def preprocess(  # type: ignore[override]
        self, images: Any, return_tensors: str | TensorType | None = None, **kwargs: Any
    ) -> BatchFeature:
        """Raises ValueError for unreadable pictures, TypeError for what is none and for settings
        other than the size, which training has fixed.
        """
        if other := sorted(k for k, v in kwargs.items() if v is not None):
            raise TypeError(f"{other}: pictures are prepared as in training; only size can be set")
        several = isinstance(images, Sequence) and not isinstance(images, str)
        pictures = [_open(i) for i in (images if several or _is_array(images, 4) else [images])]
        pixels = stack_pictures(pictures, self.size["height"])
        values = normalise_pixels(torch.from_numpy(pixels)).numpy()
        return BatchFeature({"pixel_values": values}, tensor_type=return_tensors)


def _is_array(value: Any, dimensions: int) -> bool:
    return isinstance(value, np.ndarray | torch.Tensor) and value.ndim == dimensions


def _open(image: Any) -> Image.Image:
    """As `momo.pictures.open_picture`; of arrays and tensors also [C, H, W] (C: 1, 3 or 4), as
    `transformers` has them."""
    if isinstance(image, str):
        return _named(image)
    if isinstance(image, torch.Tensor):
        image = image.numpy(force=True)
    if _is_array(image, 3) and image.shape[-1] not in _CHANNELS and image.shape[0] in _CHANNELS:
        image = image.transpose(1, 2, 0)
    return open_picture(image)


def _named(name: str) -> Image.Image:
    """The picture of a path or a data URI."""
    if name.startswith(("http://", "https://")):
        raise ValueError(f"{name}: addresses are not fetched; give a file or a PIL picture")
    if not name.startswith("data:image/"):
        return open_picture(name)
    told, _, encoded = name.partition(",")
    try:
        opened = Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))
        opened.load()
    except Exception as error:  # Pillow's decoders raise many kinds on malformed bytes
        raise ValueError(f"{told[:40]},…: no picture as base64 ({error})") from error
    return open_picture(opened)


_TEXT_KWARGS: Any = {"padding": True, "truncation": True}


class _Defaults(ProcessingKwargs, total=False):
    _defaults = {"text_kwargs": _TEXT_KWARGS}  # type: ignore[misc]  # noqa: RUF012


class MoMoProcessor(ProcessorMixin):
    """`processor(text=..., images=..., return_tensors="pt")` → what `MoMoModel` takes.

    Texts are padded to the longest and cut to the tokenizer's `model_max_length`.
    """

    # Defaults by either name: transformers 5.17 reads the second only, a later one drops it.
    text_kwargs = _TEXT_KWARGS
    valid_processor_kwargs = _Defaults

    def __init__(
        self,
        image_processor: MoMoImageProcessor | None = None,
        tokenizer: PreTrainedTokenizerFast | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_processor, tokenizer, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> Any:  # type: ignore[override]
        """As every processor of transformers, and the code as `MoMoModel.save_pretrained`."""
        try:
            from momo.hf.code import IMAGE_PROCESSOR_MAP, PROCESSOR_MAP, write_code
        except ImportError:  # this is a folder's own copy, and transformers copies it on
            pass
        else:
            write_code(save_directory)
            self.auto_map = dict(PROCESSOR_MAP)
            if self.image_processor is not None:
                self.image_processor.auto_map = dict(IMAGE_PROCESSOR_MAP)
        return super().save_pretrained(save_directory, **kwargs)


def make_tokenizer(tokenizer: Tokenizer, text_length: int) -> PreTrainedTokenizerFast:
    """The exported tokenizer for `transformers`, cutting texts to `text_length` tokens.

    Raises ValueError when a special token has another id than in training.
    """
    check_special_tokens(tokenizer, "tokenizer")
    names: Sequence[str] = ("pad", "unk", "cls", "sep", "mask")
    special = {f"{n}_token": t for n, t in zip(names, SPECIAL_TOKENS, strict=True)}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=text_length,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **special,
    )
