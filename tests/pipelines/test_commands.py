"""The command `momo`: help on a screen, dispatch, and its Python calls."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from momo_platform.stages import UserError
from pipelines.commands import api, dispatch, help_pages

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "train": help_pages.TRAIN,
    "evaluate": help_pages.EVALUATE,
    "embed": help_pages.EMBED,
    "index": help_pages.INDEX,
    "serve": help_pages.SERVE,
    "sweep objectives": help_pages.SWEEP,
}


def shown(capsys, *arguments):
    """Exit code and output of a command."""
    try:
        code = dispatch.main(list(arguments))
    except SystemExit as ended:
        code = ended.code
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.mark.parametrize("command", ["", "plan", "sweep", *dispatch._COMMANDS, *PAGES])
def test_help_fits_a_screen(command, capsys):
    code, text = shown(capsys, *command.split(), "--help")
    assert code == 0
    assert 8 < len(text.splitlines()) <= 80
    if command in PAGES:
        assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("command", list(PAGES))
def test_every_option_of_the_short_help_is_one(command, capsys):
    code, everything = shown(capsys, *command.split(), "--help-all")
    assert code == 0
    known = set(re.findall(r"--[a-z0-9][a-z0-9.-]*", everything)) | {"--stages", "--preset"}
    for group in PAGES[command].options.values():
        for option in group:
            name = option.split()[0].replace("<stage>", "every")
            name = name.replace("--keep", "--every.train.keep")
            name = name.replace("--every.", "--training.stage3-pair.")
            parts = ("", "run.", "evaluation.", "corpora.")
            forms = {name.replace("--", f"--{part}", 1) for part in parts}
            assert forms & known, name


def test_an_unknown_command_names_the_nearest(capsys):
    code, text = shown(capsys, "trian")
    assert (code, "did you mean train?" in text) == (2, True)
    code, text = shown(capsys, "sweep", "objectivs")
    assert (code, "did you mean objectives?" in text) == (2, True)


def test_experiments_are_listed_with_their_question(capsys):
    code, text = shown(capsys, "sweep", "--list")
    assert code == 0
    assert "What does each objective of stage 3 give?" in text
    assert "model_size " in text


def test_a_plan_needs_no_torch_and_no_ray(tmp_path):
    program = (
        "import sys; from pipelines.commands import main; "
        f"code = main(['plan', '--preset', 'smoke', '--storage', {str(tmp_path / 'r')!r}]); "
        "print('torch' in sys.modules, 'ray' in sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("False False")
    assert "stage3-pair" in done.stdout


def test_the_python_call_plans_what_the_command_plans(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a black square")
    plan = api.plan(
        preset="smoke",
        pair=tmp_path,
        stages=["stage3-pair"],
        storage=tmp_path / "runs",
        settings={"stage3-pair.train.steps": 7, "every.train.seed": 3},
    )
    recipe = plan["stage3-pair"].stage.config
    assert (recipe.train.steps, recipe.train.seed) == (7, 3)
    assert "corpora" not in {e.name for e in plan.entries if e.name.startswith("prepare")}
    with pytest.raises(UserError, match="no/such"):
        api.plan(preset="smoke", pair="no/such", storage=tmp_path)
