"""Models by their folders, as stages: what evaluation and indexing start from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from momo_platform.stages import Context, Stage, UserError, by_role
from momo_platform.stages.manifest import sha256_of
from momo_platform.training.config import MECHANICS
from pipelines.artifacts import ModelFolder
from pipelines.evaluation.scores import split_name


@dataclass(frozen=True)
class GivenModel:
    """A model's folder by the digest of its files."""

    digest: str
    path: str = field(default="", metadata=MECHANICS)


@by_role
def run_given_model(config: GivenModel, context: Context) -> dict[str, Any]:
    """Stage: a copy of the folder as `model/`, so that results stay with what they are of."""
    return ModelFolder(context.output).copy_from(config.path)


def given_model(text: str) -> tuple[str, Stage]:
    """`[NAME=]FOLDER` → the name and the stage. Raises UserError for a folder without a model."""
    name, equals, place = split_name(text)
    folder = Path(place).expanduser().absolute()
    if not (folder / "config.json").is_file():
        raise UserError(
            f"--model {text}: {folder} holds no config.json; give the folder of an exported MoMo "
            "or of a transformers model (save_pretrained)"
        )
    if not equals:
        name = folder.parent.name if folder.name == "model" else folder.name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"--model {text}: the name {name!r} may hold letters, digits, . _ - only")
    digests = [f"{p.name} {sha256_of(p)}" for p in sorted(folder.iterdir()) if p.is_file()]
    config = GivenModel("\n".join(digests), str(folder))
    return name, Stage(f"model-{name}", run_given_model, config)
