"""The loop: exact resume, logs that go on, divergence."""

import dataclasses
import json

import pytest
import torch

from momo_platform.training.checkpoint import newest_checkpoint
from momo_platform.training.config import ONE_AT_A_TIME, LoggingConfig, OptimizerConfig, TrainConfig
from momo_platform.training.loop import Trainer, TrainingDiverged
from momo_platform.training.records import read_records
from momo_platform.training.task import TrainingSetup
from tests.platform.training.toy import ToyLoader, ToyTask

CONFIG = TrainConfig(
    steps=12,
    batch_sizes={"a": 12, "b": 12},
    optimizer=OptimizerConfig(learning_rate=0.01, warmup_steps=3),
    logging=LoggingConfig(every_steps=2, checkpoint_every_steps=4, tensorboard=False),
)


def _trainer(folder, config=CONFIG, loaders=None):
    task = ToyTask()
    loaders = loaders or {n: ToyLoader(n, 12) for n in "ab"}
    return Trainer(TrainingSetup(task, loaders, lambda *_: None), config, folder)


class Interrupted(Exception):
    pass


class FailingLoader(ToyLoader):
    def iterate(self, start):
        for step, batch in enumerate(super().iterate(start), start):
            if step == 7:
                raise Interrupted
            yield batch


@pytest.mark.parametrize("schedule", ["accumulate", "alternate", "joint", "sequential"])
def test_interrupted_equals_uninterrupted_bit_for_bit(tmp_path, schedule):
    config = dataclasses.replace(CONFIG, gradient_schedule=schedule)
    whole = _trainer(tmp_path / "whole", config)
    whole.run()
    loaders = {"a": FailingLoader("a", 12), "b": ToyLoader("b", 12)}
    if schedule in ONE_AT_A_TIME:
        first = _trainer(tmp_path / "cut", config)
        first._update = _stop_at(first, 7)  # type: ignore[method-assign]
    else:
        first = _trainer(tmp_path / "cut", config, loaders)
    with pytest.raises(Interrupted):
        first.run()
    second = _trainer(tmp_path / "cut", config)
    assert second.start_step == 4
    second.run()
    for a, b in zip(whole.task.parameters(), second.task.parameters(), strict=True):
        assert torch.equal(a, b)
    records = [r["step"] for r in read_records(tmp_path / "cut" / "metrics.jsonl")]
    assert records == [2, 4, 6, 8, 10, 12]


def _stop_at(trainer, step):
    update = trainer._update

    def stopping(current, batches, *, diagnose):
        if current == step:
            raise Interrupted
        return update(current, batches, diagnose=diagnose)

    return stopping


@pytest.mark.parametrize("schedule, samples", [("alternate", 24), ("accumulate", 48)])
def test_rates_count_only_what_a_step_used(tmp_path, schedule, samples):
    trainer = _trainer(tmp_path, dataclasses.replace(CONFIG, gradient_schedule=schedule))
    reports = []
    trainer.progress = reports.append
    trainer.run()
    first = next(r for r in reports if r.get("eta_seconds"))  # two of twelve steps are done
    seconds = first["eta_seconds"] * 2 / (first["total"] - first["step"])
    assert first["samples_per_second"] * seconds == pytest.approx(samples)


def test_a_checkpoint_without_its_manifest_is_not_used(tmp_path):
    _trainer(tmp_path).run()
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest[0] == 12
    (newest[1] / "manifest.json").unlink()
    assert newest_checkpoint(tmp_path)[0] == 8  # type: ignore[index]
    older = newest_checkpoint(tmp_path)[1]  # type: ignore[index]
    with (older / "model.safetensors").open("ab") as file:
        file.truncate(10)
    assert newest_checkpoint(tmp_path) is None


def test_divergence_stops_with_the_samples(tmp_path):
    class NanLoader(ToyLoader):
        def batch(self, step):
            batch = super().batch(step)
            batch["x"][:] = float("nan")
            return batch

    config = dataclasses.replace(CONFIG, max_skipped_steps=2)
    loaders = {"a": NanLoader("a", 12), "b": ToyLoader("b", 12)}
    with pytest.raises(TrainingDiverged, match=r"samples by modality .*learning_rate"):
        _trainer(tmp_path, config, loaders).run()


def test_records_stay_json_after_a_cut_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1}) + '\n{"step": 2, "lo')
    assert read_records(path) == [{"step": 1}]


def test_a_run_that_goes_on_with_no_step_left_tells_its_last_values(tmp_path):
    told = _trainer(tmp_path).run()
    again = _trainer(tmp_path).run()
    assert told
    assert again == pytest.approx(told)
