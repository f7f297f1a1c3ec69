"""An evaluation's stages, run one after another without Ray."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extending.pages import PAGES

from momo.config import ModelConfig
from momo.export import save
from momo.model import build_model
from momo.tokenizer import train_wordpiece
from momo_platform.stages import Context
from momo_platform.stages.storage.place import Place
from pipelines.given_model import given_model

SHAPE = ModelConfig(width=16, depth=1, heads=2, image_size=16, vocab_size=60, embed_dim=8)


@dataclass(frozen=True)
class Made:
    """What a stage reads of an artifact."""

    path: Path
    metrics: dict[str, Any]

    @property
    def place(self):
        return Place.of(self.path)


def made(stage, folder, known=None):
    """The stage's artifact, with those that it needs."""
    known = {} if known is None else known
    if stage.name not in known:
        inputs = {role: made(one, folder, known) for role, one in stage.inputs.items()}
        output = folder / stage.name
        output.mkdir(parents=True)
        context = Context(output, output, stage.name, "0", "a")
        known[stage.name] = Made(output, stage.run(stage.config, inputs, context))
    return known[stage.name]


def tiny_model(folder):
    """The stage of an untrained model that knows a few words."""
    words = train_wordpiece(["a picture of something dark or bright"] * 3, 60)
    save(build_model(SHAPE, 0), folder / "model", words.to_str())
    return given_model(f"tiny={folder / 'model'}")[1]


def rows(page, table, names):
    """Of the page's blocks that are added to `table`, the rows; `names`: what they may use."""
    text = (PAGES / page).read_text(encoding="utf-8")
    found = re.findall(rf"To `{table}` in [^\n]*:\n\n```python\n(.*?)^```$", text, re.M | re.S)
    assert found, f"{page} adds nothing to {table}"
    return [row for block in found for row in eval(f"({block})", names)]
