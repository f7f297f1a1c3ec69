"""The model that training starts from: found, checked in the plan, and brought into our form.

Light: the driver imports it, torch comes later.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from momo.config import ModelConfig
from momo_platform.stages import Artifact, Context, Stage, UserError, open_storage
from momo_platform.stages.manifest import sha256_of
from momo_platform.training.config import MECHANICS
from pipelines.config import PipelineConfig

_OPTION = "--initial-model"


@dataclass(frozen=True)
class InitialModel:
    """A source by the `digest` of its files; its place does not matter. `has_words`: whether it
    brings a tokenizer with words that were trained. `seed` draws what the source lacks."""

    digest: str
    model: ModelConfig
    seed: int
    has_words: bool
    place: str = field(default="", metadata=MECHANICS)


def locate(config: PipelineConfig) -> Path:
    """Where the config's initial model lies. Raises UserError when it is nowhere."""
    given = config.initial_model
    if given.startswith("hf://"):
        from momo.initialise import from_hub

        try:
            return from_hub(given.removeprefix("hf://"))
        except (OSError, ValueError) as error:
            raise UserError(f"{_OPTION} {given}: {error}") from error
    path = Path(given).expanduser().absolute()
    if not path.exists() and re.fullmatch(r"[A-Za-z0-9._-]+(/[0-9a-f]+)?", given):
        from momo_platform.stages.catalog import Catalog

        storage = open_storage(config.run.storage)
        try:
            path = storage.attempt_path(Catalog(storage).find(given))
        except UserError as error:
            raise UserError(
                f"{_OPTION} {given}: neither a file or folder here nor an artifact of "
                f"{config.run.storage} ({error}); give the folder of a model, an artifact's NAME "
                "or NAME/FINGERPRINT, or hf://<name>"
            ) from error
    if not path.exists():
        raise UserError(
            f"{_OPTION} {given}: no such file or folder; give the folder of an export (e.g. "
            "runs/latest/model) or of a transformers model, a weights file in timm's layout "
            "(.safetensors or .pth), or hf://<name>"
        )
    inner = path / "model"
    return inner if not (path / "config.json").exists() and inner.is_dir() else path


def shape_of(folder: Path) -> ModelConfig | None:
    """Of an exported MoMo; None of any other model."""
    try:
        document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return ModelConfig.from_dict(document["model"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def with_shape_of_initial(config: PipelineConfig) -> PipelineConfig:
    """The config with the model's shape, and its length of captions, where the initial model is an
    exported MoMo."""
    folder = locate(config)
    shape = shape_of(folder)
    if shape is None:
        return config
    length = history(folder).get("text_length", config.pair_text_length)
    return replace(config, model=shape, pair_text_length=length)


def history(folder: Path) -> dict[str, Any]:
    """What an exported MoMo's config says of its past: `text_length`, `modalities` that it was
    trained on, `origin` of the weights that it started from; those that it says."""
    document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    known = ("text_length", "modalities", "origin")
    return {name: document[name] for name in known if name in document}


def initial_stage(config: PipelineConfig) -> Stage | None:
    """The stage that brings the initial model into our form, where one is named.

    Raises UserError, in the plan, for a model that does not fit and says what to set.
    """
    if not config.initial_model:
        return None
    place = locate(config)
    digest, has_words = _checked(place, config.model, config.initial_model)
    initial = InitialModel(digest, config.model, config.seed, has_words, str(place))
    return Stage("initial-model", run_initial_model, initial, code=("momo.initialise",))


def _checked(place: Path, model: ModelConfig, given: str) -> tuple[str, bool]:
    files = sorted(p for p in place.iterdir() if p.is_file()) if place.is_dir() else [place]
    shape = shape_of(place)
    if shape is not None and shape != model:
        differing = [
            f"--model.{f.name.replace('_', '-')} {getattr(shape, f.name)}"
            for f in fields(model)
            if getattr(shape, f.name) != getattr(model, f.name)
        ]
        raise UserError(
            f"{_OPTION} {given} has another shape than the model: leave the --model options out, "
            f"or give {' '.join(differing)}"
        )
    digest = hashlib.sha256("\n".join(f"{p.name} {sha256_of(p)}" for p in files).encode())
    trained = history(place).get("modalities", ("text",)) if shape is not None else ()
    words = bool({"text", "pair"} & set(trained)) and (place / "tokenizer.json").is_file()
    return digest.hexdigest()[:16], words


def run_initial_model(
    config: InitialModel, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: the source's weights in a model of the config's shape → `model/`, as `momo.load` reads
    it; with its tokenizer where it has words."""
    import shutil

    from momo.export import save
    from momo.initialise import load_mae
    from momo.model import build_model

    place = Path(config.place)
    if not place.exists():
        raise UserError(f"{_OPTION} {place}: no such place here; every worker must reach it")
    digest, _ = _checked(place, config.model, str(place))
    if digest != config.digest:
        raise UserError(
            f"{_OPTION} {place} is another model here than when the run was planned: start again "
            "with the model as it is now"
        )
    if shape_of(place) is not None:
        shutil.copytree(place, context.output / "model")
        return {"origin": str(place)}
    model = build_model(config.model, config.seed)
    try:
        left_out = load_mae(model, place)
    except (OSError, ValueError) as error:
        raise UserError(f"{_OPTION} {place}: {error}") from error
    save(model, context.output / "model")
    return {"origin": str(place), "left_out": list(left_out)}
