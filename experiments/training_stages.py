"""What do the three training stages give, at equal compute?

Hypothesis: pictures first, then pictures and texts, then pairs: each stage leaves the next one
less to learn, so that leaving one out, or doing all at once, is worse.

    python experiments/training_stages.py [--budget smoke|hour|demo] [--plan]

Cost: 38 minutes on two shared cores (the first arm's stages were there): four arms, three seeds.

Result: (2026-11-26, commit 8c6d529, budget hour, 2 cores Intel Xeon 2.5 GHz;
`experiments/results/training_stages-2026-11-26.md` has every task), test, mean of three seeds:

| | image | multimodal | text | macro | macro - three stages, paired (95 %) |
|---|---|---|---|---|---|
| three stages | 0.716 | 0.232 | 0.550 | 0.499 | |
| without stage 1 | 0.703 | 0.229 | 0.571 | 0.501 | +0.002 (-0.050 to +0.054) |
| without stage 2 | 0.706 | 0.233 | 0.678 | 0.539 | +0.040 (-0.011 to +0.091) |
| all at once | 0.715 | 0.241 | 0.668 | 0.541 | +0.042 (-0.015 to +0.098) |

The hypothesis fails for stage 2 at this budget: without it text is 12.8 points better (paired,
+5.8 to +19.8) and pictures are a point worse (-1.6 to -0.3); all three modalities from the start
keep both. Stage 1 is worth 1.3 points of pictures (-0.8 to +3.3). On validation parts, by which a
recipe is chosen: 0.624, 0.625, 0.650, 0.661. Stage 2 here is 150 steps of masked words that never
get below the entropy of single tokens (6.7); the contrastive loss after it ends at 3.6 instead of
3.0. `joint_stage.py` asks what of it harms. With stage 2 left out, or all at once, MoMo's text
equals FLAVA's in `flava.py` (0.678 and 0.668 beside 0.673 and 0.678).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.run import Experiment, main
from momo_platform.sweeps import Settings
from pipelines.config import PipelineConfig


def arms(base: PipelineConfig) -> Mapping[str, Settings]:
    """Steps of a stage that is left out go to the others."""
    at_once = {
        "training.stage1-images.train.steps": 0,
        "training.stage2-joint.train.steps": 0,
        "training.stage3-pairs.task.modalities": ("image", "text", "pair"),
        "training.stage3-pairs.train.batch_sizes.image": base.training[
            "stage2-joint"
        ].train.batch_sizes["image"],
    }
    return {
        "three stages": {},
        "without stage 1": {"training.stage1-images.train.steps": 0},
        "without stage 2": {"training.stage2-joint.train.steps": 0},
        "all at once": at_once,
    }


EXPERIMENT = Experiment("training_stages", arms)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
