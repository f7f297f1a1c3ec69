"""sentence-transformers opens exported folders, trains them and saves them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clean_python import run_without_momo
from making_batches import CONFIG
from PIL import Image

import momo
from momo.export import save
from momo.hf import export_folder
from momo.hf.modeling import MoMoModel
from momo.hf.sentences import _METHODS, MODULES
from momo.model import build_model
from momo.tokenizer import train_wordpiece

ROOT = Path(__file__).resolve().parents[2]
COLOURS = ["red", "green", "blue", "white", "black", "yellow", "brown", "pink"]
TEXTS = ["a red apple", "", "a green tree and a red apple " * 9, "tree"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """`model`, `exported` of it, and a picture of each colour in `pictures`."""
    place = tmp_path_factory.mktemp("run")
    words = [f"a {colour} apple or a tree" for colour in COLOURS]
    tokenizer = train_wordpiece(words * 5, CONFIG.vocab_size)
    save(build_model(CONFIG, seed=1), place / "model", tokenizer.to_str(), {"text_length": 12})
    export_folder(place / "model", place / "exported")
    (place / "pictures").mkdir()
    for colour in COLOURS:
        Image.new("RGB", (40, 30), colour).save(place / "pictures" / f"{colour}.png")
    return place


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder with what the lock file has not."""
    target = tmp_path_factory.mktemp("packages")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target)]
    subprocess.run([*command, "sentence-transformers", "accelerate"], check=True, timeout=600)
    return target


def run_with_momo(script, folder, *paths):
    paths = os.pathsep.join(map(str, [ROOT, *paths]))
    done = subprocess.run(
        [sys.executable, "-c", f"import momo.hf\n{script}"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_the_folder_names_methods_that_the_model_has(folders):
    for method in _METHODS.values():
        assert callable(getattr(MoMoModel, method))
    assert json.loads((folders / "exported" / MODULES).read_text())[0]["path"] == ""


ENCODE = """
import json
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(FOLDER, device="cpu", **OWN)
pairs = [{"text": t, "image": p} for t, p in zip(TEXTS, PICTURES)]
found = [model.encode(inputs, batch_size=3) for inputs in (TEXTS, PICTURES, pairs)]
found.append(model.encode([{"image": p} for p in PICTURES]))
try:
    model.encode([TEXTS[0], {"image": PICTURES[0]}])
    mixed = ""
except ValueError as error:
    mixed = str(error)
print(json.dumps([[v.tolist() for v in found], model.get_embedding_dimension(), mixed,
                  model.max_seq_length, model.similarity(found[0], found[1]).shape]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("own", [{}, {"trust_remote_code": True}], ids=["package", "carried code"])
def test_vectors_are_those_of_momo(own, folders, packages, tmp_path):
    pictures = [str(folders / "pictures" / f"{colour}.png") for colour in COLOURS[:4]]
    values = {
        "FOLDER": str(folders / "exported"),
        "TEXTS": TEXTS,
        "PICTURES": pictures,
        "OWN": own,
    }
    script = "".join(f"{name} = {value!r}\n" for name, value in values.items()) + ENCODE
    run = run_without_momo if own else run_with_momo
    vectors, width, mixed, longest, shape = json.loads(run(script, tmp_path, packages))
    embedder = momo.load(folders / "model", "cpu")
    text, image, pair, again = (np.array(v) for v in vectors)
    np.testing.assert_allclose(text, embedder.embed(texts=TEXTS), atol=1e-6)
    np.testing.assert_allclose(image, embedder.embed(images=pictures), atol=1e-6)
    expected = embedder.embed(texts=TEXTS, images=pictures)
    np.testing.assert_allclose(pair, expected, atol=1e-6)
    np.testing.assert_allclose(again, image, atol=1e-7)
    assert (width, longest, shape) == (CONFIG.embed_dim, 12, [4, 4])
    assert mixed


TRAIN = """
import json
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
model = SentenceTransformer(FOLDER, device="cpu", **OWN)
rows = {"anchor": TEXTS, "positive": PICTURES}
arguments = SentenceTransformerTrainingArguments(
    output_dir="checkpoints", max_steps=60, per_device_train_batch_size=len(TEXTS),
    learning_rate=2e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no",
    disable_tqdm=True, dataloader_pin_memory=False,
)
trainer = SentenceTransformerTrainer(
    model=model, args=arguments, train_dataset=Dataset.from_dict(rows),
    loss=MultipleNegativesRankingLoss(model),
)
trainer.train()
losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
model.save_pretrained("tuned")
before = model.encode(TEXTS), model.encode(PICTURES)
loaded = SentenceTransformer("tuned", device="cpu", **OWN)
after = loaded.encode(TEXTS), loaded.encode(PICTURES)
print("\\n" + json.dumps([losses, [v.tolist() for v in (*before, *after)]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("own", [{}, {"trust_remote_code": True}], ids=["package", "carried code"])
def test_its_trainer_fine_tunes_and_what_it_saves_opens_again(own, folders, packages, tmp_path):
    texts = [f"a {colour} apple" for colour in COLOURS]
    pictures = [str(folders / "pictures" / f"{colour}.png") for colour in COLOURS]
    values = {
        "FOLDER": str(folders / "exported"),
        "TEXTS": texts,
        "PICTURES": pictures,
        "OWN": own,
    }
    script = "".join(f"{name} = {value!r}\n" for name, value in values.items()) + TRAIN
    run = run_without_momo if own else run_with_momo
    losses, vectors = json.loads(run(script, tmp_path, packages).splitlines()[-1])
    assert len(losses) == 60
    assert losses[-1] < 0.5 * losses[0]
    text, image, text_again, image_again = (np.array(v) for v in vectors)
    np.testing.assert_allclose(text_again, text, atol=1e-7)
    np.testing.assert_allclose(image_again, image, atol=1e-7)
    found = (text @ image.T).argmax(axis=1)  # the direction that this loss trains
    assert (found == np.arange(len(texts))).mean() >= 0.75
    tuned = momo.load(tmp_path / "tuned", "cpu")
    np.testing.assert_allclose(tuned.embed(texts=texts), text, atol=1e-6)
    np.testing.assert_allclose(tuned.embed(images=pictures), image, atol=1e-6)
    if not own:  # saved by this package's classes, opened by the code that they wrote
        again = f"""
import json
from sentence_transformers import SentenceTransformer
model = SentenceTransformer("tuned", device="cpu", trust_remote_code=True)
print(json.dumps(model.encode({texts!r}).tolist()))
"""
        found = json.loads(run_without_momo(again, tmp_path, packages))
        np.testing.assert_allclose(found, text, atol=1e-6)
