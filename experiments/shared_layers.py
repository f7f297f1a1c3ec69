"""Do shared layers cost quality? All shared, towers of equal total size, FLAVA's topology.

Hypothesis: one transformer for both modalities is as good as towers of the same total size, and
close to FLAVA's topology with 2.5 times the layers.

    python experiments/shared_layers.py [--budget smoke|hour|demo] [--plan]

Cost: 50 min on two cores that ran the tests too (38 min for three arms, 12 for the last); the
first arm was there from other experiments. Four arms, three seeds, nothing shared.

Result: (2026-11-27, commits 9023007 and, for the last arm, 5a43872, budget hour, 2 cores Intel
Xeon 2.5 GHz; all tasks and intervals in `experiments/results/shared_layers-2026-11-27.md`), test,
mean of three seeds, steps and compute of the first arm's:

| | steps | compute | image | multimodal | text | macro | paired, 95 % |
|---|---|---|---|---|---|---|---|
| all layers shared | 1 | 1 | 0.709 | 0.261 | 0.688 | 0.553 | |
| towers, equal size | 2.1 | 1 | 0.710 | 0.313 | 0.687 | 0.570 | +0.017 (+0.005 to +0.029) |
| towers, equal steps | 1 | 0.48 | 0.703 | 0.286 | 0.708 | 0.566 | +0.013 (-0.010 to +0.036) |
| FLAVA's topology | 0.86 | 1 | 0.705 | 0.248 | 0.695 | 0.549 | -0.004 (-0.057 to +0.049) |

Against the hypothesis, towers of equal total size are better at equal compute, beyond the noise of
three seeds: a picture or a text passes one of the four layers there, so the same compute is twice
the steps, and text-to-image retrieval takes them (+5.8 points, +1.8 to +9.8). With as many steps
and half the compute they are as good as all layers shared, within the noise. `model_size.py` says
the same of depth: within an hour it does not pay. FLAVA's topology, 2.5 times the layers, gains
nothing. None of this is about 12 layers and long training, where the paper shares all.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.budget import equal_compute, with_model
from experiments.run import Experiment, main
from momo_platform.sweeps import Settings
from pipelines.config import PipelineConfig


def arms(base: PipelineConfig) -> Mapping[str, Settings]:
    """Layers: depth; 1/4 + 1/4 + 1/2 of it; and as many in each tower and half as many on top.

    At equal compute, and the first towers with as many steps too: a picture or a text alone passes
    1/4 of the layers there, so that equal compute is twice the steps.
    """
    depth = base.model.depth
    half = max(1, depth // 4)
    towers = with_model(tower_depth=half, depth=max(1, depth - 2 * half))
    flava = with_model(tower_depth=depth, depth=max(1, depth // 2))
    return {
        "all layers shared": {},
        "towers, equal size": equal_compute(base, towers),
        "FLAVA's topology": equal_compute(base, flava),
        "towers, equal steps": towers,
    }


EXPERIMENT = Experiment("shared_layers", arms, equal=False)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
