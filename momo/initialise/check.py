"""Whether a source fits a model, before anything is read: for plans. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from momo.config import ModelConfig
from momo.initialise.layouts import Needs, WeightLayout, bert, layout_of, momo
from momo.initialise.layouts.layout import CLS, PARTS, PATCHES, POSITIONS, Shapes, Statistics
from momo.initialise.origin import InitialModel, Origin
from momo.initialise.source import Source, find_source
from momo.initialise.words import word_order

_SHOWN = 6


def check_initial(source: str | os.PathLike[str], config: ModelConfig) -> InitialModel:
    """What `load_initial` would do to a model of `config`: kind, licence, origin, what is filled
    and left out, and whether the source brings a tokenizer of its own.

    `source`: an exported folder, an artifact with `model/` in it, a folder of `save_pretrained`
    (ViT, MAE, DINOv2, CLIP, SigLIP, BERT), weights of a plain ViT in timm's layout (.safetensors,
    .pth, or a folder of them), or `org/name` on the hub. Of .pth and .bin files nothing but the
    `config.json` beside them can be checked, and the notes say so.

    Raises FileNotFoundError, and ValueError that names every misfit with the option to set.
    """
    found = find_source(source)
    return check(found, layout_of(found), config, found.shapes())


def fitted(source: str | os.PathLike[str], config: ModelConfig) -> ModelConfig:
    """`config` with everything set that the source needs, as far as it says so. An export of ours
    brings its whole shape; of others the picture's size stays, or becomes the nearest below that
    their patches divide. Raises what `check_initial` raises but for misfits."""
    found = find_source(source)
    layout = layout_of(found)
    if layout.whole:
        return momo.config_of(found)
    needs = _needs(found, layout, found.shapes())
    fields: dict[str, Any] = _of_tower(needs, layout, config)
    if needs.hidden is not None:
        width = fields.get("width", config.width)
        if int(config.mlp_ratio * width) != needs.hidden:
            fields["mlp_ratio"] = ratio_of(needs.hidden, width)
    if needs.most_words is not None:
        fields["max_text_length"] = min(config.max_text_length, needs.most_words)
    patch = fields.get("patch_size", config.patch_size)
    fields["image_size"] = max(patch, config.image_size // patch * patch)
    return replace(config, **fields)


def _needs(source: Source, layout: WeightLayout, shapes: Shapes | None) -> Needs:
    try:
        return layout.needs(source, shapes)
    except ValueError as error:
        raise ValueError(f"{source.name} ({layout.kind}) can't be started from: {error}") from error


def _of_tower(needs: Needs, layout: WeightLayout, config: ModelConfig) -> dict[str, Any]:
    """The needed fields; in a model with towers pictures have blocks of their own."""
    fields = dict(needs.fields)
    if config.tower_depth and not layout.whole and "depth" in fields:
        fields["tower_depth"] = fields.pop("depth")
    return fields


def check(
    source: Source, layout: WeightLayout, config: ModelConfig, shapes: Shapes | None
) -> InitialModel:
    """As `check_initial`; `shapes` of the source's tensors, None where they are not known yet."""
    needs = _needs(source, layout, shapes)
    problems = list(_misfits(needs, layout, config))
    left_out: tuple[str, ...] = ()
    if shapes is not None and not layout.whole:
        names, left_out, unexpected = renamed(layout, shapes)
        problems += listed("unexpected", unexpected)
        if not problems:
            problems += listed("missing", expected(layout, config) - names.keys())
    if problems:
        raise ValueError(
            f"{source.name} ({layout.kind}) does not fit the model: {'; '.join(problems)}"
        )
    notes = tuple(_notes(source, layout, needs, config, shapes))
    vocab_size = None
    if layout is bert.LAYOUT:
        vocab_size = len(word_order(source))
    elif layout.whole and source.text("tokenizer.json") is not None:
        vocab_size = config.vocab_size
    earlier = source.config.get("origin") or ()
    origin = Origin(
        *(source.name, layout.kind, source.licence(), source.sha256(), layout.gives),
        tuple(earlier),
    )
    return InitialModel(origin, notes, left_out, vocab_size)


def _misfits(needs: Needs, layout: WeightLayout, config: ModelConfig) -> Iterator[str]:
    """What differs, each with the option to set."""
    wanted = _of_tower(needs, layout, config)
    for name, value in wanted.items():
        own = getattr(config, name)
        if own != value:
            yield f"it has {name} {value}, the model {own}: set {_option(name, value)}"
    if needs.hidden is not None:
        width = wanted.get("width", config.width)
        if int(config.mlp_ratio * width) != needs.hidden:
            ratio = ratio_of(needs.hidden, width)
            yield (
                f"its MLP is {needs.hidden} wide, the model's {int(config.mlp_ratio * width)}: set "
                f"--model.mlp-ratio {ratio}"
            )
    if needs.most_words is not None and config.max_text_length > needs.most_words:
        yield (
            f"it has {needs.most_words} text positions, the model {config.max_text_length}: set "
            f"--model.max-text-length {needs.most_words} or less"
        )


