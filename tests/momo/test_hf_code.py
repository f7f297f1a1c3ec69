"""An exported folder opens where this package is not installed."""

import ast
import json
import shutil

import numpy as np
import pytest
import torch
from clean_python import run_without_momo
from making_batches import CONFIG
from PIL import Image
from transformers import AutoModel

import momo
from momo.export import save
from momo.hf import MoMoModel, code, export_folder
from momo.model import build_model
from momo.tokenizer import train_wordpiece

TEXTS = ["a red apple", "tree", "a green tree and a red apple " * 9, "", "apple [PAD] [SEP] red"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "model"
    tokenizer = train_wordpiece(["a red apple", "a green tree"] * 5, CONFIG.vocab_size)
    save(build_model(CONFIG, seed=1), folder, tokenizer.to_str(), {"text_length": 12})
    return folder


@pytest.fixture(scope="module")
def pictures(exported):
    """Transparent, grey, and one that EXIF turns, as files."""
    files = [exported / name for name in ("transparent.png", "grey.png", "turned.jpg")]
    noise = np.random.default_rng(0).integers(0, 255, (50, 40, 4), dtype=np.uint8)
    picture = Image.fromarray(noise)
    picture.save(files[0])
    picture.convert("L").save(files[1])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.convert("RGB").save(files[2], exif=exif)
    return list(map(str, files))


@pytest.fixture(scope="module")
def copied(exported, tmp_path_factory):
    """What an export wrote, somewhere else."""
    written = tmp_path_factory.mktemp("written") / "my-model"
    export_folder(exported, written)
    return shutil.copytree(written, tmp_path_factory.mktemp("elsewhere") / "my-model.v1")


def test_vectors_are_those_of_momo_in_a_python_without_it(exported, copied, pictures, tmp_path):
    script = f"""
import json, torch
from transformers import (AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer)
folder, texts, pictures = {str(copied)!r}, {TEXTS!r}, {pictures!r}
own = dict(trust_remote_code=True, local_files_only=True)
model = AutoModel.from_pretrained(folder, **own).eval()
processor = AutoProcessor.from_pretrained(folder, **own)
with torch.no_grad():
    text = model.get_text_features(**processor(text=texts, return_tensors="pt"))
    image = model.get_image_features(**processor(images=pictures, return_tensors="pt"))
    both = model(**processor(text=texts[:3], images=pictures, return_tensors="pt"))
ids = AutoTokenizer.from_pretrained(folder, **own)(texts[0])["input_ids"]
size = AutoImageProcessor.from_pretrained(folder, **own).size["height"]
width = AutoConfig.from_pretrained(folder, **own).hidden_size
model.save_pretrained("again"), processor.save_pretrained("again")
print(json.dumps([text.tolist(), image.tolist(), both.matching_logits.tolist(), ids, size, width]))
"""
    text, image, matching, ids, size, width = json.loads(run_without_momo(script, tmp_path))
    embedder = momo.load(exported, "cpu")
    np.testing.assert_allclose(text, embedder.embed(texts=TEXTS), atol=1e-6)
    np.testing.assert_allclose(image, embedder.embed(images=pictures), atol=1e-6)
    assert len(matching) == 3
    assert (size, width) == (CONFIG.image_size, CONFIG.width)
    assert ids == embedder.token_ids(TEXTS[:1])[0]

    again = tmp_path / "again"  # what was saved there is whole, too
    assert {f.name for f in again.glob("*.py")} == set(code.carried_files())
    script = script.replace(repr(str(copied)), repr(str(again))).replace('"again"', '"third"')
    assert json.loads(run_without_momo(script, tmp_path))[0] == text


def test_with_the_package_its_own_classes_open_the_folder_untrusted(copied, tmp_path):
    model = AutoModel.from_pretrained(copied)
    assert type(model) is MoMoModel
    assert type(AutoModel.from_pretrained(copied, trust_remote_code=True)) is MoMoModel
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"] == code.MODEL_MAP
    for name, source in code.carried_files().items():
        assert (tmp_path / name).read_text() == source


def test_the_code_imports_nothing_but_what_everyone_has():
    files = code.carried_files()
    for name, source in files.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert f"{node.module}.py" in files, name
            elif isinstance(node, ast.ImportFrom):
                assert code._allowed(node.module.partition(".")[0]), name
                assert not node.module.startswith("momo"), name
            elif isinstance(node, ast.Import):
                assert all(code._allowed(a.name.partition(".")[0]) for a in node.names), name
    for reference in (*code.MODEL_MAP.values(), *code.PROCESSOR_MAP.values()):
        module, _, name = reference.partition(".")
        assert f"class {name}(" in files[f"{module}.py"]


@pytest.mark.parametrize(
    "line, words",
    [
        ("import pyarrow", "import pyarrow in a function"),
        ("import momo.block", "write `from momo.module import name`"),
        ("from momo import block", "write `from momo.module import name`"),
        ("from momo.losses import contrastive", "write `from momo.module import name`"),
    ],
)
def test_an_import_that_can_not_be_carried_is_named(line, words, tmp_path, monkeypatch):
    package = tmp_path / "momo"
    shutil.copytree(code._ROOT, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "block.py").write_text(f'"""A block."""\n\n{line}\n')
    monkeypatch.setattr(code, "_ROOT", package)
    with pytest.raises(ValueError, match=rf"momo/block\.py:3: .*{words}"):
        code.carried_files.__wrapped__()


@torch.inference_mode()
def test_pairs_have_a_vector_between(exported, copied, pictures):
    from transformers import AutoProcessor

    model, processor = AutoModel.from_pretrained(copied), AutoProcessor.from_pretrained(copied)
    inputs = processor(text=TEXTS[:3], images=pictures, return_tensors="pt")
    expected = momo.load(exported, "cpu").embed(texts=TEXTS[:3], images=pictures)
    np.testing.assert_allclose(model.get_pair_features(**inputs).numpy(), expected, atol=1e-6)
