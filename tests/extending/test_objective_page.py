"""docs/extending/objective.md, followed to the letter on a copy of `momo`."""

import json
import re
import shutil

import pytest
from extending.pages import PAGES, ROOT, lay_out, register, run

LINE = re.compile(r'^```text\n(    "\w+",\n)```$', re.M)
TRAINED = """
import json, torch
from dataclasses import replace
from making_batches import CONFIG, make_batch
from momo.config import TaskConfig
from momo.model import build_model
from momo.tasks import MoMoTask
from momo_platform.training.gradients import backward_pass, flat_gradient
from momo_platform.training.task import TouchedTask

EXTRA = {"replaced_words": 0.5, "replaced_words.replaced_weight": 8.0, "cyclip": 2.0}
EXTRA["rotation"] = 1.0
CONFIG_ = TaskConfig(modalities=("image", "text", "pair"), matching_group=4, extra_objectives=EXTRA)

def gradient(size):
    task = MoMoTask(build_model(CONFIG, seed=1), CONFIG_)
    batches = {m: task.on_host(m, make_batch(m, rows=12)) for m in task.modalities}
    found = backward_pass(
        TouchedTask(task), batches, task.weights, "accumulate",
        split=lambda m, b: task.split(m, b, size),
    )
    return found.read(), flat_gradient(TouchedTask(task))

whole, gradients = gradient(12)
parts, of_parts = gradient(4)
task = MoMoTask(build_model(CONFIG, seed=1), CONFIG_)
plain = MoMoTask(build_model(CONFIG), replace(CONFIG_, extra_objectives={}))
pair = make_batch("pair")
print(json.dumps({
    "weights": task.weights,
    "whole": whole,
    "parts": parts,
    "error": ((gradients - of_parts).norm() / gradients.norm()).item(),
    "head": sorted(n for n, _ in task.named_parameters() if n.startswith("heads.")),
    "option": task.config.in_use("text")[-1].replaced_weight,
    "flops": [t.flops("pair", pair) for t in (task, plain)],
    "passes": [t.tokens("image", make_batch("image")) for t in (task, plain)],
    "right": task.measure("image", task.with_rows("image", make_batch("image"))[1]),
}))
"""
TOLD = """
import json, sys
from momo_platform.stages import canonical
from pipelines.options import parse
from pipelines.report.words import loss_in_words
from pipelines.training import rows_together

config = parse(sys.argv[1:])
task = config.training["stage2-joint"].task
assert "torch" not in sys.modules
print(json.dumps({
    "objectives": task.objectives,
    "words": loss_in_words("replaced_words"),
    "saved": canonical(task),
    "others": canonical(config.training["stage1-image"].task),
}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of `momo` with the page's files and lines."""
    folder = tmp_path_factory.mktemp("objective")
    shutil.copytree(ROOT / "momo", folder / "momo", ignore=shutil.ignore_patterns("__pycache__"))
    written = lay_out("objective.md", folder)
    assert [file.name for file in written] == [
        *("replaced_words.py", "cyclip.py", "rotation.py", "test_replaced_words.py")
    ]
    page = (PAGES / "objective.md").read_text(encoding="utf-8")
    lines = LINE.findall(page)
    assert len(lines) == 3
    register(folder / "momo" / "objectives" / "__init__.py", "".join(lines))
    return folder


def test_its_test_passes(copy):
    out = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/momo")
    assert "2 passed" in out


def test_it_trains_beside_the_others_whole_and_in_parts(copy):
    found = json.loads(run(copy, "-c", TRAINED))
    assert found["weights"]["replaced_words"] == 0.5
    assert found["weights"]["cyclip"] == 2.0
    assert found["option"] == 8.0
    assert found["head"] == sorted(
        f"heads.{name}.{part}"
        for name in ("replaced_words", "rotation")
        for part in ("bias", "weight")
    )
    assert found["parts"] == pytest.approx(found["whole"], rel=1e-5)
    assert found["error"] < 1e-6
    assert {"loss/replaced_words", "loss/cyclip", "loss/rotation"} <= set(found["whole"])
    assert found["passes"][0] == 2 * found["passes"][1]
    assert 0 <= found["right"]["rotation/accuracy"] <= 1
    assert found["flops"][0] == found["flops"][1]  # its pass is the contrastive objective's


def test_the_command_line_and_the_report_know_it(copy):
    page = (PAGES / "objective.md").read_text(encoding="utf-8")
    options = re.search(r"^momo train (.+)$", page, re.M)
    assert options is not None
    found = json.loads(run(copy, "-c", TOLD, *options[1].split()))
    assert found["objectives"]["replaced_words"] == 0.5
    assert found["words"] == "which words were replaced?"
    assert found["saved"]["extra_objectives"] == {
        "replaced_words": 0.5,
        "replaced_words.replaced_weight": 8.0,
    }
    assert "extra_objectives" not in found["others"]
