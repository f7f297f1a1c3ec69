"""One full run of preset `smoke` through Ray on the real corpora, interrupted on the way."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import momo
from momo.transforms import decode
from momo_platform.data.near import NEAR_BITS, LookIndex, look_of
from momo_platform.training.records import read_records
from pipelines import embed

ROOT = Path(__file__).resolve().parents[2]


def command(storage, *arguments):
    full = str(ROOT / "pipelines" / "full.py")
    start = [sys.executable, full, "--preset", "smoke", "--cluster", "local"]
    return [*start, "--storage", str(storage), *arguments]


@pytest.fixture(scope="module")
def finished(smoke_runs):
    """A run that got Ctrl-C in its second training stage, then the same command again.

    Some own pictures and captions are broken, on purpose.
    """
    folder, storage = smoke_runs.parent, smoke_runs
    own = folder / "pictures"
    own.mkdir()
    generator = np.random.default_rng(0)
    for index in range(60):
        pixels = generator.integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(own / f"{index}.png")
    (own / "cut.png").write_bytes((own / "0.png").read_bytes()[:700])
    (own / "words.jpg").write_text("not a picture")
    extra = ["--image.source", str(own), "--stage2.train.steps", "60"]
    first = subprocess.Popen(
        command(storage, *extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.time() + 400
    while not list(storage.glob("stage2-joint/*/checkpoints/step-*/manifest.json")):
        assert first.poll() is None, first.communicate()[0]
        assert time.time() < deadline
        time.sleep(0.1)
    os.kill(first.pid, signal.SIGINT)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 130, output
    assert "goes on from the last checkpoint" in output
    second = subprocess.run(command(storage, *extra), capture_output=True, text=True)
    assert second.returncode == 0, second.stdout + second.stderr
    return folder, storage, extra, second.stdout


def test_the_interrupted_run_goes_on_from_its_checkpoint(finished):
    _, storage, _, _ = finished
    manifest = json.loads(next(storage.glob("stage2-joint/*/manifest.json")).read_text())
    assert manifest["metrics"]["resumed_at_step"] > 0
    assert len(list(storage.glob("stage1-image/*/attempt-*"))) == 1
    (attempt,) = storage.glob("stage2-joint/*/attempt-*")
    records = read_records(attempt / "metrics.jsonl")
    steps = [r["step"] for r in records]
    assert steps == sorted(set(steps))
    measured = [r["step"] for r in records if "valid/loss/total" in r]
    assert (measured[0], measured[-1]) == (0, 60)
    assert list((attempt / "tensorboard").iterdir())


def test_running_again_when_all_is_done_takes_seconds(finished):
    _, storage, extra, _ = finished
    started = time.time()
    done = subprocess.run(command(storage, *extra), capture_output=True, text=True)
    assert done.returncode == 0
    assert time.time() - started < 30
    assert "report:" in done.stdout
    plan = subprocess.run(command(storage, *extra, "--plan"), capture_output=True, text=True)
    assert plan.stdout.count("cached") >= 34
    assert "known after" not in plan.stdout
    assert "Epochs of each source" in plan.stdout


def test_broken_pictures_are_counted_and_the_rest_is_used(finished):
    _, storage, _, _ = finished
    metrics = json.loads((storage / "latest" / "report" / "metrics.json").read_text())
    images = metrics["corpora"]["image"]
    assert images["quarantined"] == 2
    assert images["kept"] == 60
    page = (storage / "latest" / "report" / "index.html").read_text()
    assert "damaged or truncated" in page
    assert page.count('class="bar"') > 10
    assert page.count('class="sample"') == 36
    assert "CC-BY 4.0 (Twemoji)" in page
    card = next(storage.glob("prepare-image/*/attempt-*/card.md")).read_text()
    assert "damaged or truncated" in card


def test_the_report_is_whole(finished):
    _, storage, _, output = finished
    metrics = json.loads((storage / "latest" / "report" / "metrics.json").read_text())
    assert set(metrics["groups"]) == {"image", "text", "multimodal"}
    # The own pictures have no labels: that task says so instead of leaving a hole. What is about
    # the demo's pictures does not run; few of the emoji are held out at this size.
    assert set(metrics["not_available"]) == {"own/labels", "own/labels_zero_shot"}
    assert "demo/mnist" not in metrics["tasks"]
    assert metrics["covered"] == {"image": [0, 1], "text": [1, 1], "multimodal": [1, 3]}
    assert "only" in metrics["tasks"]["demo/image_to_text"]["note"]
    for task in metrics["tasks"].values():
        assert {"metric", "value", "baseline", "chance", "n", "group"} <= set(task)
        assert task["n"] > 0
        assert 0.0 <= task["low"] <= task["value"] <= task["high"] <= 1.0
    assert len(metrics["stages"]) == 3
    page = (storage / "latest" / "report" / "index.html").read_text()
    assert page.count("<svg") >= 8
    assert page.count("data:image/png") > 20
    # A sample of a corpus may hold an address; the page itself loads nothing.
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?https?:""", page)
    assert "demo/image_to_text" in output
    table = (storage / "latest" / "report" / "table.md").read_text()
    assert "**mean, multimodal**" in table
    assert "- own/labels: the pictures have no labels" in table


