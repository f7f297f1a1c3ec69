"""Which learning rates and weights should MoMo's recipe have? Chosen on validation parts.

Hypothesis: the demo's rates are near the best; normal 0.02 weights in linear layers help the words;
more weight on words helps their group without costing the others.

    python experiments/recipe.py [--budget smoke|hour|demo] [--plan]

Optuna's TPE draws 12 trials of one seed and weighs them by the mean of the tasks' validation values
(`validation_mean`); test parts are reported, never chosen by. Confirm a choice with more seeds.

Cost: about an hour on two cores.

Result: not run to its end yet (stopped after 4 of 12 trials, 2026-11-27).
"""

from __future__ import annotations

import sys

from experiments.run import Experiment, main
from momo_platform.sweeps import Choice, Interval

SPACE = {
    "stage1.train.optimizer.learning_rate": Interval(5e-4, 8e-3, log=True),
    "stage2.train.optimizer.learning_rate": Interval(5e-4, 8e-3, log=True),
    "stage3.train.optimizer.learning_rate": Interval(4e-4, 6e-3, log=True),
    "stage3.task.mlm": Choice((0.25, 1.0, 4.0)),
    "model.linear_init": Choice(("xavier", "normal")),
}
EXPERIMENT = Experiment(
    "recipe",
    space=SPACE,
    samples=12,
    metric="validation_mean",
    show=("validation/*", "macro", "groups/*"),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT, __doc__))
