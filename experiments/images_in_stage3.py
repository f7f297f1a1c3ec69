"""Should stage 3 go on with pictures alone?

Hypothesis: without them (the paper's choice: text and pairs) the picture group does not suffer,
since pairs hold pictures.

    python experiments/images_in_stage3.py [--budget smoke|hour|demo] [--plan]

Cost: up to half an hour on two cores: two arms, three seeds; stages 1 and 2 run once a seed.

Result: not run yet.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.run import Experiment, main
from momo_platform.sweeps import Settings
from pipelines.config import PipelineConfig


def arms(base: PipelineConfig) -> Mapping[str, Settings]:
    """At equal compute: with pictures there are fewer steps."""
    with_images = {
        "stage3.task.modalities": ("image", "text", "pair"),
        "stage3.train.batch_sizes.image": base.stage2.train.batch_sizes["image"] // 2,
    }
    return {"text and pairs": {}, "pictures too": with_images}


EXPERIMENT = Experiment("images_in_stage3", arms)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