def _option(name: str, value: Any) -> str:
    option = name.replace("_", "-")
    if isinstance(value, tuple):
        value = " ".join(value)
    if isinstance(value, bool):
        return f"--model.{option}" if value else f"--model.no-{option}"
    return f"--model.{option} {value}"


def ratio_of(hidden: int, width: int) -> float:
    """An `mlp_ratio` that makes just this inner width, in few digits where few do."""
    for digits in range(1, 17):
        ratio = round(hidden / width, digits)
        if int(ratio * width) == hidden:
            return ratio
    return (hidden + 0.5) / width


def _notes(
    source: Source, layout: WeightLayout, needs: Needs, config: ModelConfig, shapes: Shapes | None
) -> Iterator[str]:
    yield from layout.notes
    if needs.unknown:
        own = ", ".join(f"{name}={getattr(config, name)}" for name in needs.unknown)
        yield f"the source does not say {', '.join(needs.unknown)}: the model's own count ({own})"
    if shapes is None:
        yield "its tensors can be checked only when they are read, not before"
    if needs.image_size is not None and needs.image_size != config.image_size:
        yield (
            f"its positions are resized from {needs.image_size} to {config.image_size} pixels: "
            "features are near the source's, not equal"
        )
    if layout.statistics is not None and not (said := statistics_of(source, layout))[1]:
        mean, std = said[0]
        yield (
            f"no file says how its pictures were normalised: taken is mean {mean}, deviation {std}"
        )


def statistics_of(source: Source, layout: WeightLayout) -> tuple[Statistics, bool]:
    """Mean and deviation of its pictures' channels in 0 to 1, and whether a file says so."""
    assert layout.statistics is not None
    given: Mapping[str, Any] = source.json("preprocessor_config.json")
    given = given or source.json("processor_config.json").get("image_processor", {})
    timm = source.config.get("pretrained_cfg") or {}
    if "mean" in timm and "std" in timm:
        return (tuple(timm["mean"]), tuple(timm["std"])), True
    if given.get("do_normalize") is False:
        return ((0.0,) * 3, (1.0,) * 3), True
    if "image_mean" not in given or "image_std" not in given:
        return layout.statistics, False
    scale = 255 * given.get("rescale_factor", 1 / 255) if given.get("do_rescale", True) else 255
    mean, std = (tuple(v / scale for v in given[f"image_{n}"]) for n in ("mean", "std"))
    return (mean, std), True


def renamed(
    layout: WeightLayout, names: Mapping[str, Any]
) -> tuple[dict[str, str], tuple[str, ...], set[str]]:
    """Our name → theirs; the beginnings of what is left out; what is unknown."""
    ours: dict[str, str] = {}
    left_out: set[str] = set()
    unexpected: set[str] = set()
    for name in names:
        try:
            found = layout.ours(name)
        except KeyError:
            unexpected.add(name)
            continue
        if found is None:
            left_out.add(name.partition(".")[0])
        else:
            ours[found] = name
    return ours, tuple(sorted(left_out)), unexpected


def expected(layout: WeightLayout, config: ModelConfig) -> set[str]:
    """Our names that a source must have for a model of `config`; biases of the patches and of
    queries, keys and values may be absent, and count as 0."""
    if layout is bert.LAYOUT:
        own = {"text_embedding.words.weight", "text_embedding.positions"}
        return own | {f"text_embedding.norm.{leaf}" for leaf in ("weight", "bias")}
    modules = ["norm", *(["image_embedding.norm"] if config.image_norm else [])]
    attention = ("qkv",) if "blocks.{}.attn.qkv" in layout.names.values() else PARTS
    names = {POSITIONS, f"{PATCHES}.weight", *([] if config.class_attention else [CLS])}
    for block in range(config.tower_depth or config.depth):
        parts = ("norm1", "norm2", "attn.proj", "mlp.fc1", "mlp.fc2")
        modules += [f"blocks.{block}.{part}" for part in parts]
        names |= {f"blocks.{block}.attn.{part}.weight" for part in attention}
    return names | {f"{module}.{leaf}" for module in modules for leaf in ("weight", "bias")}


def listed(what: str, names: set[str]) -> list[str]:
    """A sentence of names, not too many; none where there are none."""
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{what}: {', '.join(sorted(names)[:_SHOWN])}{more}"]
