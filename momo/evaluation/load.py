"""A model under evaluation by its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from momo.evaluation.encoder import Encoder
from momo.evaluation.foreign import FlavaEncoder, PictureEncoder, TextEncoder, TwoTowers
from momo.evaluation.momo_encoder import MoMoEncoder
from momo.export import CONFIG, load
from momo.precision import Precision


def load_encoder(
    path: str | os.PathLike[str],
    name: str | None = None,
    device: str | torch.device | None = None,
    precision: Precision = "fp32",
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
    if "model" in config:
        embedder = load(folder, "cpu")
        return MoMoEncoder(
            embedder.model,
            embedder.tokenizer,
            caption_length=embedder.text_length,
            name=name,
            device=device,
            precision=precision,
        )
    return _foreign(folder, config, name, device, precision)


def _foreign(
    folder: Path,
    config: Mapping[str, Any],
    name: str,
    device: str | torch.device | None = None,
    precision: Precision = "fp32",
) -> Encoder:
    """By the shape of its config: FLAVA; two towers (CLIP, SigLIP and their kind); one picture
    encoder (ViT and its kind); one text encoder (BERT and its kind); MoMo in `transformers`' form.

    Raises ValueError for a model that is none of them or whose processor is missing.
    """
    if config.get("model_type") == "momo":
        return _momo(folder, name, device, precision)
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


def _momo(
    folder: Path, name: str, device: str | torch.device | None, precision: Precision
) -> Encoder:
    from transformers import AutoTokenizer

    from momo.hf.modeling import MoMoModel

    try:
        model = MoMoModel.from_pretrained(folder, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} can't be loaded ({error}); make it again with pipelines/to_transformers.py"
        ) from error
    return MoMoEncoder(
        model.network,
        tokenizer.backend_tokenizer,
        caption_length=tokenizer.model_max_length,
        name=name,
        device=device,
        precision=precision,
    )
