"""What stages read in each other's artifacts, each place said once. Loads no torch by itself."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class ModelFolder:
    """The model in an artifact: weights, config and, where it has words, its tokenizer, as
    `momo.load` reads them. `artifact`: the artifact's folder."""

    artifact: Path

    @property
    def path(self) -> Path:
        return self.artifact / "model"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer.json"

    def copy_from(self, source: Path | str) -> dict[str, list[str]]:
        """Copy a folder with a model here; returns the names of its `files`, for the metrics."""
        shutil.copytree(source, self.path)
        return {"files": sorted(file.name for file in self.path.iterdir())}


@dataclass(frozen=True)
class TokenizerFile:
    """What the stage `tokenizer` wrote. `artifact`: the artifact's folder."""

    artifact: Path

    @property
    def path(self) -> Path:
        return self.artifact / "tokenizer.json"

    def load(self) -> Tokenizer:
        from momo.tokenizer import load_tokenizer

        return load_tokenizer(self.path)
