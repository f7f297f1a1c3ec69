"""When a run is measured on held-out rows, and on how many of them. No torch.

The share of the training that measuring costs is bounded by counts alone, never by clocks, so that
every machine and every number of workers measures the same. A row that is only measured takes the
forward pass, a third of what training on it takes; it is counted as half, since the batches are
smaller and rows are decoded for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from momo_platform.training.config import ONE_AT_A_TIME, TrainConfig

MOST_COST = Fraction(3, 100)
"""Of what the training costs."""
ROW_COST = Fraction(1, 2)
"""What measuring a row costs, beside training on it."""
MANY_EVALUATIONS, MOST_EVALUATIONS = 25, 50
_FEW_ROWS = 48  # of a modality, before more evaluations are worth more than more rows


@dataclass(frozen=True)
class ValidationPlan:
    """`every_steps` 0: nothing is measured. `batches`: modality → how many of how many rows."""

    steps: int
    every_steps: int = 0
    batches: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def due(self, step: int) -> bool:
        """Whether the model is measured as it is after `step` steps."""
        if not self.every_steps:
            return False
        return step % self.every_steps == 0 or step == self.steps

    @property
    def evaluations(self) -> int:
        """Of a run from its first step to its last."""
        return 1 + -(-self.steps // self.every_steps) if self.every_steps else 0

    def rows(self) -> dict[str, int]:
        """Rows of each modality that one evaluation takes."""
        return {name: count * size for name, (count, size) in self.batches.items()}


def trained_rows(train: TrainConfig, modality: str) -> Fraction:
    """Rows of a modality that all steps together train on."""
    modalities = len(train.batch_sizes) if train.gradient_schedule in ONE_AT_A_TIME else 1
    return Fraction(train.steps * train.batch_sizes[modality], modalities)


def cost(train: TrainConfig, plan: ValidationPlan) -> Fraction:
    """The greatest share that a modality's evaluations have, of what training on it costs."""
    shares = [
        plan.evaluations * rows * ROW_COST / trained_rows(train, name)
        for name, rows in plan.rows().items()
    ]
    return max(shares, default=Fraction(0))


def plan_validation(
    train: TrainConfig, available: Mapping[str, int], units: Mapping[str, int]
) -> ValidationPlan:
    """The plan for so many held-out rows of each modality; `units`: rows that stay together.

    Chosen are up to 25 evaluations of 48 rows, or up to 50 of all rows, where the cost allows
    them; then as many rows as it allows. An interval or rows that the user sets hold whatever they
    cost.
    """
    config, steps = train.validation, train.steps
    held_out = {n: rows for n, rows in available.items() if rows >= units.get(n, 1)}
    if config.every_steps < 0 or not steps or not held_out:
        return ValidationPlan(steps)
    affordable = {n: trained_rows(train, n) * MOST_COST / ROW_COST for n in held_out}
    wanted = {n: min(rows, config.rows or rows) for n, rows in held_out.items()}
    if config.every_steps:
        every = min(config.every_steps, steps)
    else:
        of_few = min(affordable[n] // min(rows, _FEW_ROWS) for n, rows in wanted.items())
        of_all = min(affordable[n] // rows for n, rows in wanted.items())
        times = max(min(MANY_EVALUATIONS, of_few), min(MOST_EVALUATIONS, of_all))
        times = max(2, min(times, steps // 2 + 1))
        every = -(-steps // (times - 1))
    evaluations = ValidationPlan(steps, every).evaluations
    batches = {}
    for name, rows in wanted.items():
        if not config.rows:
            most = affordable[name] // evaluations
            rows = min(rows, max(most, _FEW_ROWS) if config.every_steps else most)
        # In batches of the training's size where they fill some: a contrastive loss grows with it.
        unit, batch = units.get(name, 1), train.batch_sizes[name]
        size = min(int(rows), batch) // unit * unit
        if size:
            batches[name] = (max(1, int(rows) // batch), size)
    return ValidationPlan(steps, every, batches) if batches else ValidationPlan(steps)
