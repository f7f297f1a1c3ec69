"""What does it cost that vectors can be cut short?

Hypothesis: with a contrastive loss over a quarter and a half of the vectors' numbers beside the
whole (Matryoshka representation learning, arXiv 2205.13147), the whole vectors lie within the
margin of those without it, at equal compute.

    python experiments/prefixes.py [--budget smoke|hour|demo] [--plan]

Design: 3 seeds; 1 learning rate an arm; 1 comparison by macro, one family: prefixes.
What lies within a margin of 0.01 is called equal.

What the short vectors gain is told by the metrics `contrastive_accuracy_N` of training and of the
held-out loss (`valid/…`), for each length.

Cost: two arms of three trainings; `--plan` tells it.

Result: none yet. It has only been tried at the budget `smoke`.
"""

from __future__ import annotations

import sys

from experiments.budget import every_stage
from experiments.design import Design
from experiments.run import Arms, Experiment, main
from pipelines.config import PipelineConfig


def arms(base: PipelineConfig) -> Arms:
    """The base, and a quarter and a half of its vectors as prefixes, wherever pairs are trained."""
    lengths = (base.model.embed_dim // 4, base.model.embed_dim // 2)
    stages = tuple(n for n, s in base.training.items() if "pair" in s.task.modalities)
    return {"base": {}, "prefixes": every_stage("task.contrastive_prefixes", lengths, stages)}


DESIGN = Design(("prefixes",), margin=0.01)
EXPERIMENT = Experiment("prefixes", arms, design=DESIGN)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
