"""Start from weights that others trained: MAE encoders in timm's layout."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from momo.model import MoMo

Source = str | os.PathLike[str] | Mapping[str, Tensor]
_PATCHES, _PATCH_BIAS = "patch_embed.proj.weight", "patch_embed.proj.bias"
_CLS, _POSITIONS = "cls_token", "pos_embed"
_IGNORED = ("decoder_", "mask_token", "head.")
_SHOWN = 6


def load_mae(model: MoMo, source: Source) -> tuple[str, ...]:
    """Fill the image half and the shared blocks (or the image tower) of `model` from a MAE encoder
    (arXiv 2111.06377).

    `source`: a `.safetensors` or PyTorch file, or a state dict, with the names of timm's
    VisionTransformer (`vit_base_patch16_224.mae`), which MAE's own checkpoints share. Positions
    are interpolated to the model's image size (bicubic, as timm does; the [CLS] position stays).
    The image's modality embedding becomes 0, since the checkpoint's positions do its work, and
    text embeddings and heads keep their values. So image tokens equal timm's `forward_features`.
    The number of heads is in no checkpoint: it must be right in `model.config`.

    Returns the names that were left out (MAE's decoder, a classifier). Raises ValueError naming
    missing and unexpected names and wrong shapes, FileNotFoundError without the file; the model
    is unchanged then.
    """
    label = "state dict" if isinstance(source, Mapping) else os.fspath(source)
    found = _read(source)
    ignored = tuple(sorted(n for n in found if n.startswith(_IGNORED)))
    found = {n: t for n, t in found.items() if n not in ignored}
    targets = _targets(model)
    problems = _names("missing", targets.keys() - found.keys())
    problems += _names("unexpected", found.keys() - targets.keys())
    values = {n: _fit(n, found[n], model) for n in found.keys() & targets.keys()}
    for name in sorted(values):
        if values[name].shape != targets[name].shape:
            wanted = _checkpoint_shape(name, targets[name], model)
            problems.append(f"{name} is {list(found[name].shape)}, the model needs {wanted}")
    if problems:
        raise ValueError(
            f"{label} does not fit the model as a MAE encoder in timm's layout: "
            f"{_shorten(problems, '; ')}. Compare model.width, depth, mlp_ratio and patch_size"
        )
    with torch.no_grad():
        for name, value in values.items():
            targets[name].copy_(value)
        model.image_embedding.modality.zero_()
    return ignored


def _read(source: Source) -> dict[str, Tensor]:
    """The state dict, taken out of the `model` or `state_dict` that training scripts wrap it in."""
    if isinstance(source, Mapping):
        state: object = source
    else:
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: no such file; give a MAE checkpoint (.safetensors, .pth)"
            )
        try:
            if path.suffix == ".safetensors":
                state = load_file(path)
            else:
                state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # both readers raise many kinds on malformed bytes
            raise ValueError(f"{path} is no readable checkpoint of tensors ({error})") from error
    for key in ("model", "state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(t, Tensor) for t in state.values()):
        raise ValueError("the checkpoint holds no state dict: give names with tensors")
    return dict(state)


def _targets(model: MoMo) -> dict[str, Tensor]:
    """timm's name → our parameter."""
    image, layers = model.image_embedding, model.image_tower or model
    return {
        _CLS: image.cls,
        _POSITIONS: image.positions,
        _PATCHES: image.projection.weight,
        _PATCH_BIAS: image.projection.bias,
        **{f"blocks.{name}": p for name, p in layers.blocks.named_parameters()},
        **{f"norm.{name}": p for name, p in layers.norm.named_parameters()},
    }


def _fit(name: str, value: Tensor, model: MoMo) -> Tensor:
    """In our layout where it can be brought there, else as it is (its shape is refused then)."""
    if name == _PATCHES and value.ndim == 4:  # [D, 3, p, p] → values in (row, column, channel)
        return value.permute(0, 2, 3, 1).flatten(1)
    if name == _POSITIONS and value.ndim == 3 and _square(value.shape[1] - 1):
        from timm.layers.pos_embed import resample_abs_pos_embed  # slow to import, seldom needed

        side = model.config.image_size // model.config.patch_size
        return resample_abs_pos_embed(value, [side, side], num_prefix_tokens=1)
    return value


def _square(count: int) -> bool:
    return count > 0 and math.isqrt(count) ** 2 == count


def _checkpoint_shape(name: str, target: Tensor, model: MoMo) -> list[int]:
    """The shape of `target` as the checkpoint would write it."""
    if name == _PATCHES:
        return [target.shape[0], 3, model.config.patch_size, model.config.patch_size]
    return list(target.shape)


def _names(what: str, names: set[str]) -> list[str]:
    return [f"{what}: {_shorten(sorted(names), ', ')}"] if names else []


def _shorten(items: Sequence[str], separator: str) -> str:
    more = f"{separator}and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return separator.join(items[:_SHOWN]) + more
