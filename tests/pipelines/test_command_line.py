"""full.py and embed.py as a person meets them: plans, options, bad input."""

import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from momo_platform.overrides import with_settings
from momo_platform.stages import UserError, fingerprint
from momo_platform.stages.stage import all_stages
from pipelines import embed, full, options
from pipelines.config import SourceOptions
from pipelines.graph import build_graph
from pipelines.initial_model import run_initial_model
from pipelines.presets import PRESETS

ROOT = Path(__file__).resolve().parents[2]


def run_full(*arguments, cwd=ROOT):
    command = [sys.executable, str(ROOT / "pipelines" / "full.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_plans_need_no_ray_and_no_torch(preset, tmp_path):
    done = run_full("--preset", preset, "--plan", "--storage", str(tmp_path / "runs"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "stage3-pair" in done.stdout
    assert "never run" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_help_is_there():
    done = run_full("--help")
    assert done.returncode == 0
    assert "--image.source" in done.stdout


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--preset", "dmeo"], ["dmeo", "demo"]),
        (["--stage1.train.setps", "3"], ["setps", "steps"]),
        (["--image.source", "/does/not/exist"], ["--image.source", "/does/not/exist", "give"]),
        (["--preset", "base"], ["base", "--image.source"]),
        (["--text.weight", "2.0"], ["--text.weight", "--text.source"]),
        (["--stage1.train.steps", "-5"], ["steps=-5", "stage1-image.train", "at least 0"]),
        (["--stage1.train.batch-sizes.image", "0"], ["image=0", "at least 1"]),
        (["--stage1.train.optimizer.learning-rate", "nan"], ["learning_rate=nan"]),
        (["--stage1.train.scaling.num-workers", "-1"], ["num_workers=-1"]),
        (
            ["--stage3.train.steps", "0", "--evaluation.stages", "stage3-pair"],
            ["stage3-pair is not trained", "stage1-image, stage2-joint"],
        ),
        (["--model.depth", "0"], ["model.depth=0"]),
        (["--picture.size-cap", "4"], ["size_cap=4"]),
        (
            ["--model.image-size", "224", "--picture.size-cap", "64"],
            ["--picture.size-cap 64", "--model.image-size", "--picture.size-cap 256"],
        ),
        (["--stages", "stage3-pair"], ["did you mean stage3-pair"]),
        (["--stages", "stage3-pair", "stage3-pair"], ["comes twice", "NEW=stage3-pair"]),
        (["--stages", "A_b=stage3-pair"], ["'A_b'", "small letters"]),
        (["--initial-model", "/none/model"], ["--initial-model /none/model", "hf://"]),
        (["--picture.background", "nocolor"], ["nocolor", "#ffffff"]),
        (["--initial-weights", "/none/mae.pth"], ["--initial-model", "/none/mae.pth", "timm"]),
        (["--tasks", "demo/mnits"], ["demo/mnits", "did you mean demo/mnist"]),
        (["--evaluation.stages", "stage4"], ["stage4", "stage1-image"]),
        (["--until", "stage9"], ["stage9", "stage1-image"]),
        (["--only", "stage9*"], ["stage9*", "stage1-image"]),
        (["--storage", "ftp://bucket/x"], ["ftp://bucket/x", "folder"]),
        (["--storage", "/proc/none"], ["/proc/none", "--storage"]),
    ],
)
def test_bad_input_is_one_clear_message(arguments, words, tmp_path):
    storage = [] if "--storage" in arguments else ["--storage", str(tmp_path)]
    done = run_full(*arguments, *storage)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    shown = " ".join((done.stderr + done.stdout).replace("│", " ").split())
    for word in words:
        assert word in shown


def test_worker_counts_and_places_never_enter_a_fingerprint():
    config = PRESETS["demo"]()
    scaled = replace(
        with_settings(config, {"training.stage1-image.train.scaling.num_workers": 1}),
        run=replace(config.run, storage="/elsewhere", verbose=True),
    )
    ours, theirs = build_graph(config), build_graph(scaled)
    assert {n: fingerprint(s) for n, s in ours.items()} == {
        n: fingerprint(s) for n, s in theirs.items()
    }


def test_a_stage_without_steps_is_left_out():
    config = PRESETS["demo"]()
    graph = build_graph(with_settings(config, {"training.stage2-joint.train.steps": 0}))
    assert "stage2-joint" not in graph
    assert graph["stage3-pair"].inputs["previous"] is graph["stage1-image"]
    assert not any(name.endswith("stage2-joint") for name in graph)
    assert graph["report"].config.training_stages == ("stage1-image", "stage3-pair")
    graph = build_graph(with_settings(config, {"training.stage3-pair.train.steps": 0}))
    assert graph["export"].inputs["model"] is graph["stage2-joint"]


def test_a_changed_learning_rate_reruns_what_depends_on_it():
    config = PRESETS["demo"]()
    rate = "training.stage2-joint.train.optimizer.learning_rate"
    changed = with_settings(config, {rate: 7e-4})
    ours, theirs = build_graph(config), build_graph(changed)
    differing = {n for n in ours if fingerprint(ours[n]) != fingerprint(theirs[n])}
    suites = {n for n in differing if n.endswith(("-stage2-joint", "-stage3-pair"))}
    assert differing - suites == {"stage2-joint", "stage3-pair", "export", "report"}
    assert {n.rpartition("-stage")[0] for n in suites} == {
        n.rpartition("-stage")[0] for n in ours if n.endswith("-stage3-pair")
    }  # every task on the models that changed


def test_own_sources_enter_the_graph_by_content(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    config = replace(PRESETS["smoke"](), corpora={"image": SourceOptions(source=str(tmp_path))})
    first = fingerprint(build_graph(config)["prepare-image"])
    time.sleep(0.01)
    Image.new("RGB", (9, 9), "red").save(tmp_path / "b.png")
    assert fingerprint(build_graph(config)["prepare-image"]) != first


def test_stages_are_chosen_and_copied_by_name():
    config = full.parse(["--preset", "smoke", "--stages", "stage3-pair", "more=stage3-pair"])
    assert list(config.training) == ["stage3-pair", "more"]
    graph = build_graph(config)
    assert "previous" not in graph["stage3-pair"].inputs
    assert graph["more"].inputs["previous"] is graph["stage3-pair"]
    assert not any(name in graph for name in ("mix-image", "stage1-image"))
    changed = full.parse(
        ["--preset", "smoke", "--stages", "more=stage1-image", "--more.train.steps", "7"]
    )
    assert changed.training["more"].train.steps == 7
    short = full.parse(["--preset", "smoke", "--stage2.train.steps", "9", "--keep", "best"])
    assert short.training["stage2-joint"].train.steps == 9
    assert {stage.train.keep for stage in short.training.values()} == {"best"}


def test_a_stage_gets_a_modality_with_its_batch_size():
    more = ["--preset", "smoke", "--stage1-image.task.modalities", "image", "text"]
    with pytest.raises(UserError, match="'text', train.batch_sizes has no size for it"):
        build_graph(full.parse(more))
    size = "--stage1-image.train.batch-sizes.text"
    for given in ([size, "8"], [f"{size}=8"], [size.replace("stage1-image", "every"), "8"]):
        config = full.parse([*more, *given])
        assert config.training["stage1-image"].train.batch_sizes == {"image": 32, "text": 8}
        assert "mix-text" in build_graph(config)["stage1-image"].inputs["text"].name
    assert full.parse(["--preset", "smoke"]) == PRESETS["smoke"]()


def test_pictures_are_stored_for_the_size_that_the_model_takes():
    def stored(*options):
        return build_graph(full.parse(["--preset", "smoke", *options]))["prepare-image"].config

    assert stored().image.size_cap == 64
    assert stored("--model.image-size", "224").image.size_cap == 256
    assert stored("--picture.size-cap", "80").image.size_cap == 80


def test_own_pictures_alone_need_no_other_corpus(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    only = ["--stages", "stage1-image", "--image.source", str(tmp_path)]
    graph = build_graph(full.parse(["--preset", "base", *only]))
    assert not {"prepare-text", "prepare-pair", "corpora"} & {
        s.name for s in all_stages([graph["stage1-image"]])
    }
    graph = build_graph(full.parse(["--preset", "demo", *only]))
    assert "corpora" not in {s.name for s in all_stages([graph["stage1-image"]])}


def test_own_pairs_alone_give_pictures_and_text_too(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a black square")
    for preset in ("smoke", "base"):
        graph = build_graph(full.parse(["--preset", preset, "--pair.source", str(tmp_path)]))
        names = {s.name for s in all_stages([graph["stage3-pair"]])}
        assert not {"corpora", "prepare-image", "prepare-text"} & names
        assert {"mix-image", "mix-text", "mix-pair"} <= names
        assert graph["mix-text"].inputs["prepared"] is graph["prepare-pair"]
    both = ["--pair.source", str(tmp_path), "--text.source", "demo"]
    graph = build_graph(full.parse(["--preset", "smoke", *both]))
    assert graph["mix-text"].inputs["prepared"].inputs == {"corpora": graph["corpora"]}


def exported(folder, config, modalities=("image",)):
    """An exported MoMo of the config's shape."""
    from momo.export import save
    from momo.model import build_model
    from momo.tokenizer import train_wordpiece

    tokenizer = train_wordpiece(["a b"] * 3, 90).to_str()
    extra = {"modalities": list(modalities), "text_length": 20}
    save(build_model(config, 1), folder, tokenizer, extra)
    return folder


def test_an_initial_model_enters_the_first_stage_by_content(tmp_path):
    shape = replace(PRESETS["smoke"]().model, depth=3)
    first = exported(tmp_path / "first", shape, ("image", "text"))
    moved = tmp_path / "moved"
    shutil.copytree(first, moved)

    def graph(folder, *options):
        given = ["--preset", "smoke", "--initial-model", str(folder)]
        return build_graph(full.parse([*given, *options]))

    ours, same = graph(first), graph(moved)
    assert {n: fingerprint(s) for n, s in ours.items()} == {
        n: fingerprint(s) for n, s in same.items()
    }
    assert ours["stage1-image"].config.model == shape  # taken from the model
    assert ours["stage1-image"].config.pair_text_length == 20
    assert ours["stage1-image"].inputs["previous"].name == "initial-model"
    assert ours["stage2-joint"].inputs["previous"].name == "stage1-image"
    assert ours["tokenizer"].inputs == {"model": ours["initial-model"]}
    with pytest.raises(UserError, match=r"--model\.depth 3"):
        graph(first, "--model.depth", "2")
    only = graph(first, "--stages", "stage3-pair")
    assert only["stage3-pair"].inputs["previous"].name == "initial-model"
    learnt = graph(exported(tmp_path / "pictures", shape))  # has seen no word
    assert set(learnt["tokenizer"].inputs) == {"text", "pair"}
    tokenizer = (first / "tokenizer.json").read_text()
    (first / "tokenizer.json").write_text(tokenizer + " ")
    with pytest.raises(UserError, match="when the run was planned"):
        run_initial_model(ours["initial-model"].config, {}, None)


def test_another_librarys_encoder_becomes_the_first_model(tmp_path):
    import torch
    from timm.models.vision_transformer import VisionTransformer

    import momo
    from momo.export import load_model

    config = PRESETS["smoke"]()
    c = config.model
    shape = {"embed_dim": c.width, "depth": c.depth, "num_heads": c.heads, "num_classes": 0}
    theirs = VisionTransformer(c.image_size, c.patch_size, **shape)
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    stage = build_graph(replace(config, initial_model=str(tmp_path / "vit.pth")))["initial-model"]
    context = SimpleNamespace(output=tmp_path / "out")
    metrics = stage.run(stage.config, {}, context)
    model = load_model(tmp_path / "out" / "model")
    assert torch.equal(model.blocks[1].mlp.fc1.weight, theirs.blocks[1].mlp.fc1.weight)
    assert momo.initialise.origin_of(tmp_path / "out" / "model") == [metrics["origin"]]
    assert metrics["origin"]["licence"] == "not stated"


def test_a_modality_without_a_batch_size_is_refused():
    config = PRESETS["demo"]()
    stage = config.training["stage2-joint"]
    stage = replace(stage, train=replace(stage.train, batch_sizes={"image": 8}))
    with pytest.raises(UserError, match=r"stage2-joint: .*'text'"):
        build_graph(replace(config, training={**config.training, "stage2-joint": stage}))


def test_workers_share_any_batch_that_has_a_row_for_each():
    options = ["--preset", "smoke", "--stage3.train.scaling.num-workers"]
    groups = ["--stage3.task.matching-group", "4"]  # of which 16 pairs are four
    more = ["--stage3.train.scaling.min-workers", "2", *groups]
    graph = build_graph(full.parse([*options, "3", *more]))
    assert graph["stage3-pair"].resources.workers == 2  # with which it can begin
    with pytest.raises(UserError, match=r"stage3-pair: train\.batch_sizes .* workers nothing"):
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
    assert options.DEFAULT_PRESET == "demo"
