"""Parts of a batch on ranks with unequal rows."""

from pathlib import Path

import pytest
from making_batches import CONFIG

from momo.config import TaskConfig
from momo.model import build_model
from momo.tasks import MoMoTask
from momo_platform.stages.errors import UserError
from momo_platform.training.config import ScalingConfig, TrainConfig
from momo_platform.training.loop import Trainer
from momo_platform.training.task import TrainingSetup
from tests.ranks import run_ranks


class _Loader:
    unit = 4


def _rank(rank, world_size, folder):
    """20 pairs in groups of 4 are 8 and 12 on two ranks: one part of 8 and two."""
    task = MoMoTask(build_model(CONFIG), TaskConfig(modalities=("pair",), matching_group=4))
    setup = TrainingSetup(task, {"pair": _Loader()}, lambda *_: None)

    def trainer(size):
        scaling = ScalingConfig(micro_batch_size=size)
        train = TrainConfig(steps=1, batch_sizes={"pair": 20}, scaling=scaling)
        return Trainer(setup, train, Path(folder) / str(rank), rank=rank)

    with pytest.raises(UserError, match=r"micro_batch_size=8 .* \[8, 12\], into unlike numbers"):
        trainer(8)
    trainer(12)


def test_ranks_that_would_make_unlike_numbers_of_parts_are_refused(tmp_path):
    run_ranks(_rank, 2, str(tmp_path))
