"""Does stage 3 need pictures without captions beside text and pairs?

Hypothesis: it does not (the paper leaves them out too): pairs hold pictures, so tasks on pictures
do not suffer.

    python experiments/images_in_stage3.py [--budget smoke|hour|demo] [--plan]

Cost: eleven minutes on two cores when stages 1 and 2 and the first arm are there from other
experiments: two arms, three seeds.

Result: figures in docs/findings.md. With pictures alone in stage 3 too, tasks on pictures have 0.2
points more (-1.3 to +1.7) and those on pairs 2.0 less (-5.0 to +1.1): no difference is shown. At
equal compute the extra pictures cost pairs a few steps, 176 instead of 180.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.design import Design
from experiments.run import Experiment, main
from momo_platform.sweeps import Settings
from pipelines.config import PipelineConfig


def arms(base: PipelineConfig) -> Mapping[str, Settings]:
    """At equal compute: with pictures there are fewer steps."""
    with_images = {
        "training.stage3-pairs.task.modalities": ("image", "text", "pair"),
        "training.stage3-pairs.train.batch_sizes.image": base.training[
            "stage2-joint"
        ].train.batch_sizes["image"]
        // 2,
    }
    return {"text and pairs": {}, "pictures too": with_images}


DESIGN = Design(("pictures too",), margin=0.01)
EXPERIMENT = Experiment("images_in_stage3", DESIGN, arms)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
