"""A model under evaluation by its folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from momo.evaluation.encoder import Encoder
from momo.evaluation.foreign import FlavaEncoder, PictureEncoder, TextEncoder, TwoTowers
from momo.evaluation.momo_encoder import MoMoEncoder
from momo.export import CONFIG, load_embedder
from momo.model import MoMo
from momo.precision import FloatPrecision


def load_encoder(
    path: str | os.PathLike[str],
    name: str | None = None,
    device: str | torch.device | None = None,
    precision: FloatPrecision = "fp32",
) -> Encoder:
    """An exported MoMo or a `transformers` model by its folder; `device` and `precision` as for
    `Encoder`.

    Raises FileNotFoundError or ValueError that names the folder and what it lacks.
    """
    folder = Path(path)
    file = folder / CONFIG
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder} holds no {CONFIG}: give the folder of an exported MoMo or of a transformers "
            "model (save_pretrained)"
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error}): save the model again") from error
    name = name or folder.name
    exported = "model" in config
    if not exported and config.get("model_type") != "momo":
        return _foreign(folder, name, device, precision)
    model, tokenizer, length = _exported(folder) if exported else _converted(folder)
    return MoMoEncoder(
        model, tokenizer, caption_length=length, name=name, device=device, precision=precision
    )


def _foreign(
    folder: Path,
    name: str,
    device: str | torch.device | None = None,
    precision: FloatPrecision = "fp32",
) -> Encoder:
    """By the shape of its config: FLAVA; two towers (CLIP, SigLIP and their kind); one picture
    encoder (ViT and its kind); one text encoder (BERT and its kind).

    Raises ValueError for a model that is none of them or whose processor is missing.
    """
    from transformers import AutoConfig, AutoModel

    try:
        full = AutoConfig.from_pretrained(folder)
        model, loaded = AutoModel.from_pretrained(
            folder,
            dtype=torch.float32,  # also of saved bf16
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{folder} can't be loaded as a transformers model ({error}); save it with "
            "save_pretrained, weights as safetensors"
        ) from error
    missing = sorted(loaded["missing_keys"])
    if absent := [k for k in missing if "pooler" not in k and "position_ids" not in k]:
        raise ValueError(
            f"{folder} lacks {len(absent)} weights of a {full.model_type} model ({absent[0]}, …), "
            "which would be random: give a checkpoint of the whole encoder"
        )
    model.has_pooler = not missing
    _check_sizes(folder, full)
    if full.model_type == "flava":
        return FlavaEncoder(model, folder, name, device, precision)
    if hasattr(full, "vision_config") and hasattr(full, "text_config"):
        if not hasattr(model, "get_image_features") or not hasattr(model, "get_text_features"):
            raise ValueError(
                f"{folder}: a {full.model_type} model has no get_image_features and "
                "get_text_features; give a model with two towers, as CLIP's or SigLIP's"
            )
        return TwoTowers(model, folder, name, device, precision)
    if hasattr(full, "patch_size"):
        return PictureEncoder(model, folder, name, device, precision)
    if hasattr(full, "vocab_size"):
        return TextEncoder(model, folder, name, device, precision)
    raise ValueError(
        f"{folder}: don't know how to evaluate a {full.model_type} model; give a CLIP-, SigLIP-, "
        "FLAVA-, ViT- or BERT-like one"
    )


def _check_sizes(folder: Path, config: Any) -> None:
    """Raise ValueError where a tower's config lacks what a transformer's has."""
    pictures, texts = ("image_size", "patch_size", "hidden_size"), ("vocab_size", "hidden_size")
    towers = [("vision_config", pictures), ("image_config", pictures), ("text_config", texts)]
    parts = [(getattr(config, name), needed) for name, needed in towers if hasattr(config, name)]
    if not parts:
        parts = [(config, pictures if hasattr(config, "patch_size") else texts)]
    for part, needed in parts:
        if absent := [
            n for n in needed if not isinstance(getattr(part, n, None), int | list | tuple)
        ]:
            raise ValueError(
                f"{folder}: don't know how to evaluate a {config.model_type} model (its config has "
                f"no {', '.join(absent)}); give a CLIP-, SigLIP-, FLAVA-, ViT- or BERT-like one"
            )


def _exported(folder: Path) -> tuple[MoMo, Tokenizer, int]:
    """The model, its tokenizer and the tokens of a caption."""
    embedder = load_embedder(folder, "cpu")
    return embedder.model, embedder.tokenizer, embedder.text_length


def _converted(folder: Path) -> tuple[MoMo, Tokenizer, int]:
    """Of a MoMo in `transformers`' form, as `_exported`. Raises ValueError."""
    from transformers import AutoTokenizer

    from momo.hf.modeling import MoMoModel

    try:
        model = MoMoModel.from_pretrained(folder, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} can't be loaded ({error}); make it again with pipelines/to_transformers.py"
        ) from error
    whole = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    whole.no_truncation()
    whole.no_padding()
    return model.network, whole, tokenizer.model_max_length
