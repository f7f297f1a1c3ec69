"""Pipelines of transformers on an exported folder, and that nothing is warned of."""

import json
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
from momo.model import build_model
from momo.tokenizer import train_wordpiece

ROOT = Path(__file__).resolve().parents[2]
LABELS = ["apple", "tree", "green tree"]
SCRIPT = """
import json, logging, warnings

told = []
class Listener(logging.Handler):
    def emit(self, record):
        told.append(record.getMessage())

warnings.simplefilter("always")
from transformers import AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer, pipeline
from transformers.utils import logging as theirs
theirs.set_verbosity_warning(), theirs.disable_progress_bar()
for name in (None, "transformers", "transformers_modules", "huggingface_hub"):
    logging.getLogger(name).addHandler(Listener(logging.WARNING))
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    for kind in (AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer):
        kind.from_pretrained(FOLDER, **OWN)
    classify = pipeline("zero-shot-image-classification", model=FOLDER, **OWN)
    one = classify(PICTURE, candidate_labels=LABELS, hypothesis_template="a {}")
    many = classify([PICTURE, PICTURE], candidate_labels=LABELS)
told += [str(w.message) for w in warned]
print(json.dumps([told, one, many]))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    tokenizer = train_wordpiece(["a red apple", "a green tree"] * 5, CONFIG.vocab_size)
    save(build_model(CONFIG, seed=1), place / "model", tokenizer.to_str(), {"text_length": 12})
    export_folder(place / "model", place / "exported")
    noise = np.random.default_rng(0).integers(0, 255, (50, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(place / "picture.png")
    return place


@pytest.mark.parametrize("own", [{}, {"trust_remote_code": True}], ids=["package", "carried code"])
def test_zero_shot_classification_is_that_of_the_cosines_and_silent(own, folders, tmp_path):
    values = {
        "FOLDER": str(folders / "exported"),
        "PICTURE": str(folders / "picture.png"),
        "LABELS": LABELS,
        "OWN": own,
    }
    script = "".join(f"{name} = {value!r}\n" for name, value in values.items()) + SCRIPT
    if own:
        printed = run_without_momo(script, tmp_path)
    else:
        command = [sys.executable, "-c", f"import momo.hf\n{script}"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        printed = done.stdout
    told, one, many = json.loads(printed)
    assert told == []
    assert len(many) == 2
    embedder = momo.load(folders / "model", "cpu")
    cosines = embedder.similarity([f"a {label}" for label in LABELS], [values["PICTURE"]])[:, 0]
    logits = embedder.model.contrastive.clamped_log_scale().exp().item() * cosines
    expected = np.exp(logits) / np.exp(logits).sum()
    found = {row["label"]: row["score"] for row in one}
    np.testing.assert_allclose([found[label] for label in LABELS], expected, atol=1e-5)
