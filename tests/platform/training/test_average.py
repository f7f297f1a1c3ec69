"""The moving average of the weights."""

import pytest
import torch

from momo_platform.training.config import TrainConfig
from tests.platform.training.toy import ToyTask
from tests.platform.training.toy_runs import assert_same_bits, config, make_trainer, weights


def test_the_average_is_the_formula(tmp_path):
    trainer = make_trainer(0, 1, tmp_path, config(10, ema_decay=0.5))
    expected = {n: p.double() for n, p in weights(trainer).items()}
    update, count = trainer.optimizer.step, iter(range(100))

    def follow():
        update()
        n = next(count)
        decay = min(0.5, (1 + n) / (10 + n))
        for name, value in weights(trainer).items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double()

    trainer.optimizer.step = follow
    trainer.run()
    raw = weights(trainer)
    finished = {n: p.detach() for n, p in trainer.finish().named_parameters()}
    assert finished.keys() == dict(ToyTask().named_parameters()).keys()
    for name, value in finished.items():
        torch.testing.assert_close(value.double(), expected[f"task.{name}"], rtol=1e-5, atol=1e-6)
        assert not torch.equal(value, raw[f"task.{name}"])


def test_without_a_decay_the_weights_themselves_are_finished(tmp_path):
    trainer = make_trainer(0, 1, tmp_path, config(10))
    trainer.run()
    raw = weights(trainer)
    trainer.finish()
    assert_same_bits(weights(trainer), raw)


def test_averages_resume_bit_for_bit_and_do_not_change_the_weights(tmp_path):
    train = config(12, 5, ema_decay=0.9)
    whole = make_trainer(0, 1, tmp_path / "whole", train)
    whole.run()
    plain = make_trainer(0, 1, tmp_path / "plain", config(12))
    plain.run()
    assert_same_bits(weights(whole), weights(plain))
    (tmp_path / "cut").mkdir()
    source = tmp_path / "whole" / "step-00000010"
    (tmp_path / "cut" / source.name).symlink_to(source)
    cut = make_trainer(0, 1, tmp_path / "cut", train)
    assert cut.start_step == 10
    cut.run()
    cut.finish(), whole.finish()
    assert_same_bits(weights(cut), weights(whole))


@pytest.mark.parametrize(
    "changes", [{"ema_decay": 1.0}, {"ema_decay": -0.1}, {"precision": "fp16"}]
)
def test_bad_settings_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        TrainConfig(steps=1, batch_sizes={"a": 1}, **changes)
