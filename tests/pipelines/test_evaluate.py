"""`pipelines/evaluate.py` through Ray: two models, public data in tiny copies, one set missing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from momo.config import ModelConfig
from momo.export import save
from momo.model import build_model
from momo.tokenizer import train_wordpiece
from pipelines import evaluate

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments):
    full = str(ROOT / "pipelines" / "evaluate.py")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"}
    return subprocess.run(
        [sys.executable, full, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
    )


def clip(folder):
    """A CLIP of random weights with its processor and a tokenizer of a few words."""
    import transformers as hf
    from tokenizers import Tokenizer, models, pre_tokenizers

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    sizes["num_attention_heads"] = 2
    special = ["<pad>", "<unk>", "<s>", "</s>"]
    words = [*special, "good", "bad", "film", "number", *map(str, range(50))]
    vocabulary = {word: i for i, word in enumerate(words)}
    text = {"vocab_size": len(words), "max_position_embeddings": 16, "eos_token_id": 3}
    config = hf.CLIPConfig(
        text_config={**sizes, **text, "bos_token_id": 2, "pad_token_id": 0},
        vision_config={**sizes, "image_size": 32, "patch_size": 16},
        projection_dim=16,
    )
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", model_max_length=16
    )
    hf.CLIPModel(config).save_pretrained(folder)
    hf.CLIPImageProcessor().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluate")
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for number, name in enumerate(("dark", "bright")):
            folder = root / "data" / "kitti" / part / name
            folder.mkdir(parents=True)
            for i in range(20 if part == "train" else 50):
                pixels = generator.integers(0, 60, (20, 20, 3)) + 150 * number
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    glue = root / "data" / "glue" / "sst2"
    glue.mkdir(parents=True)
    for split, rows in (("train", 60), ("validation", 100)):
        words = [f"{('good', 'bad')[i % 2]} film number {i}" for i in range(rows)]
        table = pa.table({"sentence": words, "label": [1 - i % 2 for i in range(rows)]})
        pq.write_table(table, glue / f"{split}-00000-of-00001.parquet")
    words = train_wordpiece(["good bad film number 1 2 3 4 5 6 7 8 9 0"] * 3, 80)
    for seed, name in enumerate(("one", "two")):
        config = ModelConfig(width=32, depth=2, heads=2, image_size=32, vocab_size=80, embed_dim=16)
        save(build_model(config, seed), root / name, words.to_str())
    clip(root / "clip")
    rows = [{"image": f"bright/{i}.png", "caption": f"film number {i}"} for i in range(50)]
    pairs = root / "data" / "kitti" / "test" / "pairs.csv"
    pairs.write_text("\n".join(["image,caption", *(f"{r['image']},{r['caption']}" for r in rows)]))
    birds = root / "data" / "kitti" / "train"
    arguments = ["--model", root / "one", f"other={root / 'two'}", root / "clip"]
    arguments += ["--data", root / "data", "--pair.source", pairs, "--preset", "smoke"]
    arguments += ["--tasks", "image/kitti", "glue/sst2", "glue/rte", "own/retrieval"]
    arguments += [f"mine={birds}:fine-tune", "--save-classifiers", "--learning-rate", "0.003"]
    arguments += ["--storage", root / "runs", "--cluster", "local", "--against", "flava-paper"]
    done = command(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return root, arguments, done.stdout


def test_the_tables_hold_both_models_and_what_is_missing(place):
    root, _, output = place
    report = next(root.glob("runs/comparison/*/attempt-*/report"))
    metrics = json.loads((report / "metrics.json").read_text())
    assert set(metrics["models"]) == {"one", "other", "clip"}
    for model in metrics["models"].values():
        assert model["tasks"]["image/kitti"]["value"] == 1.0
        assert model["tasks"]["image/kitti"]["n"] == 100
        assert model["covered"] == {"image": [1, 2], "text": [1, 2], "multimodal": [0, 1]}
        assert "load_dataset('nyu-mll/glue', 'rte')" in model["not_available"]["glue/rte"]
    assert metrics["deltas"]["flava-paper"]["one"]["text"]["tasks"] == 1
    table = (report / "table.md").read_text()
    assert "| task | group | metric | n | one | other | clip | chance |" in table
    assert "Δ against flava-paper, text" in table
    page = (report / "index.html").read_text()
    assert "1 of 2 tasks" in page
    assert "http" not in page.replace("https://", "http").split("<body>")[0]
    assert "glue/rte: not available" in output


def test_others_stand_beside_ours_on_ones_own_pairs(place):
    root, _, _ = place
    report = next(root.glob("runs/comparison/*/attempt-*/report"))
    metrics = json.loads((report / "metrics.json").read_text())
    rows = [model["tasks"]["own/retrieval"] for model in metrics["models"].values()]
    assert [row["n"] for row in rows] == [10, 10, 10]  # the held-out fifth of 50
    assert [row["note"] for row in rows] == ["only 10 examples: the figure says little"] * 3
    assert len({row["chance"] for row in rows}) == 1
    assert all(row["untrained"] == rows[0]["untrained"] for row in rows)
    line = next(x for x in (report / "table.md").read_text().splitlines() if "own/retr" in x)
    assert line.startswith("| own/retrieval | multimodal | mrr | 10 (only 10 examples")
    assert not (root / "runs" / "corpora").exists()


def test_a_fine_tuned_classifier_is_kept(place):
    root, _, _ = place
    report = next(root.glob("runs/comparison/*/attempt-*/report"))
    models = json.loads((report / "metrics.json").read_text())["models"]
    row = models["one"]["tasks"]["mine"]
    assert (row["group"], row["n"], row["chance"]) == ("image", 8, 0.5)
    assert row["details"]["classifier"] == "classifier"
    (folder,) = root.glob("runs/fine-tune-given-mine-one/*/attempt-*/classifier")
    entry = json.loads((folder / "config.json").read_text())["classifier"]
    assert (entry["classes"], entry["inputs"]) == (["bright", "dark"], "image")
    assert "only a fine-tuned MoMo" in models["clip"]["tasks"]["mine"]["details"]["classifier"]


def test_again_it_is_cached_and_a_new_model_costs_only_its_own(place):
    root, arguments, _ = place
    plan = command(*arguments, "--plan")
    assert " run " not in plan.stdout, plan.stdout
    more = command(*arguments[:4], f"third={root / 'two'}", *arguments[4:], "--plan")
    running = [line.split()[0] for line in more.stdout.splitlines() if " run " in line]
    assert running
    assert all("third" in name or name == "comparison" for name in running)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], ["--model", "runs/latest/model"]),
        (["--model", "/none"], ["--model /none", "config.json"]),
        (["--model", "{one}", "{one}"], ["two models are named one", "NAME=PATH"]),
        (["--model", "a b={one}"], ["'a b'", "letters"]),
        (["--model", "{one}", "--tasks", "glue/sst"], ["glue/sst", "did you mean glue/sst2"]),
        (["--model", "{one}", "--against", "/none"], ["--against /none", "metrics.json"]),
        (["--model", "{one}", "--preset", "dmeo"], ["dmeo", "demo"]),
        (["--model", "{one}", "--budget", "hour"], ["--budget hour", "preset demo"]),
        (["--model", "{one}", "--preset", "icons", "--budget", "our"], ["'our'", "hour"]),
        (["--model", "{one}", "--limit", "-1"], ["--limit -1"]),
        (["--model", "{one}", "--learning-rate", "-1"], ["--learning-rate -1"]),
        (["--model", "{one}", "--layer-decay", "3"], ["--layer-decay 3"]),
        (
            ["--model", "{one}", "--against", "a=flava-paper", "a=flava-paper"],
            ["two runs are named a", "NAME=PLACE"],
        ),
    ],
)
def test_bad_input_names_the_option_and_the_remedy(place, arguments, words, capsys):
    root, _, _ = place
    arguments = [a.format(one=root / "one") for a in arguments]
    assert evaluate.main([*arguments, "--storage", str(root / "unused")]) == 2
    error = capsys.readouterr().err
    for word in words:
        assert word in error


def test_large_models_are_tuned_gently_and_baselines_obey_the_limit(place):
    root, _, _ = place
    large = root / "run=1" / "large"
    large.mkdir(parents=True)
    (large / "config.json").write_text(json.dumps({"text_config": {"hidden_size": 768}}))
    options = evaluate.EvaluateOptions(
        model=(str(root / "one"), str(large)), tasks=("demo",), limit=20, data=str(root / "data")
    )
    graph = evaluate.build_graph(options)
    tuned = {n: s.config.tuning for n, s in graph.items() if n.startswith("fine-tune-demo-rev")}
    rates = {n.rpartition("-")[2]: (t.learning_rate, t.layer_decay) for n, t in tuned.items()}
    assert rates == {"one": (1e-3, 1.0), "large": (5e-5, 0.75), "untrained": (1e-3, 1.0)}
    assert graph["baselines"].config.limit == 20


def test_the_list_names_every_task(capsys):
    assert evaluate.main(["--list"]) == 0
    shown = capsys.readouterr().out
    for name in ("demo/mnist", "image/imagenet", "glue/stsb", "multimodal/vqav2"):
        assert name in shown
