"""What weight decay shrinks: in fine-tuning the same as in training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from momo.config import TaskConfig
from momo.evaluation.encoder import Trunk
from momo.evaluation.finetune import Examples, FineTuneConfig, FineTuned, fine_tune
from momo.evaluation.momo_encoder import MoMoTrunk
from momo.model import build_model
from momo.tasks import MoMoTask
from momo_platform.training.config import LoggingConfig, OptimizerConfig, TrainConfig
from momo_platform.training.loop import Trainer
from momo_platform.training.task import TrainingSetup
from tests.momo.making_batches import CONFIG, make_batch

RATE, HALF = 1e-7, 0.5 / 1e-7
"""An update moves a weight by 1e-7, and decay halves what it is applied to."""
TOWERS = replace(CONFIG, tower_depth=1)


class Pairs:
    seconds_waiting = 0.0

    def iterate(self, start):
        while True:
            yield {name: values.numpy() for name, values in make_batch("pair").items()}

    def close(self):
        pass


def filled(model: nn.Module) -> nn.Module:
    """Without zeros, and of a size that no update of `RATE` changes much."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.05)
    return model


def shrunk(before: dict[str, torch.Tensor], model: nn.Module) -> dict[str, bool]:
    """Of every parameter, whether decay was applied to it."""
    found = {}
    for name, parameter in model.named_parameters():
        ratio = (parameter.detach() / before[name]).mean().item()
        assert ratio == pytest.approx(0.5, abs=0.01) or ratio == pytest.approx(1.0, abs=0.01)
        found[name] = ratio < 0.75
    return found


def decayed_in_training(config, folder: Path) -> dict[str, bool]:
    model = filled(build_model(config, seed=1))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train = TrainConfig(
        steps=1,
        batch_sizes={"pair": 8},
        optimizer=OptimizerConfig(learning_rate=RATE, weight_decay=HALF, warmup_steps=0),
        logging=LoggingConfig(tensorboard=False),
    )
    task = MoMoTask(model, TaskConfig(modalities=("pair",)))
    Trainer(TrainingSetup(task, {"pair": Pairs()}, lambda *_: None), train, folder).run()
    return shrunk(before, model)


def tune(trunk: Trunk, classes: int, config: FineTuneConfig) -> nn.Module:
    """What `fine_tune` made of the trunk on pairs, with its head."""
    pairs, seen = make_batch("pair"), {}
    labels = np.arange(8, dtype=np.float32) if classes == 1 else np.arange(8) % classes
    examples = Examples(pairs["ids"].numpy(), labels, pairs["pixels"].numpy())
    hook = register_module_forward_hook(lambda module, *_: seen.update({type(module): module}))
    fine_tune(trunk, examples, examples, examples, classes, config)
    hook.remove()
    return seen[FineTuned]


def fine_tuned(trunk: Trunk) -> dict[str, bool]:
    """Whether each of the trunk's parameters shrank in a step of fine-tuning."""
    before = {name: p.detach().clone() for name, p in trunk.named_parameters()}
    config = FineTuneConfig(epochs=1, batch_size=8, learning_rate=RATE, weight_decay=HALF)
    return shrunk(before, tune(trunk, 2, config).trunk)


@pytest.mark.parametrize("config", [CONFIG, TOWERS])
def test_fine_tuning_decays_what_training_decays(tmp_path, config):
    trained = decayed_in_training(config, tmp_path)
    tuned = fine_tuned(MoMoTrunk(filled(build_model(config, seed=1))))
    heads = ("pixel_decoder", "word_head", "contrastive", "matching")  # not fine-tuned
    for name, decays in trained.items():
        if not name.startswith(heads):
            assert tuned[f"encoder.{name}"] == decays, name
    kept = {name for name, decays in trained.items() if not decays}
    assert {n.rpartition(".")[2] for n in kept} >= {"bias", "cls", "positions", "modality"}
    assert {n for n in trained if "norm" in n} <= kept
    assert any(tuned.values())


def test_a_layer_of_one_output_is_a_matrix(tmp_path):
    """Not a table of one row, though its weights are [1, width]."""
    assert decayed_in_training(CONFIG, tmp_path)["matching.output.weight"]
    trunk = MoMoTrunk(filled(build_model(CONFIG, seed=1)))
    heads = []
    for decay in (0.0, HALF):
        config = FineTuneConfig(*(1, 8, RATE, decay), objective="regression", metric="pearson")
        heads.append(tune(trunk, 1, config).head)
    whole, half = heads
    torch.testing.assert_close(half.weight, whole.weight / 2, rtol=0.01, atol=1e-4)
    torch.testing.assert_close(half.bias, whole.bias, rtol=0.01, atol=1e-4)


class Tables(Trunk):
    """Positions and segments in tables, as BERT's and CLIP's classes have them."""

    width = 8

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(CONFIG.vocab_size, 8)
        self.position_embeddings = nn.Embedding(32, 8)
        self.token_type_embeddings = nn.Embedding(2, 8)
        self.LayerNorm = nn.LayerNorm([1, 8])
        self.dense = nn.Linear(8, 8)

    def forward(self, ids, pixels):
        places = torch.arange(ids.shape[1])
        types = self.token_type_embeddings(torch.zeros_like(places))
        tokens = self.word_embeddings(ids) + self.position_embeddings(places) + types
        return self.dense(self.LayerNorm(tokens[:, :, None]).mean(dim=(1, 2)))


def test_other_models_positions_in_tables_are_positions():
    found = fine_tuned(filled(Tables()))
    assert [name for name, decays in found.items() if decays] == [
        "word_embeddings.weight",
        "dense.weight",
    ]
