"""The endpoint's image, without a docker daemon: its packages suffice, and none is a trainer's."""

import json
import re
import subprocess
import time
import urllib.request
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest

from momo_platform.machine import free_ports
from pipelines.serve_packages import FILE, LOCK, locked, requirements

ROOT = Path(__file__).parents[1]
DOCKER = (ROOT / "Dockerfile.serve").read_text()
SERVED = "pipelines.serve, pipelines.serving, momo.export, momo.classifier"
SERVED += ", momo_platform.serving.deployment, momo_platform.serving.state"
TRAINERS = """
    torchvision timm optuna tensorboard wandb pandas scikit-learn scipy datasets transformers
    pyarrow resvg-py triton nvidia-cudnn-cu13 pytest mlflow-skinny
"""


def test_the_file_is_what_the_lock_and_the_packages_say():
    lock = locked(LOCK.read_text())
    assert FILE.read_text() == requirements(lock), "run python pipelines/serve_packages.py"
    held = set(locked(FILE.read_text()))
    assert held.isdisjoint(TRAINERS.split())
    assert held < set(lock)


def test_serving_imports_nothing_that_the_image_lacks(environment):
    script = f"import {SERVED}; import sys; print(sys.modules['torch'].__file__)"
    done = subprocess.run(
        [environment["python"], "-c", script],
        env=environment["variables"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert str(environment["python"].parents[1]) in done.stdout
    absent = subprocess.run(
        [environment["python"], "-c", "import pandas"],
        env=environment["variables"],
        capture_output=True,
    )
    assert absent.returncode, "the environment has more than the image"


def test_the_dockerfile_copies_what_is_there_and_pins_its_base():
    assert "FROM python:3.11." in DOCKER
    copied = re.findall(r"^COPY (\S+) ", DOCKER, re.MULTILINE)
    assert all((ROOT / name).exists() for name in copied)
    assert {"momo", "platform", "pipelines"} <= set(copied)
    assert "USER ray" in DOCKER
    (base,) = re.findall(r"^FROM (\S+)", DOCKER, re.MULTILINE)
    assert base in (ROOT / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A virtual environment whose packages are links to those of the image's list: its `python`,
    and the environment `variables` of a process that sees them and our sources alone."""
    folder = tmp_path_factory.mktemp("image")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python3*/site-packages")
    for name in locked(FILE.read_text()):
        _link_files(distribution(name), site)
    if _is_for_gpus():  # the lock's wheel here; the image has the CPUs', which needs none of them
        for name in locked(LOCK.read_text()):
            if name.startswith(("nvidia-", "cuda-", "triton")):
                _link_files(distribution(name), site)
    variables = {
        "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
        "HOME": str(folder),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    return {"python": folder / "bin" / "python", "variables": variables}


def _link_files(package, site):
    for file in package.files or ():
        place = site / file
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.symlink_to(file.locate().resolve())


def _is_for_gpus():
    import torch

    return torch.version.cuda is not None


@pytest.mark.slow
def test_the_images_packages_serve(environment, tmp_path):
    """In an environment that has those packages and our sources alone."""
    from momo.config import ModelConfig
    from momo.export import save
    from momo.model import build_model
    from momo.tokenizer import train_wordpiece

    config = ModelConfig(vocab_size=300, width=32, depth=2, heads=2, embed_dim=24)
    words = train_wordpiece(["a red apple", "a green tree"] * 5, config.vocab_size)
    save(build_model(config), tmp_path / "model", words.to_str(), {"artifact": "toy/1"})
    (port,) = free_ports(1)
    arguments = ["--model", str(tmp_path / "model"), "--port", str(port), "--cpus", "0.3"]
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen(
        [environment["python"], "pipelines/serve.py", *arguments],
        cwd=ROOT,
        env=environment["variables"],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        _until_it_answers(process, port, log)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/embeddings",
            json.dumps({"input": ["a red apple"]}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            (found,) = json.load(answer)["data"]
        assert len(found["embedding"]) == 24
    finally:
        process.terminate()
        process.wait(120)


def _until_it_answers(process, port, log):
    for _ in range(180):
        if process.poll() is not None:
            log.seek(0)
            raise AssertionError(log.read()[-3000:])
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).close()
            return
        except OSError:
            time.sleep(1)
    raise AssertionError("it did not come up")
