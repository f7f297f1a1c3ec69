"""Should stage 3 go on with pictures alone?

Hypothesis: without them (the paper's choice: text and pairs) the picture group does not suffer,
since pairs hold pictures.

    python experiments/images_in_stage3.py [--budget smoke|hour|demo] [--plan]

Cost: 11 min on two cores when stages 1 and 2 and the first arm are there from other experiments:
two arms, three seeds.

Result: (2026-11-27, commit 9023007, budget hour, 2 cores Intel Xeon 2.5 GHz; all tasks and
intervals in `experiments/results/images_in_stage3-2026-11-27.md`), test, mean of three seeds:

| | image | multimodal | text | macro | paired, 95 % |
|---|---|---|---|---|---|
| text and pairs | 0.709 | 0.261 | 0.688 | 0.553 | |
| pictures too | 0.711 | 0.242 | 0.688 | 0.547 | -0.006 (-0.018 to +0.006) |

As the hypothesis says: pictures are as good without pictures alone, +0.2 points with them; at equal
compute they cost pairs some steps (176 for 180) and nothing is outside the noise of three seeds.
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
        "training.stage3-pairs.task.modalities": ("image", "text", "pair"),
        "training.stage3-pairs.train.batch_sizes.image": base.training[
            "stage2-joint"
        ].train.batch_sizes["image"]
        // 2,
    }
    return {"text and pairs": {}, "pictures too": with_images}


EXPERIMENT = Experiment("images_in_stage3", arms)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
