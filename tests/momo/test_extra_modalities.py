"""A model that embeds more than pictures and texts; how models without stay as they were."""

import json
from dataclasses import replace

import pytest
import torch
from making_batches import CONFIG
from torch import nn

from momo.config import ModelConfig, TaskConfig
from momo.cost import encoder_parameters, parameter_counts
from momo.export import load_model, save
from momo.hf import MoMoConfig
from momo.initialise import check_initial, fitted, load_initial
from momo.modalities import MODALITIES
from momo.modalities.base import ExtraModality
from momo.model import build_model
from momo.model import encoder_parameters as counted
from momo.objectives import OBJECTIVES
from momo.objectives.base import Objective
from momo.passes import Shape
from momo.tasks import MoMoTask
from momo.views import Views


class Points(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.projection = nn.Linear(3, width)
        self.place = nn.Parameter(torch.zeros(1, 1, width))

    def reset(self):
        nn.init.normal_(self.place, std=0.02)

    def forward(self, points):
        return self.projection(points) + self.place


class Cloud(ExtraModality):
    name = "cloud"
    rows_by = "points"

    def views(self):
        return Views

    def embedding(self, model):
        return Points(model.width)

    def embedding_parameters(self, model):
        return 5 * model.width

    def shape(self, model, rows, length):
        return Shape(rows, 7, 0)

    def shapes(self, batch):
        return [Shape(*batch["points"].shape[:2], 0)]


class Far(Objective):
    name = "far"
    modality = "cloud"


@pytest.fixture
def model_config(monkeypatch):
    monkeypatch.setitem(MODALITIES, "cloud", Cloud())
    monkeypatch.setitem(OBJECTIVES, "far", Far())
    return replace(CONFIG, extra_modalities=("cloud",))


def test_all_else_is_drawn_as_without(model_config):
    model, plain = build_model(model_config, 3), build_model(CONFIG, 3)
    state = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())
    extra = [name for name in state if name not in plain.state_dict()]
    assert extra == list(state)[-len(extra) :]
    assert {name.rpartition(".")[0] for name in extra} == {
        "extra_embeddings.cloud",
        "extra_embeddings.cloud.projection",
    }
    again = build_model(model_config, 3).state_dict()
    assert all(torch.equal(state[name], again[name]) for name in extra)
    assert all(state[name].any() for name in extra if not name.endswith("bias"))


def test_counts_are_those_of_the_model(model_config):
    model, parts = build_model(model_config), parameter_counts(model_config)
    assert parts["extra_embeddings.cloud"] == 5 * model_config.width
    assert sum(parts.values()) == sum(p.numel() for p in model.parameters())
    assert encoder_parameters(model_config) == counted(model)
    assert encoder_parameters(CONFIG) == counted(build_model(CONFIG))


def test_a_saved_config_names_them_only_where_there_are_some(model_config, tmp_path):
    assert "extra_modalities" not in CONFIG.to_dict()
    kept = json.loads(json.dumps(model_config.to_dict()))
    assert ModelConfig.from_dict(kept) == model_config
    assert ModelConfig.from_dict(CONFIG.to_dict()) == CONFIG
    model = build_model(model_config)
    save(model, tmp_path)
    loaded = load_model(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())


def test_any_tokens_go_through_the_shared_blocks(model_config):
    model = build_model(model_config).eval()
    tokens = model.extra_embeddings["cloud"](torch.rand(2, 7, 3))
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[0, 5:] = False
    with torch.no_grad():
        found = model.encode_tokens(tokens, mask)
        assert torch.allclose(found[0, :5], model.encode_tokens(tokens[:1, :5])[0], atol=1e-6)
        ids = torch.randint(5, 97, (2, 7))
        assert torch.equal(
            model.encode_tokens(model.text_embedding(ids)),
            model.encode_text(ids, torch.ones_like(ids, dtype=torch.bool)),
        )


def test_a_model_that_lacks_one_is_refused(model_config):
    task = TaskConfig(modalities=("cloud",), extra_objectives={"far": 1.0})
    with pytest.raises(ValueError, match=r"has cloud, .*--model\.extra-modalities cloud"):
        MoMoTask(build_model(CONFIG), task)
    trained = MoMoTask(build_model(model_config), task)
    names = {n.partition(".")[0] for n, p in trained.model.named_parameters() if p.requires_grad}
    assert names == {"extra_embeddings", "blocks", "norm"}
    with pytest.raises(ValueError, match=r"unknown \['smell', 'text'\]; known: \['cloud'\]"):
        replace(CONFIG, extra_modalities=("smell", "text"))
    with pytest.raises(ValueError, match="tower_depth to 0"):
        replace(model_config, tower_depth=1)
    with pytest.raises(ValueError, match="cloud, for which there is no form in transformers"):
        MoMoConfig.from_model_config(model_config)


def test_it_starts_from_a_model_without_and_keeps_what_was_drawn(model_config, tmp_path):
    save(build_model(CONFIG, 1), tmp_path / "plain")
    save(build_model(model_config, 2), tmp_path / "extra")
    model, drawn = build_model(model_config, 5), build_model(model_config, 5).state_dict()
    load_initial(model, tmp_path / "plain")
    first = build_model(CONFIG, 1).state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, first.get(name, drawn[name])), name
    load_initial(model, tmp_path / "extra")
    second = build_model(model_config, 2).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in model.state_dict().items())
    assert fitted(tmp_path / "extra", CONFIG) == model_config
    with pytest.raises(ValueError, match=r"set --model\.extra-modalities cloud"):
        check_initial(tmp_path / "extra", CONFIG)
