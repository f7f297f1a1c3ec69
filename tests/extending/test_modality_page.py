"""docs/extending/modality.md, followed to the letter on a copy of `momo` and `pipelines`."""

import json
import re
import shutil

import pytest
from extending.pages import PAGES, ROOT, lay_out, register, run

TEXT = (PAGES / "modality.md").read_text(encoding="utf-8")
LINE = re.compile(r'^(\w[\w/]*\.py):(    "\w+",)$', re.M)
COMMANDS = re.findall(r"^momo train (.+)$", TEXT, re.M)
MADE = """
import json, sys
from pathlib import Path

from momo_platform.stages import canonical, make_plan, open_storage
from momo_platform.training.config import TrainConfig
from pipelines.artifacts import ModelFolder
from pipelines.estimates import estimates
from pipelines.graph import build_graph
from pipelines.options import parse
from pipelines.presets import PRESETS

config = parse(sys.argv[1:])
graph = build_graph(config)
plan = make_plan([graph["report"]], open_storage("runs"))
(cost,) = estimates(plan, config)
assert not {"torch", "ray"} & set(sys.modules)

import numpy as np
import torch
import momo
from extending.evaluating import made
from momo_platform.training.loop import Trainer
from momo.sounds import sound_batch
from momo_platform.data.order import uniform
from momo_platform.stages.inputs import typed
from pipelines.build import build_setup
from pipelines.training import TrainingInputs

folder, known, stage = Path("made"), {}, graph["listen"]
inputs = {role: made(one, folder, known) for role, one in stage.inputs.items()}
setup = build_setup(stage.config, typed(TrainingInputs, inputs), stage.config.train, 0, 1)
first = {n: p.clone() for n, p in setup.task.model.state_dict().items()}
trainer = Trainer(setup, stage.config.train, folder / "checkpoints")
trainer.run()
records = [json.loads(line) for line in (folder / "checkpoints" / "metrics.jsonl").open()]
setup.save(trainer.finish(), folder)
model = momo.load(ModelFolder(folder).path).model
batch = setup.loaders["audio"].batch(0)
patches = torch.from_numpy(np.asarray(batch["patches"]))
with torch.no_grad():
    tokens = model.encode_tokens(model.extra_embeddings["audio"](patches))
print(json.dumps({
    "roles": {role: one.name for role, one in stage.inputs.items()},
    "planned": [entry.name for entry in plan.to_run],
    "samples": cost.samples,
    "prepared": known["prepare-audio"].metrics,
    "mixed": known["mix-audio"].metrics,
    "losses": [r["loss/masked_sound"] for r in records if "loss/masked_sound" in r],
    "held_out": [r["valid/loss/masked_sound"] for r in records if "valid/loss/masked_sound" in r],
    "changed": sorted({n.rsplit(".", 1)[0] for n, p in model.state_dict().items()
                       if not torch.equal(p, first[n])}),
    "tokens": list(tokens.shape),
    "finite": bool(tokens.isfinite().all()),
    "saved": canonical(stage.config.model)["extra_modalities"],
    "others": "extra_modalities" in canonical(PRESETS["smoke"]().model),
}))
"""
REFUSED = """
import sys
from dataclasses import replace
from momo_platform.stages import UserError
from pipelines.graph import build_graph
from pipelines.options import parse

config = parse(sys.argv[1:])
try:
    build_graph(replace(config, model=replace(config.model, extra_modalities=())))
except UserError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the two packages with the page's files and lines."""
    folder = tmp_path_factory.mktemp("modality")
    for package in ("momo", "pipelines"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    written = [str(file.relative_to(folder)) for file in lay_out("modality.md", folder)]
    assert len(written) <= 6
    assert not [file for file in written if file.startswith("platform")]
    lines = LINE.findall(TEXT)
    assert len(lines) == 3
    for file, line in lines:
        register(folder / file, line)
    run(folder, "tones.py")
    return folder


def test_its_test_passes(copy):
    out = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/momo/test_audio.py")
    assert "3 passed" in out


def test_it_is_planned_prepared_trained_and_exported(copy):
    (copy / "tones" / "broken.wav").write_bytes(b"RIFF")
    arguments = COMMANDS[0].split()
    found = json.loads(run(copy, "-c", MADE, *arguments))
    rows = {"audio": "mix-audio", "audio-rows": "prepare-audio"}
    assert found["roles"] == rows | {"tokenizer": "tokenizer"}
    names = {"prepare-audio", "mix-audio", "tokenizer", "listen", "export", "report"}
    assert names == set(found["planned"]) - {"baselines"}
    assert found["samples"] == {"audio": 320}
    assert (found["prepared"]["kept"], found["prepared"]["quarantined"]) == (60, 1)
    assert found["mixed"]["sources"]["own"]["available"] == found["mixed"]["rows"]
    assert 0 < found["mixed"]["valid_rows"] < 60 - found["mixed"]["rows"]
    assert found["losses"][-1] < found["losses"][0]
    assert found["held_out"]
    embedding = {"extra_embeddings.audio", "extra_embeddings.audio.projection"}
    assert embedding <= set(found["changed"])
    shared = {n.partition(".")[0] for n in set(found["changed"]) - embedding}
    assert shared == {"blocks", "norm"}
    assert found["tokens"] == [16, 32, 64]
    assert found["finite"]
    assert found["saved"] == ["audio"]
    assert not found["others"]
    refused = run(copy, "-c", REFUSED, *arguments)
    assert "listen: task.modalities has audio" in refused
    assert "--model.extra-modalities audio" in refused


@pytest.mark.slow
def test_its_commands_run(copy):
    (copy / "notes.txt").write_text(
        "\n".join(f"note {n}: the tone {n} sounds after the tone {n - 1}" for n in range(60))
    )
    for command in COMMANDS:
        arguments = [*command.split(), "--cluster", "local"]
        out = run(copy, "-m", "pipelines.full", *arguments)
        if "--plan" in arguments:
            assert "prepare-audio" in out
            arguments.remove("--plan")
            run(copy, "-m", "pipelines.full", *arguments)
        assert (copy / "runs" / "latest" / "model" / "config.json").exists()
        page = (copy / "runs" / "latest" / "report" / "index.html").read_text(encoding="utf-8")
        assert "hidden parts of sounds" in page
    metrics = json.loads((copy / "runs" / "latest" / "report" / "metrics.json").read_text())
    assert {"masked_sound", "mlm"} <= {
        name.removeprefix("loss/") for name in metrics["training"]["listen"]["last"]
    }
    assert metrics["corpora"]["audio"]["kept"] == 60
