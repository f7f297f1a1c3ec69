"""An exported model becomes a folder for `transformers`, with its card."""

import json

from transformers import AutoModel

from momo.config import ModelConfig
from momo.export import save
from momo.hf import MoMoModel
from momo.model import build_model
from momo.tokenizer import train_wordpiece
from pipelines import to_transformers

CONFIG = ModelConfig(width=32, depth=1, heads=2, vocab_size=90, decoder_width=16)


def test_the_folder_loads_and_its_card_tells_the_report(tmp_path, capsys):
    model, output = tmp_path / "run" / "model", tmp_path / "out"
    tokenizer = train_wordpiece(["a red apple"] * 5, CONFIG.vocab_size)
    save(build_model(CONFIG), model, tokenizer.to_str(), {"text_length": 12})
    report = {
        "tasks": {"mnist": {"metric": "accuracy", "value": 0.9, "n": 200, "baseline": 0.8}},
        "corpora": {"image": {"sources": {"emoji": {"kept": 7}}}},
        "training": {"stage1-image": {"steps": 350}},
    }
    command = ["--model", str(model), "--output", str(output), "--licence", "apache-2.0"]
    assert to_transformers.main(command) == 0
    assert "Nothing was measured" in (output / "README.md").read_text()
    (model.parent / "report").mkdir()
    (model.parent / "report" / "metrics.json").write_text(json.dumps(report))
    (output / "README.md").unlink()
    assert to_transformers.main(command) == 0
    card = (output / "README.md").read_text()
    for words in (
        "license: apache-2.0",
        "| mnist | accuracy | 0.900 | 200 | 0.800 |",
        "| image: emoji | CC-BY 4.0",
        "| steps of stage1-image | 350 |",
        "| model.width | 32 |",
        "| text_length | 12 |",
    ):
        assert words in card
    assert str(tmp_path) not in card
    assert isinstance(AutoModel.from_pretrained(output), MoMoModel)
    capsys.readouterr()
    assert to_transformers.main(["--model", str(tmp_path / "none"), "--output", "x"]) == 2
    assert "none" in capsys.readouterr().err


def exported(folder, **facts):
    tokenizer = train_wordpiece(["a red apple"] * 5, CONFIG.vocab_size)
    save(build_model(CONFIG), folder, tokenizer.to_str(), {"text_length": 12, **facts})
    return folder


def test_an_edited_card_is_kept(tmp_path, capsys):
    output = tmp_path / "out"
    command = ["--model", str(exported(tmp_path / "model")), "--output", str(output)]
    assert to_transformers.main(command) == 0
    (output / "README.md").write_text("My words.")
    capsys.readouterr()
    assert to_transformers.main(command) == 0
    assert (output / "README.md").read_text() == "My words."
    assert "README.md was there and is kept" in capsys.readouterr().out


def test_nothing_else_is_written_over(tmp_path, capsys):
    model = exported(tmp_path / "runs" / "export" / ("a" * 12) / "attempt-0123abcd" / "model")
    (tmp_path / "latest").symlink_to(model.parent)
    alone = exported(tmp_path / "alone")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("x")
    engine = tmp_path / "engine"
    engine.mkdir()
    (engine / "config.json").write_text('{"model": {}, "engine": {"format": "torch"}}')
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for place, words in (
        (alone, "is the model itself"),
        (tmp_path / "latest" / "model", "an artifact of a storage"),
        (tmp_path / "latest" / "new", "an artifact of a storage"),
        (tmp_path / "notes", "other files (mine.txt"),
        (engine, "other files (config.json"),
    ):
        assert to_transformers.main(["--model", str(alone), "--output", str(place)]) == 2
        assert words in capsys.readouterr().err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_an_interrupted_export_is_finished_by_the_same_command(tmp_path):
    output = tmp_path / "out"
    command = ["--model", str(exported(tmp_path / "model")), "--output", str(output)]
    output.mkdir()
    (output / "modeling_momo.py").write_text("")
    (output / "momo_model.py").write_text("")
    assert to_transformers.main(command) == 0
    for name in ("model.safetensors", "tokenizer.json", "README.md"):
        (output / name).unlink(missing_ok=True)
    for file in output.glob("*.json"):
        file.unlink()
    (output / "config.json").write_text('{"model_type": "mo')
    assert to_transformers.main(command) == 0


def test_the_licence_of_a_card_is_taken_over_and_origins_are_told(tmp_path):
    origin = [{"name": "hf://org/vit", "kind": "ViT", "licence": "cc-by-nc-4.0", "filled": []}]
    model, first, second = tmp_path / "model", tmp_path / "first", tmp_path / "second"
    exported(model, origin=origin)
    command = ["--model", str(model), "--output", str(first), "--licence", "mit"]
    assert to_transformers.main(command) == 0
    assert to_transformers.main(["--model", str(first), "--output", str(second)]) == 0
    for folder in (first, second):
        card = (folder / "README.md").read_text()
        assert "license: mit" in card
        assert "sentence-transformers]" in card
        assert "The licences of the weights that it started from bind it too." in card
