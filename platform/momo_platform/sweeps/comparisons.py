"""A sweep's comparisons as one family: paired tests over seeds, Holm's correction, equivalence.

Every arm is compared with the first, paired by seed. The p-value is that of the paired t-test: with
three seeds an exact permutation of signs can't go below 0.25. Holm's step-down procedure (Holm,
1979) corrects all comparisons of a family at once and holds whatever their dependence, so also for
arms that share one reference. Equivalence is two one-sided t-tests (Schuirmann, 1987) against a
margin that was chosen beforehand.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from momo_platform.sweeps.rows import Estimate, Results, estimate

LEVEL = 0.05
"""Verdicts are given where a corrected p-value is below it."""
TEST = "two-sided t-test on differences paired by seed, Holm's correction over the family"
Verdict = Literal["better", "worse", "equal", ""]
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Comparison:
    """One arm less the first. `estimate`: with the raw 95 % interval; `p` raw and `adjusted`, the
    same after Holm's correction. `equality`: the corrected p-value of the two one-sided tests
    against `margin`. None where it can't be tested: one seed, seeds without spread, no margin."""

    arm: str
    estimate: Estimate
    p: float | None
    adjusted: float | None
    margin: float | None = None
    equality: float | None = None

    @property
    def differs(self) -> bool:
        return self.adjusted is not None and self.adjusted < LEVEL

    @property
    def is_equal(self) -> bool:
        """Whether the difference lies within the margin: then the 90 % interval does too."""
        return self.equality is not None and self.equality < LEVEL

    def verdict(self, larger_is_better: bool) -> Verdict:
        """Empty where no difference was found and none is excluded."""
        if self.differs:
            return "better" if (self.estimate.mean > 0) == larger_is_better else "worse"
        return "equal" if self.is_equal else ""


def paired_p(differences: Sequence[float]) -> float | None:
    """Two-sided, of the t-test that the mean is 0; None where there is no spread to test by."""
    error = _standard_error(differences)
    if error is None:
        return None
    from scipy import stats

    t = float(np.mean(differences)) / error
    return float(2 * stats.t.sf(abs(t), len(differences) - 1))


def equivalence_p(differences: Sequence[float], margin: float) -> float | None:
    """The larger p-value of two one-sided t-tests that the mean lies outside ±`margin`: below 0.05
    exactly where the 90 % interval lies within it. None as above."""
    error = _standard_error(differences)
    if error is None:
        return None
    from scipy import stats

    mean, freedom = float(np.mean(differences)), len(differences) - 1
    return float(stats.t.sf((margin - abs(mean)) / error, freedom))


def _standard_error(differences: Sequence[float]) -> float | None:
    """None for one seed, and for seeds that agree to the last digits: rounded values may."""
    if len(differences) < 2:
        return None
    spread = float(np.std(differences, ddof=1))
    if spread <= 1e-12 * max(1.0, float(np.max(np.abs(differences)))):
        return None
    return spread / len(differences) ** 0.5


def holm(p_values: Sequence[float], family: int = 0) -> list[float]:
    """Corrected p-values, in the given order. `family`: how many comparisons there are in all,
    where some of them were not tested; at least as many as are given."""
    count = max(family, len(p_values))
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (count - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def family(
    differences: Mapping[Name, Sequence[float]], margin: float | None = None, size: int = 0
) -> dict[Name, Comparison]:
    """Arm (or arm and metric) → its comparison, from its differences by seed. `size`: of the whole
    family, where some have not run."""
    raw = {arm: paired_p(values) for arm, values in differences.items()}
    equal = {
        arm: None if margin is None else equivalence_p(values, margin)
        for arm, values in differences.items()
    }
    size = max(size, len(differences))
    adjusted, equality = _corrected(raw, size), _corrected(equal, size)
    return {
        arm: Comparison(
            str(arm), estimate(values), raw[arm], adjusted[arm], margin, equality.get(arm)
        )
        for arm, values in differences.items()
    }


def _corrected(p_values: Mapping[Name, float | None], size: int) -> dict[Name, float | None]:
    known = {arm: p for arm, p in p_values.items() if p is not None}
    found = dict(zip(known, holm(list(known.values()), size), strict=True))
    return {arm: found.get(arm) for arm in p_values}


def comparisons(results: Results) -> dict[str, Comparison]:
    """Of a sweep with arms, by its metric: with the margin and the family of its plan, where it was
    planned; else all arms that ran, and no margin."""
    reference = results.reference
    if reference is None:
        return {}
    found = {
        row.label: list(row.differences(reference, results.metric).values())
        for row in results.ranked
        if row is not reference
    }
    planned = results.plan.get("comparisons") or list(results.definition["arms"])[1:]
    known = {arm: values for arm, values in found.items() if values}
    return family(known, results.plan.get("margin"), len(planned))


def told_p(p: float | None) -> str:
    """'0.019', '< 0.001'; '–' where there is none."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"
