"""`--quality`: which stages there are, what they read, how pairs are scored, what is tested on."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from captioned_pictures import write
from PIL import Image
from prepared_rows import artifact, prepared, rows_of

import momo
from momo.config import ModelConfig
from momo.evaluation.load import load_encoder
from momo.export import save
from momo.model import build_model
from momo.tokenizer import train_wordpiece
from momo.transforms import decode
from momo_platform.data.quality.config import QualityConfig
from momo_platform.data.quality.filters import LOOKS
from momo_platform.stages import UserError
from momo_platform.stages.stage import Context
from pipelines import full
from pipelines.evaluation.datasets import DataSetPlace
from pipelines.graph import build_graph
from pipelines.quality import (
    KeepConfig,
    LooksConfig,
    PairScorer,
    run_quality,
    run_tested_pictures,
)

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ModelConfig(width=16, depth=1, heads=1, image_size=16, vocab_size=60, embed_dim=8)


def png(number, size=24):
    pixels = np.random.default_rng(number).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An artifact with a small MoMo."""
    folder = tmp_path_factory.mktemp("scorer")
    words = train_wordpiece(["picture number 0 1 2 3 4 5 6 7 8 9"] * 3, CONFIG.vocab_size)
    save(build_model(CONFIG, 0), folder / "model", words.to_str())
    return artifact(folder)


def graph_of(*options):
    return build_graph(full.parse(["--preset", "smoke", "--plan", *map(str, options)]))


def test_by_default_there_is_no_such_stage():
    assert not [name for name in graph_of() if "quality" in name or "tested" in name]


def test_training_reads_what_is_kept_and_tests_what_was_prepared(model):
    graph = graph_of(
        *("--quality.score-model", model.path / "model", "--quality.keep", "0.5"),
        *("--quality.languages", "en", "de", "--quality.near-duplicates", "0.8"),
        "--quality.decontaminate",
    )
    for corpus in ("image", "text", "pair"):
        kept = graph[f"quality-{corpus}"]
        assert kept.inputs["prepared"] is graph[f"prepare-{corpus}"]
        assert graph[f"mix-{corpus}"].inputs["prepared"] is kept
        assert graph["report"].inputs[f"prepare-{corpus}"] is kept
    for corpus in ("text", "pair"):
        assert graph["tokenizer"].inputs[corpus] is graph[f"quality-{corpus}"]
    assert graph["mix-image"].inputs["pair"] is graph["prepare-pair"]
    assert graph["stage3-pair"].inputs["pair-rows"] is graph["quality-pair"]
    selections = {c: graph[f"quality-{c}"].config.selection for c in ("image", "text", "pair")}
    languages = ("en", "de")
    assert selections["image"] == QualityConfig()
    assert selections["text"] == QualityConfig("text", languages, 0.8)
    assert selections["pair"] == QualityConfig("captions", languages, keep=0.5)
    assert [*graph["quality-image"].inputs] == ["prepared", "tested"]
    assert [*graph["quality-pair"].inputs] == ["prepared", "tested", "scorer"]
    tested = {place.data for place in graph["tested-pictures"].config.places}
    assert tested == {"demo-mnist", "demo-questions"}
    assert graph["features-demo-pair-stage3-pair"].inputs["demo-pair"] is graph["prepare-pair"]


@pytest.mark.parametrize(
    "options, told",
    [
        (("--quality.languages", "klingon"), "languages klingon: give any of"),
        (("--quality.near-duplicates", "0.05"), "give 0.1 to 0.95, or 0"),
        (("--quality.keep", "0"), "keep=0.0: give at least 0.001"),
        (("--quality.near-duplicates", "0.99"), "near_duplicates=0.99: give at least 0"),
        (("--quality.keep", "0.5"), "--quality.keep: it is of --quality.score-model"),
        (
            ("--quality.decontaminate", "--near-duplicate-bits", "-1"),
            "--quality.decontaminate finds pictures by --near-duplicate-bits, which is -1",
        ),
        (("--quality.score-model", "/nowhere"), "holds no config.json"),
        (
            ("--stages", "stage1-image", "--quality.near-duplicates", "0.8"),
            "--quality.near-duplicates: this job trains on no text; leave it out",
        ),
        (
            ("--stages", "stage1-image", "--quality.score-model", "/nowhere"),
            "--quality.score-model: this job trains on no captioned pictures",
        ),
    ],
)
def test_what_can_not_be_is_refused_before_anything_runs(options, told, capsys):
    with pytest.raises((UserError, SystemExit, ValueError)) as error:
        graph_of(*options)
    assert told in str(error.value) + "".join(capsys.readouterr()).replace("\n", " ")


