"""Which learning rates and weights should MoMo's recipe have? Chosen on validation parts.

Hypothesis: the demo's rates are near the best; normal 0.02 weights in linear layers help the words;
more weight on words helps their group without costing the others.

    python experiments/recipe.py [--budget smoke|hour|demo] [--plan]

Optuna's TPE draws 12 trials of one seed and weighs them by the mean of the tasks' validation values
(`validation_mean`); test parts are reported, never chosen by. Confirm a choice with more seeds.

Cost: about 55 minutes on two cores: 8 trials took 35 min 54 s beside the tests.

Result: (2026-11-27, commit aea1f16, budget hour, 2 cores Intel Xeon 2.5 GHz; 4 of the 12 trials are
of commit 0e508c1; `experiments/results/recipe-2026-11-27.md`). None beats the demo's recipe (rates
0.002, 0.0005 and 0.0015, weight 1, xavier), whose seed 0 has `validation_mean` 0.682 (first arm of
`mask_ratios.py`):

| stage 1 | stage 2 | stage 3 | weight of words | linear layers | validation_mean | sentiment |
|---|---|---|---|---|---|---|
| 0.0023 | 0.0028 | 0.0045 | 1 | xavier | 0.652 | 0.545 |
| 0.0010 | 0.0017 | 0.0033 | 4 | normal | 0.625 | 0.565 |
| 0.0021 | 0.0007 | 0.0006 | 4 | normal | 0.625 | 0.642 |
| the other nine | | | | | 0.562 to 0.610 | 0.502 to 0.600 |

The recipe's own seeds span 0.637 to 0.682, so the best trial is not shown to be worse either; and
three of the four trials with a stage 2 rate of 0.0015 or less drew a low rate for stage 1 or 3, so
twelve draws say little about the best. The recipe's rate of stage 2, 0.0005, is the lowest that
could be drawn. Xavier takes the first and the fourth place of its three
draws. More weight on words: sentiment is 0.566 on average over six trials with 4, 0.524 with 1
(three) and 0.511 with 0.25 (three), but other rates were drawn with it. The recipe stays.
"""

from __future__ import annotations

import sys

from experiments.run import Experiment, main
from momo_platform.sweeps import Choice, Interval

SPACE = {
    "training.stage1-images.train.optimizer.learning_rate": Interval(5e-4, 8e-3, log=True),
    "training.stage2-joint.train.optimizer.learning_rate": Interval(5e-4, 8e-3, log=True),
    "training.stage3-pairs.train.optimizer.learning_rate": Interval(4e-4, 6e-3, log=True),
    "training.stage3-pairs.task.mlm": Choice((0.25, 1.0, 4.0)),
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
