"""What `pip install` gives: `momo` alone without Ray, the platform below `momo_ray`."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import momo_ray
from momo_ray import command

ROOT = Path(__file__).resolve().parent.parent


def test_without_the_platform_the_command_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(command, "NEEDED", ("json", "no_such_package"))
    assert command.main(["--help"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no_such_package not found): pip install 'momo-ray[platform]'" in said


def test_with_the_platform_it_is_the_command_and_has_its_calls(capsys):
    from pipelines.commands import api

    assert command.main(["--help"]) == 0
    assert "momo" in capsys.readouterr().out
    assert {name: getattr(momo_ray, name) for name in momo_ray.__all__} == {
        name: getattr(api, name) for name in momo_ray.__all__
    }
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = momo_ray.trian


def test_jobs_of_a_wheel_are_found_by_this_process_and_by_those_it_starts(tmp_path, monkeypatch):
    (tmp_path / "only_in_the_wheel.py").write_text("")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "/first")
    momo_ray._make_jobs_importable(tmp_path / "absent")
    assert os.environ["PYTHONPATH"] == "/first"
    momo_ray._make_jobs_importable(tmp_path)
    momo_ray._make_jobs_importable(tmp_path)
    assert os.environ["PYTHONPATH"] == f"/first{os.pathsep}{tmp_path}"
    code = "import only_in_the_wheel"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "python, words", [("/nope", "no such program"), ("false", "3.11 or newer is needed")]
)
def test_setup_refuses_an_interpreter_that_was_asked_for_and_does_not_do(python, words, tmp_path):
    done = subprocess.run(
        ["sh", "scripts/setup.sh"],
        cwd=ROOT,
        env={**os.environ, "PYTHON": python, "VENV": str(tmp_path / "venv")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"PYTHON={python}: " in done.stderr
    assert words in done.stderr
    assert not (tmp_path / "venv").exists()


USE = """
import importlib.util, sys
assert not [n for n in ("ray", "tyro", "pyarrow", "sklearn") if importlib.util.find_spec(n)]
assert not [n for n in ("pipelines", "experiments") if importlib.util.find_spec(n)]
import momo
assert "torch" not in sys.modules
import numpy as np
exported, converted, classifier = sys.argv[1:]
picture = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
vectors = momo.load(exported).embed(texts=["a red apple"], images=[picture])
assert vectors.shape == (1, 16), vectors.shape
found = momo.load_classifier(classifier).predict(texts=["a red apple"])
assert found[0].label in ("fruit", "tree")
import momo.evaluation.finetune
import momo.hf
from momo.initialise import check_initial, load_initial
from momo.config import ModelConfig
from transformers import AutoModel, AutoProcessor
model, processor = (c.from_pretrained(converted) for c in (AutoModel, AutoProcessor))
inputs = processor(text=["a red apple"], images=[picture], return_tensors="pt")
assert model(**inputs).logits_per_image.shape == (1, 1)
start = momo.model.build_model(model.config.to_model_config())
assert load_initial(start, converted).kind == "MoMo"
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_clean_environment_with_the_wheel_has_momo_without_ray(tmp_path, record_property):
    import momo
    from momo.config import ModelConfig
    from momo.evaluation.finetune import FineTuned
    from momo.evaluation.momo_encoder import MoMoEncoder
    from momo.export import save
    from momo.hf import from_exported
    from momo.model import build_model
    from momo.tokenizer import train_wordpiece

    config = ModelConfig(width=32, depth=1, heads=2, vocab_size=90, embed_dim=16)
    tokenizer = train_wordpiece(["a red apple"] * 5, 90)
    places = [str(tmp_path / name) for name in ("exported", "converted", "classifier")]
    model = build_model(config)
    save(model, Path(places[0]), tokenizer.to_str())
    for part in from_exported(places[0]):
        part.save_pretrained(places[1])
    tuned = FineTuned(MoMoEncoder(model, tokenizer, device="cpu").trunk(), 2, 0.0)
    momo.save_classifier(
        *(places[2], tuned),
        classes=["fruit", "tree"],
        inputs="text",
        tokenizer_json=tokenizer.to_str(),
    )

    def run(*command, **more):
        clean = {n: v for n, v in os.environ.items() if n not in ("PYTHONPATH", "VIRTUAL_ENV")}
        return subprocess.run(
            [str(part) for part in command], env=clean, cwd=tmp_path, check=True, text=True, **more
        )

    pip = (sys.executable, "-m", "pip")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path / "wheel", ROOT)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        tops = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"momo", "momo_platform", "momo_ray"}
    for data in ("report/page.html.jinja", "serve.yaml", "commands/api.py"):
        assert f"momo_ray/_jobs/pipelines/{data}" in names
    assert "momo_platform/serving/page/index.html" in names

    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", venv)
    python = venv / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "requirements.lock", wheel)
    run(python, "-c", USE, *places)
    done = subprocess.run(
        [venv / "bin" / "momo", "train"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2, done
    assert "pip install 'momo-ray[platform]'" in done.stderr
    size = run("du", "-sm", venv, capture_output=True).stdout.split()[0]
    record_property("megabytes", int(size))
    print(f"{size} MB installed")
