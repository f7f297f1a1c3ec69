"""full.py and embed.py as a person meets them: plans, options, bad input."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from momo_platform.stages import UserError, fingerprint
from pipelines import embed, full
from pipelines.config import SourceOptions
from pipelines.graph import build_graph
from pipelines.presets import PRESETS
from pipelines.training import checked_weights

ROOT = Path(__file__).resolve().parents[2]


def run_full(*arguments, cwd=ROOT):
    command = [sys.executable, str(ROOT / "pipelines" / "full.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_plans_need_no_ray_and_no_torch(preset, tmp_path):
    done = run_full("--preset", preset, "--plan", "--storage", str(tmp_path / "runs"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "stage3-pairs" in done.stdout
    assert "never run" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_help_is_there():
    done = run_full("--help")
    assert done.returncode == 0
    assert "--images.source" in done.stdout


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--preset", "dmeo"], ["dmeo", "demo"]),
        (["--stage1.train.setps", "3"], ["setps", "steps"]),
        (["--images.source", "/does/not/exist"], ["--images.source", "/does/not/exist", "give"]),
        (["--preset", "base"], ["base", "--images.source"]),
        (["--text.weight", "2.0"], ["--text.weight", "--text.source"]),
        (["--stage1.train.steps", "-5"], ["steps=-5", "stage1.train", "at least 0"]),
        (["--stage1.train.batch-sizes.image", "0"], ["image=0", "at least 1"]),
        (["--stage1.train.optimizer.learning-rate", "nan"], ["learning_rate=nan"]),
        (["--stage1.train.scaling.num-workers", "-1"], ["num_workers=-1"]),
        (
            ["--stage3.train.steps", "0", "--evaluation.stages", "stage3-pairs"],
            ["none of them is trained", "stage1-images, stage2-joint"],
        ),
        (["--model.depth", "0"], ["model.depth=0"]),
        (["--picture.size-cap", "0"], ["size_cap=0"]),
        (["--picture.background", "nocolor"], ["nocolor", "#ffffff"]),
        (["--initial-weights", "/none/mae.pth"], ["--initial-weights", "/none/mae.pth", "timm"]),
        (["--tasks", "demo/mnits"], ["demo/mnits", "did you mean demo/mnist"]),
        (["--evaluation.stages", "stage4"], ["stage4", "stage1-images"]),
        (["--until", "stage9"], ["stage9", "stage1-images"]),
        (["--only", "stage9*"], ["stage9*", "stage1-images"]),
        (["--storage", "ftp://bucket/x"], ["ftp://bucket/x", "folder"]),
        (["--storage", "/proc/none"], ["/proc/none", "--storage"]),
    ],
)
def test_bad_input_is_one_clear_message(arguments, words, tmp_path):
    storage = [] if "--storage" in arguments else ["--storage", str(tmp_path)]
    done = run_full(*arguments, *storage)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr + done.stdout


def test_worker_counts_and_places_never_enter_a_fingerprint():
    config = PRESETS["demo"]()
    train = config.stage1.train
    scaled = replace(
        config,
        stage1=replace(
            config.stage1, train=replace(train, scaling=replace(train.scaling, num_workers=1))
        ),
        run=replace(config.run, storage="/elsewhere", verbose=True),
    )
    ours, theirs = build_graph(config), build_graph(scaled)
    assert {n: fingerprint(s) for n, s in ours.items()} == {
        n: fingerprint(s) for n, s in theirs.items()
    }


def test_a_stage_without_steps_is_left_out():
    config = PRESETS["demo"]()
    none = replace(config.stage2, train=replace(config.stage2.train, steps=0))
    graph = build_graph(replace(config, stage2=none))
    assert "stage2-joint" not in graph
    assert graph["stage3-pairs"].inputs["previous"] is graph["stage1-images"]
    assert not any(name.endswith("stage2-joint") for name in graph)
    assert graph["report"].config.training_stages == ("stage1-images", "stage3-pairs")
    last = replace(config.stage3, train=replace(config.stage3.train, steps=0))
    graph = build_graph(replace(config, stage3=last))
    assert graph["export"].inputs["model"] is graph["stage2-joint"]


def test_a_changed_learning_rate_reruns_what_depends_on_it():
    config = PRESETS["demo"]()
    train = config.stage2.train
    rate = replace(train.optimizer, learning_rate=7e-4)
    changed = replace(config, stage2=replace(config.stage2, train=replace(train, optimizer=rate)))
    ours, theirs = build_graph(config), build_graph(changed)
    differing = {n for n in ours if fingerprint(ours[n]) != fingerprint(theirs[n])}
    suites = {n for n in differing if n.endswith(("-stage2-joint", "-stage3-pairs"))}
    assert differing - suites == {"stage2-joint", "stage3-pairs", "export", "report"}
    assert {n.rpartition("-stage")[0] for n in suites} == {
        n.rpartition("-stage")[0] for n in ours if n.endswith("-stage3-pairs")
    }  # every task on the models that changed


def test_own_sources_enter_the_graph_by_content(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    config = replace(PRESETS["smoke"](), images=SourceOptions(source=str(tmp_path)))
    first = fingerprint(build_graph(config)["prepare-images"])
    time.sleep(0.01)
    Image.new("RGB", (9, 9), "red").save(tmp_path / "b.png")
    assert fingerprint(build_graph(config)["prepare-images"]) != first


def test_initial_weights_enter_stage_one_by_content(tmp_path):
    def fingerprints(file):
        config = replace(PRESETS["smoke"](), initial_weights=str(file))
        return {n: fingerprint(s) for n, s in build_graph(config).items()}

    first, moved, other = (tmp_path / f"{n}.pth" for n in ("first", "moved", "other"))
    first.write_bytes(b"weights")
    moved.write_bytes(b"weights")
    other.write_bytes(b"other weights")
    assert fingerprints(first) == fingerprints(moved)
    ours, theirs = fingerprints(first), fingerprints(other)
    changed = {n for n in ours if ours[n] != theirs[n]}
    assert {"stage1-images", "stage3-pairs", "report"} <= changed
    assert not {n for n in changed if n.startswith(("prepare", "mix"))}
    graph = build_graph(replace(PRESETS["smoke"](), initial_weights=str(first)))
    assert graph["stage2-joint"].config.initial_weights == ""
    recipe = graph["stage1-images"].config
    assert checked_weights(recipe) == first
    first.write_bytes(b"written over")
    with pytest.raises(UserError, match="when the run was planned"):
        checked_weights(recipe)


def test_stage_one_starts_from_the_given_encoder(tmp_path):
    from types import SimpleNamespace

    import torch
    from timm.models.vision_transformer import VisionTransformer

    from momo.tokenizer import train_wordpiece
    from pipelines import build

    config = PRESETS["smoke"]()
    c = config.model
    mae = VisionTransformer(
        c.image_size,
        c.patch_size,
        embed_dim=c.width,
        depth=c.depth,
        num_heads=c.heads,
        num_classes=0,
    )
    torch.save(mae.state_dict(), tmp_path / "mae.pth")
    graph = build_graph(replace(config, initial_weights=str(tmp_path / "mae.pth")))
    recipe = graph["stage1-images"].config
    recipe = replace(recipe, task=SimpleNamespace(modalities=(), objectives={}))
    train_wordpiece(["a b"] * 3, 90).save(str(tmp_path / "tokenizer.json"))
    setup = build.build_setup(recipe, {"tokenizer": tmp_path}, recipe.train, 0, 1)
    model = setup.task.model
    assert torch.equal(model.blocks[1].mlp.fc1.weight, mae.blocks[1].mlp.fc1.weight)


def test_a_modality_without_a_batch_size_is_refused():
    config = PRESETS["demo"]()
    train = replace(config.stage2.train, batch_sizes={"image": 8})
    with pytest.raises(UserError, match=r"stage2-joint: .*'text'"):
        build_graph(replace(config, stage2=replace(config.stage2, train=train)))


def test_workers_share_any_batch_that_has_a_row_for_each():
    options = ["--preset", "smoke", "--stage3.train.scaling.num-workers"]
    groups = ["--stage3.task.matching-group", "4"]  # of which 16 pairs are four
    more = ["--stage3.train.scaling.min-workers", "2", *groups]
    graph = build_graph(full.parse([*options, "3", *more]))
    assert graph["stage3-pairs"].resources.workers == 2  # with which it can begin
    with pytest.raises(UserError, match=r"stage3-pairs: train\.batch_sizes .* workers nothing"):
        build_graph(full.parse([*options, "65"]))
    with pytest.raises(UserError, match=r"in groups of task\.matching_group=8"):
        build_graph(full.parse([*options, "3"]))
    with pytest.raises(UserError, match=r"pair=16 must be a multiple of task\.matching_group=5"):
        build_graph(full.parse([*options, "2", "--stage3.task.matching-group", "5"]))


def test_embed_without_a_model_says_what_to_do(tmp_path, capsys):
    assert embed.main(["--text", "x", "--model", str(tmp_path / "none")]) == 2
    assert "make demo" in capsys.readouterr().err
    assert embed.main([]) == 2
    assert "--text or --image" in capsys.readouterr().err
    assert full.DEFAULT_PRESET == "demo"