def test_without_a_data_set_there_is_nothing_to_compare_with(tmp_path):
    folder = write(tmp_path / "own")
    with pytest.raises(UserError, match=r"no data set is there .* --evaluation\.data"):
        graph_of("--pair.source", folder, "--quality.decontaminate")
    own = ("--pair.source", folder, "--quality.decontaminate")
    graph = graph_of(*own, "--evaluation.tasks", f"birds={folder}")
    (place,) = graph["tested-pictures"].config.places
    assert place.data == "given-birds"
    assert not graph["tested-pictures"].inputs


def pairs(count=30):
    return pa.table(
        {
            "image": [png(n) for n in range(count)],
            "captions": [[f"picture number {n}", "another"][: 1 + n % 2] for n in range(count)],
        }
    )


@pytest.mark.parametrize("kind", ["momo", "clip"])
def test_a_score_is_the_mean_cosine_of_a_row_s_captions(kind, model, tmp_path):
    if kind == "clip":
        from test_evaluate import clip

        clip(tmp_path / "model")
        model = artifact(tmp_path)
    table = pairs()
    scores = PairScorer(model, "captions", "fp32", "cpu")(table)
    encoder = load_encoder(model.path / "model")
    for row in (0, 1, 17, 28):
        pixels = np.asarray(decode(table["image"][row].as_py()).resize((encoder.image_size,) * 2))
        assert pixels.shape[:2] == (encoder.image_size,) * 2
        from pipelines.evaluation.items import Pictures

        picture = Pictures([table["image"][row].as_py()], decode)
        seen = encoder.embed_pixels(picture.pixels([0], encoder.image_size))
        told = encoder.embed_texts(table["captions"][row].as_py())
        assert scores[row] == pytest.approx(float((told @ seen[0]).mean()), abs=1e-5)


def test_scores_are_those_of_momo_embed(model):
    table = pairs(6)
    embedder = momo.load(model.path / "model")
    seen = embedder.embed(images=[decode(raw) for raw in table["image"].to_pylist()])
    told = embedder.embed(texts=[some[0] for some in table["captions"].to_pylist()])
    scores = PairScorer(model, "captions", "fp32", "cpu")(table)
    assert scores[::2] == pytest.approx((seen * told).sum(axis=1)[::2], abs=1e-5)


def test_a_model_without_a_space_of_both_is_refused(tmp_path):
    import transformers as hf

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = hf.ViTConfig(**sizes, intermediate_size=32, image_size=32, patch_size=16)
    hf.ViTModel(config).save_pretrained(tmp_path / "model")
    hf.ViTImageProcessor().save_pretrained(tmp_path / "model")
    scorer = PairScorer(artifact(tmp_path), "captions", "fp32", "cpu")
    with pytest.raises(UserError, match=r"score-model: the model lacks .* give a CLIP"):
        scorer(pairs(3))


def in_context(folder):
    folder.mkdir()
    return Context(folder, folder.with_name(f"{folder.name}-held"), "quality", "f", "a")


