"""How often a run sees each source: from mix-* metrics, without Ray, with a warning."""

import io
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from momo_platform.stages import make_plan
from pipelines.config import RunOptions
from pipelines.epochs import print_epochs, source_epochs
from pipelines.graph import build_graph
from pipelines.presets import PRESETS

ROOT = Path(__file__).resolve().parents[2]
PICTURES = {
    "rows": 1000,
    "sources": {
        "emoji": {"available": 500, "weight": 1.5, "rows": 750, "share": 0.75},
        "photos": {"available": 250, "weight": 1.0, "rows": 250, "share": 0.25},
    },
}
TEXT = {
    "rows": 2000,  # sequences: documents are cut
    "sources": {
        "reviews": {"available": 100, "weight": 3.0, "rows": 300, "tokens": 64_000, "share": 0.5},
        "wikipedia": {"available": 50, "weight": 1.0, "rows": 50, "tokens": 64_000, "share": 0.5},
    },
}


class Mixed:
    """A storage in which only mix-* stages were run, with these metrics by name."""

    def __init__(self, **metrics):
        self.metrics = metrics

    def manifest(self, name, fingerprint):
        found = self.metrics.get(name.replace("-", "_"))
        return found and SimpleNamespace(metrics=found)


def plan_of(tmp_path, preset="demo", **changes):
    from momo_platform.stages import open_storage

    config = replace(PRESETS[preset](), run=RunOptions(plan=True), **changes)
    graph = build_graph(config)
    return make_plan([graph["report"]], open_storage(str(tmp_path / "none")))


def by_name(found):
    return {(f.stage, f.modality, f.source): f for f in found}


def test_epochs_are_samples_by_share_over_rows(tmp_path):
    storage = Mixed(mix_image=PICTURES, mix_text=TEXT)
    found = by_name(source_epochs(plan_of(tmp_path), storage))
    one, two = (
        PRESETS["demo"]().training["stage1-image"].train,
        PRESETS["demo"]().training["stage2-joint"].train,
    )
    for name, source in PICTURES["sources"].items():
        expected = one.steps * one.batch_sizes["image"] * source["share"] / source["available"]
        assert found["stage1-image", "image", name].epochs == pytest.approx(expected)
    passes = two.steps * two.batch_sizes["text"] / TEXT["rows"]  # of the mixture, with each review
    assert found["stage2-joint", "text", "reviews"].epochs == pytest.approx(3 * passes)  # thrice
    assert found["stage2-joint", "text", "wikipedia"].epochs == pytest.approx(passes)
    unknown = found["stage3-pair", "pair", "emoji"]
    assert (unknown.epochs, unknown.mix, unknown.warning) == (None, "mix-pair", None)


def test_alternate_sees_a_modality_in_some_steps_only(tmp_path):
    config = PRESETS["demo"]()
    train = replace(config.training["stage2-joint"].train, steps=400, gradient_schedule="alternate")
    plan = plan_of(
        tmp_path,
        training={
            **config.training,
            "stage2-joint": replace(config.training["stage2-joint"], train=train),
        },
    )
    found = by_name(source_epochs(plan, Mixed(mix_text=TEXT)))
    assert found["stage2-joint", "text", "wikipedia"].epochs == pytest.approx(6.4)


def printed(found):
    stream = io.StringIO()
    print_epochs(found, Console(file=stream, width=200))
    return stream.getvalue()


def test_a_source_repeated_too_often_is_warned_of(tmp_path):
    stage2 = PRESETS["demo"]().training["stage2-joint"]
    more = replace(stage2, train=replace(stage2.train, steps=450))
    plan = plan_of(tmp_path, training={**PRESETS["demo"]().training, "stage2-joint": more})
    found = source_epochs(plan, Mixed(mix_image=PICTURES, mix_text=TEXT))
    text = printed(found)
    assert "known after mix-pair" in text
    assert text.count("warning:") == sum(f.warning is not None for f in found) > 0
    assert "stage2-joint sees each of the 100 text rows of source reviews 43 times" in text
    assert "--stage2-joint.train.steps" in text
    assert printed([]) == ""


def test_a_plan_up_to_a_stage_tells_of_its_stages_only(tmp_path):
    from momo_platform.stages import open_storage

    graph = build_graph(PRESETS["demo"]())
    plan = make_plan([graph["report"]], open_storage(str(tmp_path / "none")), until="stage1-image")
    assert {f.stage for f in source_epochs(plan, Mixed())} == {"stage1-image"}
    plan = make_plan([graph["report"]], open_storage(str(tmp_path / "none")), until="mix-text")
    assert source_epochs(plan, Mixed()) == []


def test_the_plan_is_quick_and_loads_nothing_that_computes(tmp_path):
    code = (
        "import sys\nfrom pipelines.full import main\n"
        f"code = main(['--plan', '--storage', {str(tmp_path / 'none')!r}])\n"
        "heavy = {'ray', 'torch', 'numpy', 'pyarrow', 'PIL', 'tokenizers'}\n"
        "assert code == 0 and not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - started < 5  # under a second alone; machines are shared
    assert "known after mix-image" in done.stdout
