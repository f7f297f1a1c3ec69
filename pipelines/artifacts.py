"""What stages read in each other's artifacts, each place said once. Loads no torch by itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from momo.config import ModelConfig, exported_shape
from momo_platform.stages.inputs import ArtifactFolder, Within

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TokenizerFile(ArtifactFolder):
    """A tokenizer: of the stage `tokenizer`, or a model's own."""

    path = Within("tokenizer.json")

    def load(self) -> Tokenizer:
        from momo.tokenizer import load_tokenizer

        return load_tokenizer(self.path)


def shape_in(folder: Path | str) -> ModelConfig | None:
    """Of the exported model in a folder; None of another library's."""
    return exported_shape(json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")))


def is_engine_in(folder: Path | str) -> bool:
    """Whether `momo.load` opens the folder's model by an engine, on the CPU."""
    file = Path(folder) / "config.json"
    return file.is_file() and "engine" in json.loads(file.read_text(encoding="utf-8"))


class ModelFolder(ArtifactFolder):
    """The model in an artifact: weights, config and, where it has words, its tokenizer, as
    `momo.load` reads them."""

    path = Within("model")

    @property
    def tokenizer(self) -> TokenizerFile:
        return TokenizerFile(self.path)

    def copy_from(self, source: Path | str) -> dict[str, list[str]]:
        """Copy a folder with a model here; returns the names of its `files`, for the metrics."""
        shutil.copytree(source, self.path)
        return {"files": sorted(file.name for file in self.path.iterdir())}
