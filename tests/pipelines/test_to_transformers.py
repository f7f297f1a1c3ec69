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
