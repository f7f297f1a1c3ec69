import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # the tests' own modules

from making_batches import CONFIG

from momo.model import MoMo, build_model

torch.set_num_threads(1)


@pytest.fixture
def model() -> MoMo:
    return build_model(CONFIG, seed=1)
