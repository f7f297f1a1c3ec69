"""Does sharing all layers cost quality?

Hypothesis: one transformer for both modalities is as good as towers of the same total size, and
close to FLAVA's topology with 2.5 times the layers.

    python experiments/shared_layers.py [--budget smoke|hour|demo] [--plan]

Cost: about 50 minutes on two busy cores when the first arm is there from other experiments: four
arms, three seeds, nothing shared.

Result: figures in docs/findings.md. Against the hypothesis, towers of equal total size are 1.7
points better at equal compute. In them a picture or a text passes one of the four layers, so the
same compute buys 2.1 times the steps, and retrieval from texts to pictures gains most (+5.8 points,
+1.8 to +9.8). With as many steps, and 0.48 of the compute, no difference is shown (+1.3, -1.0 to
+3.6). `model_size.py` says the same of depth: within an hour it does not pay. FLAVA's topology,
with 2.5 times the layers and 0.86 of the steps, shows no gain (-0.4, -5.7 to +4.9). None of this is
about 12 layers and long training, where the paper shares all.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.budget import equal_compute, with_model
from experiments.design import Design
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


DESIGN = Design(("towers, equal size", "FLAVA's topology", "towers, equal steps"), margin=0.01)
EXPERIMENT = Experiment("shared_layers", DESIGN, arms, equal=False)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
