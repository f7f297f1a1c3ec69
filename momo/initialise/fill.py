"""Fill a model with what a source has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from momo.config import ModelConfig
from momo.embeddings import PIXEL_MEAN, PIXEL_STD
from momo.initialise.check import check, listed, renamed, statistics_of
from momo.initialise.layouts import WeightLayout, bert, layout_of, momo
from momo.initialise.layouts.layout import CLS, PARTS, PATCHES, POSITIONS, Statistics
from momo.initialise.origin import Origin
from momo.initialise.source import Source, find_source, side_of
from momo.initialise.words import word_order
from momo.modalities.base import EXTRA
from momo.model import MoMo

Tensors = dict[str, Tensor]
_DECODER_POSITIONS, _TEXT_POSITIONS = "pixel_decoder.positions", "text_embedding.positions"
_IMAGE_MODALITY = "image_embedding.modality"


def load_initial(model: MoMo, source: str | os.PathLike[str]) -> Origin:
    """Fill as much of `model` as `source` has; what `check_initial` takes and says.

    Then features equal the source's at the source's image size: image tokens those behind its last
    norm, BERT's word embeddings those behind its norm. What differs between the models is folded
    into the weights: LayerScale, absent biases, how pictures are normalised. The image's modality
    embedding becomes 0. At another image size positions are resized (bicubic, as timm does).

    Raises what `check_initial` raises, and ValueError for unreadable files and wrong shapes; the
    model is unchanged then.
    """
    found = find_source(source)
    layout = layout_of(found)
    tensors = _read(found)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    initial = check(found, layout, model.config, shapes)
    if layout.whole:
        values = _whole(tensors, layout, model.config)
        if not momo.config_of(found).extra_modalities:
            values |= {n: t for n, t in model.state_dict().items() if n.startswith(EXTRA)}
    else:
        names, _, _ = renamed(layout, shapes)
        theirs = {ours: tensors[name].float() for ours, name in names.items()}
        if layout is bert.LAYOUT:
            values = _words(theirs, word_order(found), model.config)
        else:
            values = _pictures(theirs, statistics_of(found, layout)[0], model.config)
    _copy(values, model, initial.origin, whole=layout.whole)
    return initial.origin


def _read(source: Source) -> Tensors:
    """All tensors by name."""
    found: Tensors = {}
    for file in source.files:
        found |= _read_file(file)
    return found


def _read_file(file: Path) -> Tensors:
    """Also out of the `model` or `state_dict` that training scripts wrap tensors in."""
    if file.suffix == ".safetensors":
        try:
            with safe_open(file, "pt") as opened:
                return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{file} is no readable checkpoint of tensors ({error})") from error
    try:
        state: object = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader raises many kinds on malformed bytes
        raise ValueError(f"{file} is no readable checkpoint of tensors ({error})") from error
    for key in ("model", "state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(t, Tensor) for t in state.values()):
        raise ValueError(f"{file} holds no state dict: give names with tensors")
    return dict(state)


def _copy(values: Tensors, model: MoMo, origin: Origin, *, whole: bool) -> None:
    """All or nothing."""
    targets = model.state_dict(keep_vars=True)
    problems = []
    if whole:
        problems += listed("missing", targets.keys() - values.keys())
        problems += listed("unexpected", values.keys() - targets.keys())
    for name in sorted(values.keys() & targets.keys()):
        if values[name].shape != targets[name].shape:
            has, needs = list(values[name].shape), list(targets[name].shape)
            problems.append(f"{name} is {has}, the model needs {needs}")
    if problems:
        raise ValueError(
            f"{origin.name} ({origin.kind}) does not fit the model: {'; '.join(problems[:6])}"
        )
    with torch.no_grad():
        for name, value in values.items():
            targets[name].copy_(value)


def _whole(tensors: Tensors, layout: WeightLayout, config: ModelConfig) -> Tensors:
    prefix = layout.prefixes[0]
    values = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    side = config.image_size // config.patch_size
    for name in (POSITIONS, _DECODER_POSITIONS):
        if name in values:
            values[name] = _resized(values[name], side)
    if _TEXT_POSITIONS in values:
        values[_TEXT_POSITIONS] = values[_TEXT_POSITIONS][:, : config.max_text_length]
    return values


def _words(theirs: Tensors, order: list[int], config: ModelConfig) -> Tensors:
    values = dict(theirs)
    values[bert.WORDS] = theirs[bert.WORDS][order]
    values[_TEXT_POSITIONS] = theirs[_TEXT_POSITIONS][None, : config.max_text_length]
    # A text alone is of type 0; where there are no types, nothing is added.
    types = theirs.get(bert.TYPES, torch.zeros(1, config.width))
    values[bert.TYPES] = types[:1, None]
    return values


def _pictures(theirs: Tensors, statistics: Statistics, config: ModelConfig) -> Tensors:
    values = dict(theirs)
    for block in range(config.tower_depth or config.depth):
        _join_attention(values, f"blocks.{block}.attn", config.width)
        for scale, layer in (("attn.scale", "attn.proj"), ("mlp.scale", "mlp.fc2")):
            factor = values.pop(f"blocks.{block}.{scale}", None)
            if factor is not None:
                for leaf in ("weight", "bias"):
                    name = f"blocks.{block}.{layer}.{leaf}"
                    values[name] = values[name] * (factor[:, None] if leaf == "weight" else factor)
    weight, bias = values[f"{PATCHES}.weight"], values.get(f"{PATCHES}.bias")
    bias = torch.zeros(len(weight)) if bias is None else bias
    weight, bias = _on_our_pixels(weight, bias, statistics)
    values[f"{PATCHES}.weight"] = weight.permute(0, 2, 3, 1).flatten(1)  # row, column, channel
    values[f"{PATCHES}.bias"] = bias
    if CLS in values:
        values[CLS] = values[CLS].reshape(1, 1, -1)
    positions = values[POSITIONS]
    positions = positions[None] if positions.ndim == 2 else positions
    if side_of(positions.shape[1]) is not None:  # none for [CLS]
        positions = torch.nn.functional.pad(positions, (0, 0, 1, 0))
    values[POSITIONS] = _resized(positions, config.image_size // config.patch_size)
    values[_IMAGE_MODALITY] = torch.zeros(1, 1, config.width)
    if config.tower_depth:
        layers = ("blocks.", "norm.")
        values = {f"image_tower.{n}" if n.startswith(layers) else n: t for n, t in values.items()}
    return values


def _join_attention(values: Tensors, attention: str, width: int) -> None:
    """One product for queries, keys and values; absent biases are 0."""
    if f"{attention}.qkv.weight" not in values:
        parts = [values.pop(f"{attention}.{part}.weight") for part in PARTS]
        values[f"{attention}.qkv.weight"] = torch.cat(parts)
        none = torch.zeros(width)
        biases = [values.pop(f"{attention}.{part}.bias", none) for part in PARTS]
        values[f"{attention}.qkv.bias"] = torch.cat(biases)
    values.setdefault(f"{attention}.qkv.bias", torch.zeros(3 * width))


def _on_our_pixels(weight: Tensor, bias: Tensor, statistics: Statistics) -> tuple[Tensor, Tensor]:
    """The same projection [D, 3, p, p] of pictures normalised as ours are.

    Theirs is (x - mean) / std of x in 0 to 1: ours times (our std / std), plus
    (our mean - mean) / std.
    """
    if statistics == (PIXEL_MEAN, PIXEL_STD):
        return weight, bias
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in statistics)
    our_mean, our_std = (torch.tensor(v, dtype=torch.float64) for v in (PIXEL_MEAN, PIXEL_STD))
    wide = weight.double()
    moved = (wide.sum(dim=(2, 3)) * ((our_mean - mean) / std)).sum(dim=1)
    scaled = wide * (our_std / std)[:, None, None]
    return scaled.float(), (bias.double() + moved).float()


def _resized(positions: Tensor, side: int) -> Tensor:
    """[1, 1 + n², D] → [1, 1 + side², D]: the first stays, the others are resized as timm's
    `resample_abs_pos_embed` does. What makes no square comes back as it is."""
    old = side_of(positions.shape[1] - 1)
    if positions.ndim != 3 or old is None or old == side:
        return positions
    grid = positions[:, 1:].float().unflatten(1, (old, old)).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, (side, side), mode="bicubic", antialias=True)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
