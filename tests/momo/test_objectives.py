"""What objectives say of themselves, and what is asked of them."""

import importlib
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from making_batches import CONFIG, make_batch

from momo.config import TaskConfig
from momo.cost import parameter_counts, trained_parts
from momo.masking import draw
from momo.modalities import MODALITIES
from momo.model import build_model
from momo.objectives import OBJECTIVES, Objective, _objective
from momo.tasks import MoMoTask


def test_a_name_is_that_of_the_file_and_parts_are_the_models():
    parts = parameter_counts(CONFIG)
    for name, one in OBJECTIVES.items():
        module = importlib.import_module(f"momo.objectives.{name}")
        assert module.OBJECTIVE is one
        assert one.name == name
        assert one.modality in MODALITIES
        assert {*one.parts, *(p for view in one.reads for p in view.parts)} <= set(parts)


def test_no_torch_is_imported():
    code = "import momo.objectives, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("config", "passes"),
    [
        (TaskConfig(), 2),
        (TaskConfig(shared_passes=False), 4),
        (TaskConfig(contrastive=0), 1),
        (TaskConfig(matching=0, pair_mlm=0, pair_mim=0), 1),
        (TaskConfig(shared_passes=False, contrastive=0, pair_mim=0), 2),
    ],
)
def test_a_pass_that_objectives_share_is_made_once(config, passes):
    task, made = MoMoTask(build_model(CONFIG), config), []
    task.model.norm.register_forward_hook(lambda *_: made.append(1))
    task("pair", make_batch("pair"))
    assert len(made) == passes


def test_a_part_that_no_objective_names_is_frozen():
    config = TaskConfig(modalities=("text", "pair"), matching=0, pair_mim=0)
    assert trained_parts(CONFIG, config) == set(parameter_counts(CONFIG)) - {
        *("pixel_decoder", "matching")
    }
    towers = replace(CONFIG, tower_depth=1)
    assert "blocks" not in trained_parts(towers, TaskConfig(modalities=("text",)))


@dataclass(frozen=True)
class Small(Objective):
    name: ClassVar[str] = "small"
    modality: ClassVar = "text"
    title: ClassVar[str] = "small weights"
    scale: float = 1.0

    def loss(self, views):
        from momo.losses import Loss

        total = self.scale * views.model.text_embedding.words.weight.square().mean()
        return Loss(total, torch.ones(()))


@pytest.fixture
def small(monkeypatch):
    more = {**OBJECTIVES, "small": Small()}
    monkeypatch.setattr("momo.config.OBJECTIVES", more)


def test_an_objective_without_a_field_has_its_weight_and_options_from_the_config(small):
    batch = make_batch("text")
    assert set(MoMoTask(build_model(CONFIG), TaskConfig())("text", batch)) == {"mlm"}
    config = TaskConfig(extra_objectives={"small": 0.5, "small.scale": 3.0})
    task = MoMoTask(build_model(CONFIG), config)
    assert task.weights["small"] == 0.5
    found = task("text", batch)
    plain = MoMoTask(task.model, TaskConfig(extra_objectives={"small": 2}))("text", batch)
    assert found["small"].sum == 3.0 * plain["small"].sum
    alone = TaskConfig(modalities=("text",), mlm=0, extra_objectives={"small": 1})
    assert set(MoMoTask(build_model(CONFIG), alone)("text", batch)) == {"small"}


def test_what_no_objective_has_is_refused(small):
    for name in ("mim", "smal", "small.scales", "mlm.scale"):
        with pytest.raises(ValueError, match=r"unknown \['.*known: \[.*'small', 'small.scale'\]"):
            TaskConfig(extra_objectives={name: 1.0})
    with pytest.raises(ValueError, match="task.small=-1 must not be negative"):
        TaskConfig(extra_objectives={"small": -1})


def test_mistakes_are_named(small, monkeypatch):
    with pytest.raises(ValueError, match="'small', which is of 'text', and task.modalities has"):
        TaskConfig(modalities=("image",), extra_objectives={"small": 1.0})
    config = TaskConfig(modalities=("text",), extra_objectives={"small": 1.0})
    monkeypatch.setattr(Small, "head_parameters", lambda *_: 7)
    with pytest.raises(ValueError, match="its head has 0 parameters, head_parameters says 7"):
        MoMoTask(build_model(CONFIG), config)
    monkeypatch.setattr(Small, "parts", ("word_haed",))
    with pytest.raises(ValueError, match=r"objective small: parts has \['word_haed'\].*word_head"):
        trained_parts(CONFIG, config)
    monkeypatch.setattr("momo.objectives.mim.OBJECTIVE", Small())
    with pytest.raises(ValueError, match="objectives/mim.py: its objective is called 'small'"):
        _objective("mim")


def test_an_objectives_random_numbers_are_uniform_and_its_own():
    noise = torch.rand(4096, 16, generator=torch.Generator().manual_seed(0))
    found = draw(noise, 1, 3)
    assert torch.equal(found, draw(noise.clone(), 1, 3))
    assert torch.equal(found[5:9], draw(noise[5:9], 1, 3))  # a function of the row alone
    for numbers in found.T:
        assert torch.histc(numbers, 8, 0, 1).min() > 4096 / 8 * 0.8
    columns = [*found.T, *draw(noise, 2, 2).T, *noise.T, (noise.argsort(dim=1)[:, 0] / 16)]
    related = torch.corrcoef(torch.stack(columns))
    assert (related - torch.eye(len(columns)))[:5].abs().max() < 0.07
    ids = torch.randint(5, 99, (8, 12))
    padded = torch.cat([ids, torch.zeros(8, 4, dtype=torch.long)], dim=1)
    assert torch.equal(draw(ids, 1, 2), draw(padded, 1, 2))
    for modality in ("image", "text", "pair"):
        task = MoMoTask(build_model(CONFIG), TaskConfig())
        batch = task.on_host(modality, make_batch(modality))
        numbers = task._views(modality, batch).draw("mine", 2)
        assert numbers.shape == (8, 2)
        assert len(numbers.unique()) == 16
