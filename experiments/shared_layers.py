"""Do shared layers cost quality? All shared, towers of equal total size, FLAVA's topology.

Hypothesis: one transformer for both modalities is as good as towers of the same total size, and
close to FLAVA's topology with 2.5 times the layers.

    python experiments/shared_layers.py [--budget smoke|hour|demo] [--plan]

Cost: up to an hour on two cores: three arms, three seeds, nothing shared.

Result: not run yet.
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
