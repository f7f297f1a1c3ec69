"""`momo push`: what it sends, what it shows, what it refuses."""

import json

import numpy as np
import pytest
from clean_python import run_without_momo
from hub_models import ModelHub

import momo
from momo.config import ModelConfig
from momo.export import save
from momo.model import build_model
from momo.tokenizer import train_wordpiece
from momo_platform.stages import UserError
from pipelines import push, to_transformers
from pipelines.commands import api

CONFIG = ModelConfig(width=32, depth=1, heads=2, vocab_size=90, decoder_width=16)
WORDS = ["a red apple", "tree"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "model"
    tokenizer = train_wordpiece(["a red apple"] * 5, CONFIG.vocab_size)
    save(build_model(CONFIG), folder, tokenizer.to_str(), {"text_length": 12})
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with ModelHub() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)
        monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", server.token)
        yield server
        server.shutdown()


@pytest.fixture
def no_token(monkeypatch):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/none/token")


def test_what_is_sent_opens_from_the_hub_without_this_package(model, hub, tmp_path, capsys):
    command = ["--model", str(model), "--repo", "me/apples", "--licence", "apache-2.0", "--private"]
    assert push.main(command) == 0, capsys.readouterr().err
    assert f"{hub.address}/me/apples/commit/" in capsys.readouterr().out
    files = hub.files["me/apples"]
    assert hub.commits == [len(files)]  # all in one
    assert hub.private == {"me/apples"}
    assert {"model.safetensors", "modeling_momo.py", "modules.json", "tokenizer.json"} <= set(files)
    card = files["README.md"].decode()
    assert "license: apache-2.0" in card
    assert 'AutoModel.from_pretrained("me/apples", trust_remote_code=True)' in card
    script = f"""
import torch
from transformers import AutoModel, AutoProcessor
model = AutoModel.from_pretrained("me/apples", trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained("me/apples", trust_remote_code=True)
with torch.no_grad():
    print(model.get_text_features(**processor(text={WORDS!r}, return_tensors="pt")).tolist())
"""
    online = {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}
    printed = run_without_momo(script, tmp_path, HF_HUB_DISABLE_XET="1", **online)
    found = np.array(json.loads(printed))
    np.testing.assert_allclose(found, momo.load(model, "cpu").embed(texts=WORDS), atol=1e-6)


def test_a_dry_run_lists_files_and_the_cards_head_without_network_and_token(
    model, no_token, monkeypatch, capsys
):
    def refuse(*_, **__):
        raise AssertionError("a dry run asked the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    command = ["--model", str(model), "--repo", "me/apples", "--licence", "cc-by-4.0", "--dry-run"]
    assert push.main(command) == 0
    told = capsys.readouterr().out
    for words in (
        "me/apples, public",
        "model.safetensors",
        "kB",
        "  license: cc-by-4.0",
        "nothing",
    ):
        assert words in told
    api.push("me/apples", model=model, licence="mit", dry_run=True)
    assert "  license: mit" in capsys.readouterr().out
    with pytest.raises(UserError, match="push of"):
        api.push("me/apples", model=model, dry_run=True)


def test_what_can_not_be_pushed_is_told_in_a_line(model, no_token, tmp_path, capsys):
    given = ["--model", str(model), "--repo", "me/apples"]
    licence = ["--licence", "mit"]
    for command, words in (
        ([*given, *licence], "HF_TOKEN"),
        ([*given, "--dry-run"], "--licence"),
        (["--model", str(model), "--repo", "apples", *licence, "--dry-run"], "USER/apples"),
        (["--model", str(model), "--repo", "a b/c", *licence, "--dry-run"], "--repo a b/c"),
        (["--model", str(tmp_path), "--repo", "me/a", *licence, "--dry-run"], "config.json"),
    ):
        assert push.main(command) == 2
        told = capsys.readouterr().err
        assert words in told
        assert len(told.splitlines()) <= 3


def test_a_folder_of_export_goes_as_it_is_with_the_card_one_wrote(model, tmp_path, capsys):
    folder = tmp_path / "mine"
    assert to_transformers.main(["--model", str(model), "--output", str(folder)]) == 0
    command = ["--model", str(folder), "--repo", "me/apples", "--dry-run"]
    assert push.main(command) == 2
    assert "states no licence" in capsys.readouterr().err
    card = folder / "README.md"
    card.write_text(card.read_text().replace("license: other", "license: mit") + "\nMy words.\n")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_text("x")
    assert push.main(command) == 0
    told = capsys.readouterr().out
    assert "license: mit" in told
    assert ".cache" not in told
    assert push.main([*command, "--licence", "apache-2.0"]) == 2
    assert "change it there" in capsys.readouterr().err

    config = folder / "config.json"
    whole, words = config.read_text(), card.read_text()
    (folder / "notes.txt").write_text("mine")
    (folder / "optimizer").mkdir()
    assert push.main(command) == 2
    assert "did not write: notes.txt, optimizer" in capsys.readouterr().err
    (folder / "notes.txt").unlink()
    (folder / "optimizer").rmdir()
    config.write_text("{")
    assert push.main(command) == 2
    assert f"{config} is not JSON" in capsys.readouterr().err
    config.write_text(whole)
    card.write_text(words.replace("license: mit", "license: [mit"))
    assert push.main(command) == 2
    assert f"{card}: its metadata" in capsys.readouterr().err

    engine = tmp_path / "engine"  # another format goes as it is, too
    engine.mkdir()
    (engine / "config.json").write_text('{"model": {}, "engine": {"format": "onnx"}}')
    (engine / "README.md").write_text("---\nlicense: mit\n---\n")
    (engine / "text.onnx").write_bytes(b"graph")
    assert push.main(["--model", str(engine), "--repo", "me/apples", "--dry-run"]) == 0
    assert "text.onnx" in capsys.readouterr().out


def test_a_hub_that_refuses_is_told_and_a_public_repository_is_no_private_one(
    model, hub, monkeypatch, capsys
):
    command = ["--model", str(model), "--repo", "me/apples", "--licence", "mit"]
    assert push.main(command) == 0
    assert push.main([*command, "--private"]) == 2
    assert "public already" in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert push.main(command) == 2
    assert "may write" in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", hub.token)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    assert push.main(command) == 2
    assert "did not take it" in capsys.readouterr().err