def test_pictures_of_a_test_set_leave_training(tmp_path):
    """Whether the set is divided or not, and in another size and format."""
    for number in range(4):
        place = tmp_path / "tests" / ("train", "test")[number % 2] / f"{'ab'[number // 2]}"
        place.mkdir(parents=True, exist_ok=True)
        with Image.open(io.BytesIO(png(number, 80))) as picture:
            picture.save(place / f"{number}.jpg", quality=92)
    config = LooksConfig((DataSetPlace("given-x", "", str(tmp_path / "tests"), "classes:all"),))
    context = in_context(tmp_path / "tested")
    metrics = run_tested_pictures(config, {}, context)
    assert metrics == {"pictures": {"given-x": 2}}
    from momo_platform.data.near import look_of

    rows = pairs(8).append_column(
        "look", pa.array([look_of(decode(png(n))) for n in range(8)], pa.binary())
    )
    folder = prepared(tmp_path / "rows", rows)
    document = {
        **{"kind": "pair", "steps": [{"step": "read", "removed": 0, "rows": 8}]},
        **{"by_source": {"own": {"read": 8, "kept": 8}}, "samples": [], "reasons": {}},
        **{"by_split": {"train": {"read": 8, "kept": 8}}, "near_duplicate_bits": 4},
        **{"licences": {}, "files": {"count": 0, "bytes": 0, "sha256": ""}, "histograms": {}},
    }
    (folder / "card.json").write_text(json.dumps(document))
    inputs = {"prepared": artifact(folder), "tested": artifact(tmp_path / "tested")}
    assert (tmp_path / "tested" / LOOKS).exists()
    kept = in_context(tmp_path / "kept")
    metrics = run_quality(KeepConfig(QualityConfig("captions")), inputs, kept)
    assert metrics["tested"] == 2
    assert metrics["kept"] == 6
    card = json.loads((tmp_path / "kept" / "card.json").read_text())
    reasons = {e["key"]: e["reason"] for e in card["quality"]["examples"]["tested"]}
    assert reasons.keys() == {"000001", "000003"}
    assert all(reason.startswith("like given-x: picture") for reason in reasons.values())
    assert card["quality"]["reasons"] == {"like given-x": 2}


@pytest.mark.slow
def test_a_whole_job_by_all_of_them(model, tmp_path):
    """Its report says what went; the same command again makes nothing."""
    command = [
        *(sys.executable, "pipelines/full.py", "--preset", "smoke", "--cluster", "local"),
        *("--storage", str(tmp_path / "runs"), "--evaluation.limit", "50"),
        *("--quality.score-model", str(model.path / "model"), "--quality.keep", "0.5"),
        *("--quality.languages", "en", "--quality.near-duplicates", "0.8"),
        "--quality.decontaminate",
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"}

    def run():
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)

    first = run()
    assert first.returncode == 0, first.stdout + first.stderr
    manifests = {
        path.parent.parent.name: json.loads(path.read_text())
        for path in (tmp_path / "runs").glob("quality-*/*/manifest.json")
    }
    pair = manifests["quality-pair"]["metrics"]
    rows = rows_of(tmp_path / "runs", "quality-pair")
    trained = sum(row["split"] == "train" for row in rows)
    assert len(rows) == pair["kept"]
    assert pair["score"] == pytest.approx(trained, rel=0.05)  # half of those that were left
    page = next((tmp_path / "runs").glob("report/*/attempt-*/report/index.html")).read_text()
    assert "with a low score" in page
    second = run()
    assert second.returncode == 0
    assert "quality-pair" not in second.stdout or "cached" in second.stdout


def test_a_set_that_can_not_be_read_is_named_and_passed_over(tmp_path):
    (tmp_path / "gone").mkdir()
    config = LooksConfig((DataSetPlace("given-x", "", str(tmp_path / "gone"), "classes:all"),))
    notes = []
    context = in_context(tmp_path / "tested")
    context.progress = notes.append
    assert run_tested_pictures(config, {}, context) == {"pictures": {"given-x": 0}}
    assert [n["note"] for n in notes if "note" in n and "given-x is not compared" in n["note"]]


def test_scores_that_are_no_numbers_are_refused(tmp_path):
    from momo_platform.data.quality.parts import Selection
    from momo_platform.data.quality.passes import ScoreRows
    from momo_platform.stages.storage.place import Place

    class Broken:
        columns = ("captions",)

        def __call__(self, table):
            return np.full(len(table), np.nan, np.float32)

    rows = artifact(prepared(tmp_path / "rows", pairs(4)))
    place = Place(str(tmp_path / "rows"))
    job = Selection(QualityConfig("captions"), place, (), 64, place, Place(str(tmp_path / "p")))
    from momo_platform.data.artifacts import PreparedRows

    (file,) = PreparedRows(rows.place).index().shards
    with pytest.raises(UserError, match="is no number"):
        [*ScoreRows(job, Broken)({"file": vars(file), "number": 0})]
