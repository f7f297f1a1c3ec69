"""Does sharing all layers cost quality?

Hypothesis: one transformer for both modalities equals towers of the same total size, and
FLAVA's topology with 2.5 times the layers.

    python experiments/shared_layers.py [--budget smoke|hour|demo] [--plan]

Design: 3 seeds; 1 learning rate an arm; 3 comparisons by macro, one family: towers, equal size;
FLAVA's topology; towers, equal steps. What lies within a margin of 0.01 is called equal. The
margin was chosen on 2026-11-30, after the published run, which can't use it.

Cost: about 50 minutes on two busy cores when the first arm is there from other experiments: four
arms, three seeds, nothing shared.

Result: figures in docs/findings.md. No difference was found, in either direction. Towers of equal
total size have 1.7 points more at equal compute (+0.5 to +2.9), but corrected for three
comparisons that is no finding (p 0.073; Bonferroni's interval is -0.4 to +3.8). In them a picture
or a text passes one of the four layers, so the same compute buys 2.1 times the steps. With as many
steps, and 0.48 of the compute, they have +1.3 (-1.0 to +3.6); that arm was added after a look at
the others. FLAVA's topology, with 2.5 times the layers and 0.86 of the steps, has -0.4 (-5.7 to
+4.9). None of this is about 12 layers and long training, where the paper shares all.
"""

from __future__ import annotations

import sys

from experiments.budget import equal_compute, with_model
from experiments.design import Design
from experiments.run import Arms, Experiment, main
from pipelines.config import PipelineConfig


def arms(base: PipelineConfig) -> Arms:
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
EXPERIMENT = Experiment("shared_layers", arms, design=DESIGN, equal=False)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
