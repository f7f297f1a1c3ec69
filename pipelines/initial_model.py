"""The model that training starts from: found, checked in the plan, and brought into our form.

Light: the driver imports it, torch comes later.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from momo.config import ModelConfig
from momo_platform.stages import Context, Stage, UserError, by_role, open_storage
from momo_platform.stages.manifest import sha256_of
from momo_platform.training.config import MECHANICS
from pipelines.artifacts import ModelFolder
from pipelines.config import PipelineConfig
from pipelines.modalities import MODALITIES

_OPTION = "--initial-model"
_ARTIFACT = re.compile(r"[A-Za-z0-9._-]+(/[0-9a-f]+)?")


@dataclass(frozen=True)
class InitialModelConfig:
    """A source by the `digest` of its files; its place does not matter. `has_words`: whether it
    brings words that were trained, and their tokenizer. `seed` draws what the source lacks;
    `notes` are for the person who plans."""

    digest: str
    model: ModelConfig
    seed: int
    has_words: bool
    place: str = field(default="", metadata=MECHANICS)
    notes: tuple[str, ...] = field(default=(), metadata=MECHANICS)


def locate(config: PipelineConfig) -> str:
    """Where the config's initial model lies: an absolute path, or the name on the hub as given.
    Raises UserError for a file or folder that is not there."""
    given = config.initial_model
    path = Path(given).expanduser().absolute()
    if path.exists():
        return str(path)
    told = ""
    if _ARTIFACT.fullmatch(given):
        from momo_platform.stages.catalog import Catalog

        storage = open_storage(config.run.storage)
        try:
            return str(ModelFolder(storage.attempt_path(Catalog(storage).find(given))).path)
        except UserError as error:
            told = f", and no artifact of {config.run.storage} ({error})"
    if given.startswith("hf://") or re.fullmatch(r"[\w.-]+/[\w.-]+", given):
        return given
    raise UserError(
        f"{_OPTION} {given}: no such file or folder{told}; give the folder of an export (e.g. "
        "runs/latest/model) or of a transformers model, a weights file in timm's layout "
        "(.safetensors or .pth), NAME or NAME/FINGERPRINT of an artifact, or hf://<name>"
    )


def with_shape_of_initial(config: PipelineConfig) -> PipelineConfig:
    """The config with the shape that the initial model needs, and the length of captions of an
    exported MoMo."""
    from momo.initialise import fitted
    from momo.initialise.source import find_source

    try:
        place = locate(config)
        shape = fitted(place, config.model)
        length = find_source(place).config.get("text_length", config.pair_text_length)
    except (OSError, ValueError, UserError):  # the plan says what is wrong
        return config
    return replace(config, model=shape, pair_text_length=length)


def history(folder: Path) -> dict[str, Any]:
    """What an exported MoMo's config says of its past, as far as it does: `modalities` that it was
    trained on, `origin` of the weights that it started from."""
    document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {name: document[name] for name in ("modalities", "origin") if name in document}


def initial_stage(config: PipelineConfig) -> Stage | None:
    """The stage that brings the initial model into our form, where one is named.

    Raises UserError, in the plan, for a model that does not fit; it says what to set.
    """
    if not config.initial_model:
        return None
    place = locate(config)
    digest, has_words, notes = _checked(place, config.model)
    initial = InitialModelConfig(digest, config.model, config.seed, has_words, place, notes)
    return Stage("initial-model", run_initial_model, initial, code=("momo.initialise",))


def _checked(place: str, model: ModelConfig) -> tuple[str, bool, tuple[str, ...]]:
    """The source's digest, whether it brings words, and what to tell."""
    from momo.initialise import check_initial
    from momo.initialise.source import find_source

    try:
        found, source = check_initial(place, model), find_source(place)
    except (OSError, ValueError) as error:
        raise UserError(f"{_OPTION} {error}") from error
    parts = [found.origin.sha256]
    if source.folder is not None:  # what says how the weights are meant, the tokenizer
        others = (p for p in sorted(source.folder.iterdir()) if p.suffix in (".json", ".txt"))
        parts += [f"{p.name} {sha256_of(p)}" for p in others if p.is_file()]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    trained = source.config.get("modalities") or ("text",)
    has_words = found.brings_words and any(
        m.texts for m in MODALITIES.values() if m.name in trained
    )
    return digest, has_words, (found.summary(), *found.notes)


@by_role
def run_initial_model(config: InitialModelConfig, context: Context) -> dict[str, Any]:
    """Stage: the source's weights in a model of the config's shape → `model/`, as `momo.load` reads
    it; with its tokenizer where it has words."""
    from momo.export import save
    from momo.initialise import load_initial, words_of
    from momo.initialise.source import find_source
    from momo.model import build_model

    digest, _, _ = _checked(config.place, config.model)
    if digest != config.digest:
        raise UserError(
            f"{_OPTION} {config.place} is another model here than when the run was planned: start "
            "again with the model as it is now"
        )
    model = build_model(config.model, config.seed)
    try:
        origin = load_initial(model, config.place)
        words = words_of(config.place) if config.has_words else None
    except (OSError, ValueError) as error:
        raise UserError(f"{_OPTION} {error}") from error
    trained = find_source(config.place).config.get("modalities")
    extra = {"origin": origin.chain()} | ({"modalities": trained} if trained else {})
    save(model, ModelFolder(context.output).path, words, extra)
    return {"origin": origin.chain()[-1], "notes": list(config.notes)}
