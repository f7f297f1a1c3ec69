"""Options in short and with the names that they had before."""

import pytest

from momo_platform.stages import UserError
from pipelines import evaluate, full, index, option_names
from pipelines.commands import api
from pipelines.modalities import MODALITIES
from pipelines.option_names import todays_settings, with_whole_names


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
    monkeypatch.setattr(option_names, "_told", set())


@pytest.mark.parametrize(
    ("old", "now"),
    [
        (["--images.source", "photos"], ["--corpora.image.source", "photos"]),
        (["--pairs.held-out=0.2"], ["--corpora.pair.held-out=0.2"]),
        (["--stage1-images.train.steps", "3"], ["--stage1-image.train.steps", "3"]),
        (["--training.stage3-pairs.task.mlm", "0"], ["--training.stage3-pair.task.mlm", "0"]),
        (
            ["--stages", "stage3-pairs", "a=stage1-images"],
            ["--stages", "stage3-pair", "a=stage1-image"],
        ),
        (["--run.only=prepare-images"], ["--run.only=prepare-image"]),
        (["--until", "mix-pairs"], ["--until", "mix-pair"]),
        (["--rerun", "*-own-pairs-stage3-pairs"], ["--rerun", "*-own-pair-stage3-pair"]),
    ],
)
def test_old_names_are_taken_with_a_hint(old, now, capsys):
    assert with_whole_names(old) == now
    told = capsys.readouterr().err
    assert "old name" in told
    assert now[-1].replace("corpora.", "") in told or now[0].replace("corpora.", "") in told
    with_whole_names(old)
    assert capsys.readouterr().err == ""  # once


@pytest.mark.parametrize(
    "given",
    [
        ["--storage", "pairs", "--model", "stage3-pairs", "--tasks", "pairs=prepare-images"],
        ["--initial-model", "stage3-pairs"],
        ["--evaluation.tasks", "images", "--pictures.x", "images.source"],
    ],
)
def test_what_names_no_stage_and_no_modality_is_left_alone(given, capsys):
    assert with_whole_names(given) == given
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("given", ["--pears.source", "--imgae.held-out=0.1", "--txt.weight"])
def test_what_is_almost_a_modality_is_told(given):
    with pytest.raises(UserError, match=r"no such option, did you mean --(pair|image|text)\."):
        with_whole_names([given, "x"])


def test_every_command_takes_them(tmp_path, capsys):
    (tmp_path / "pairs.csv").write_text("image,caption\na.png,b\n")
    for parse in (full.parse, evaluate.parse, index.parse):
        place = str(tmp_path / "pairs.csv")
        short, old = parse(["--pair.source", place]), parse(["--pairs.source", place])
        assert short == old
        assert short.corpora["pair"].source == place
        assert set(short.corpora) == set(MODALITIES)
    assert capsys.readouterr().err.count("--pairs.source is an old name") == 1


def test_settings_and_arguments_too(tmp_path):
    assert todays_settings({"training.stage3-pairs.task.mlm": 0.0, "model.width": 64}) == {
        "training.stage3-pair.task.mlm": 0.0,
        "model.width": 64,
    }
    for name in ("pair", "pairs"):
        with pytest.raises(UserError, match="no/such"):
            api.plan(preset="smoke", storage=tmp_path, **{name: "no/such"})
    with pytest.raises(TypeError, match="pears=: no such argument, and none of the modalities"):
        api.plan(preset="smoke", storage=tmp_path, pears="x")


def test_a_stage_is_not_called_like_a_modality():
    with pytest.raises(UserError, match=r"'image': --image.source is a corpus's; name the stage"):
        full.parse(["--preset", "smoke", "--stages", "image=stage1-images"])
