"""How should the losses be weighed?

Hypothesis: equal weights are near the best; more weight on words helps the text group and costs
the others.

    python experiments/modality_weights.py [--budget smoke|hour|demo] [--plan]

Cost: 44 min on two cores that ran tests and benchmarks too: five arms, three seeds; stage 1 runs
once a seed, the first arm was there from other experiments.

Result: (2026-11-27, commit 8f1afe4, budget hour, 2 cores Intel Xeon 2.5 GHz; all tasks and
intervals in `experiments/results/modality_weights-2026-11-27.md`), test, mean of three seeds:

| | image | multimodal | text | macro | paired, 95 % |
|---|---|---|---|---|---|
| equal | 0.709 | 0.261 | 0.688 | 0.553 | |
| masked pairs x 1/4 | 0.710 | 0.238 | 0.663 | 0.537 | -0.016 (-0.046 to +0.014) |
| words x 1/4 | 0.712 | 0.239 | 0.639 | 0.530 | -0.023 (-0.050 to +0.004) |
| contrastive x 4 | 0.710 | 0.222 | 0.642 | 0.525 | -0.028 (-0.077 to +0.021) |
| words x 4 | 0.708 | 0.255 | 0.600 | 0.521 | -0.032 (-0.066 to +0.002) |

Equal weights came out first, but no interval leaves 0: three seeds show no loss from the others.
The second half of the hypothesis did not hold: four times the weight on words has the lowest text,
9 points below equal weights (one task, sentiment, whose seeds spread by 5 points). Four times the
contrastive loss raises retrieval by less than a point.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.budget import every_stage
from experiments.run import Experiment, main
from momo_platform.sweeps import Settings
from pipelines.config import PipelineConfig


def arms(base: PipelineConfig) -> Mapping[str, Settings]:
    """One weight changed each."""
    both = ("stage2-joint", "stage3-pairs")
    masked = {
        "training.stage3-pairs.task.pair_mlm": 0.25,
        "training.stage3-pairs.task.pair_mim": 0.25,
    }
    return {
        "equal": {},
        "words x 4": every_stage("task.mlm", 4.0, both),
        "words x 1/4": every_stage("task.mlm", 0.25, both),
        "contrastive x 4": {"training.stage3-pairs.task.contrastive": 4.0},
        "masked pairs x 1/4": masked,
    }


EXPERIMENT = Experiment("modality_weights", arms)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