def test_training_and_held_out_share_no_picture_no_concept_and_no_review(finished):
    _, storage, _, _ = finished
    pairs = pq.read_table(next(storage.glob("prepare-pair/*/attempt-*/data.parquet"))).to_pylist()
    images = pq.read_table(next(storage.glob("prepare-image/*/attempt-*/data.parquet"))).to_pylist()
    held_out = [r for r in (*pairs, *images) if r["split"] != "train"]
    index = LookIndex([look_of(decode(row["image"])) for row in held_out], NEAR_BITS)
    assert len(index) > 50
    found, _ = index.find_many([look_of(decode(held_out[0]["image"]))])
    assert found[0] >= 0  # it would be found
    groups = {r["group"] for r in held_out}
    captions = {c for r in held_out for c in r.get("captions", ())}
    read = 0
    for kind in ("image", "pair"):  # what training reads
        for file in storage.glob(f"mix-{kind}/*/attempt-*/shards/*.parquet"):
            for row in pq.read_table(file).to_pylist():
                read += 1
                assert index.find_many([look_of(decode(row["image"]))])[0][0] == -1, read
                assert not row.get("group") or row["group"] not in groups
                assert not captions & set(row.get("captions", ()))
    assert read > 200
    reviews = next(storage.glob("corpora/*/attempt-*/tasks/reviews.jsonl")).read_text().splitlines()
    tested = {r["text"] for r in map(json.loads, reviews) if r["split"] != "train"}
    texts = pq.read_table(next(storage.glob("prepare-text/*/attempt-*/data.parquet"))).to_pylist()
    trained = {r["text"] for r in texts if r["split"] == "train"}
    assert len(trained) > 200
    assert not tested & trained


@pytest.mark.slow
def test_stage_three_alone_from_the_model_before_it_is_equal_to_the_bit(finished):
    _, storage, _, _ = finished
    export = storage.parent / "second-stage"
    shutil.copytree(next(storage.glob("stage2-joint/*/attempt-*/model")), export)
    weights = {f.read_bytes() for f in storage.glob("stage3-pair/*/attempt-*/model/*.safetensors")}
    assert len(weights) == 1
    only = ["--stages", "stage3-pair", "--until", "stage3-pair"]
    for given in (str(export), "stage2-joint"):  # a folder, an artifact by its name
        done = subprocess.run(
            command(storage, *only, "--initial-model", given), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    made = list(storage.glob("stage3-pair/*/attempt-*/model/*.safetensors"))
    assert len(made) == 2  # one more stage: the second command found it done
    assert {f.read_bytes() for f in made} == weights
    assert "stage1-image" not in done.stdout


def test_the_model_embeds(finished, tmp_path, capsys):
    _, storage, _, _ = finished
    folder = storage / "latest" / "model"
    model = momo.load(folder)
    picture = tmp_path / "x.png"
    Image.new("RGBA", (100, 60), (255, 0, 0, 90)).save(picture)
    alone = model.embed(texts=["a red apple"])
    together = model.embed(texts=["a red apple", "a much longer text about green trees"])
    np.testing.assert_allclose(alone[0], together[0], atol=1e-5)
    assert model.similarity(["red"], [picture]).shape == (1, 1)
    assert embed.main(["--model", str(folder), "--text", "red", "--image", str(picture)]) == 0
    assert "cosine" in capsys.readouterr().out
    target = tmp_path / "v.npz"
    assert embed.main(["--model", str(folder), "--text", "red", "--output", str(target)]) == 0
    assert np.load(target)["vectors"].shape == (1, 64)
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    assert embed.main(["--model", str(folder), "--image", str(bad)]) == 2
    assert "bad.png" in capsys.readouterr().err
