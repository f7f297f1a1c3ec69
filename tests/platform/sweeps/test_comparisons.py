"""Families of comparisons: Holm against published values, tests against scipy's, equivalence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from momo_platform.sweeps.comparisons import (
    comparisons,
    equivalence_p,
    family,
    holm,
    paired_p,
    told_p,
)
from momo_platform.sweeps.report import markdown, render
from momo_platform.sweeps.rows import Results, TrialRow, estimate

SEEDS = st.lists(st.floats(-1.0, 1.0).map(lambda v: round(v, 6)), min_size=3, max_size=8)


def test_holm_is_as_published():
    # R's p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm"), also statsmodels' multipletests.
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    # The worked example of Wikipedia's "Holm–Bonferroni method", in its order.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_comparisons_that_did_not_run_still_belong_to_the_family():
    assert holm([0.01], family=5) == [0.05]
    few = family({"a": [0.1, 0.11, 0.12]})["a"]
    many = family({"a": [0.1, 0.11, 0.12]}, size=4)["a"]
    assert (few.p, many.adjusted) == (few.adjusted, pytest.approx(4 * few.p))


@given(SEEDS, SEEDS)
def test_the_test_is_the_paired_t_test(one, other):
    size = min(len(one), len(other))
    one, other = np.array(one[:size]), np.array(other[:size])
    p = paired_p(list(one - other))
    if p is not None:
        assert p == pytest.approx(stats.ttest_rel(one, other).pvalue, abs=1e-9)


@given(SEEDS, st.floats(0.01, 2.0))
def test_equality_is_two_one_sided_tests_and_puts_the_90_percent_interval_within(values, margin):
    p = equivalence_p(values, margin)
    if p is None:
        return
    above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    assert p == pytest.approx(max(above, below), abs=1e-9)
    narrow = estimate(values, 0.90)
    if abs(p - 0.05) > 1e-9:
        assert (p < 0.05) == (-margin < narrow.low and narrow.high < margin)


def test_what_has_no_spread_is_not_tested():
    assert paired_p([0.1]) is None
    assert paired_p([0.1, 0.1, 0.1]) is None  # accuracies of few examples are rounded
    assert paired_p([0.3 - 0.2, 0.2 - 0.1, 0.1]) is None  # equal but for the last bits
    one = family({"a": [0.1, 0.1, 0.1]}, margin=1.0)["a"]
    assert (one.differs, one.is_equal, one.verdict(True)) == (False, False, "")
    assert (told_p(None), told_p(0.0004), told_p(0.0193), told_p(0.5)) == (
        *("–", "< 0.001", "0.019", "0.50"),
    )


def test_no_margin_no_equality_and_a_wide_interval_is_not_equal():
    near, wide = [0.001, -0.001, 0.002], [0.1, -0.1, 0.05]
    assert family({"a": near})["a"].verdict(True) == ""
    found = family({"near": near, "wide": wide}, margin=0.02)
    assert (found["near"].verdict(True), found["wide"].verdict(True)) == ("equal", "")
    far = family({"a": [0.5, 0.51, 0.52]}, margin=0.02)["a"]
    assert (far.verdict(True), far.verdict(False)) == ("better", "worse")


def sweep(plan, **arms):
    rows = [
        TrialRow(name, name, {}, [], "done", {str(s): {"m": v} for s, v in enumerate(values)})
        for name, values in arms.items()
    ]
    definition = {"arms": dict.fromkeys(arms), "space": {}, "seeds": [0, 1, 2]}
    about = ("s", "m", "max", "c", "", "x", "2030-01-01", 1.0, definition, ["m"])
    return Results(*about, rows, plan)


BASE = (0.50, 0.60, 0.70)
FAR = (0.60, 0.705, 0.81)
OPEN = (0.51, 0.58, 0.74)


def test_a_report_has_corrected_p_values_beside_raw_intervals():
    table = markdown(sweep({}, base=BASE, far=FAR, open=OPEN))
    assert "| Δ m against base | p (Holm) |" in table
    assert "0.105 (0.09258 – 0.1174) | 0.0015 |" in table
    assert "of 2 comparisons. Above 0.05 no difference was found, which is not equality." in table
    assert "Better: far." in table
    assert "Equal" not in table
    page = render(sweep({}, base=BASE, far=FAR, open=OPEN))
    assert '<th class="n">p (Holm)</th>' in page
    assert "Better: far." in page


def test_the_plans_margin_and_family_count():
    plan = {"comparisons": ["far", "near", "c", "d"], "margin": 0.01, "date": "2030-01-01T00:00"}
    results = sweep(plan, base=BASE, far=FAR, near=(0.501, 0.6005, 0.7012))
    found = comparisons(results)
    assert found["far"].adjusted == pytest.approx(4 * found["far"].p)
    table = markdown(results)
    assert "of 4 comparisons" in table
    assert "fixed on 2030-01-01, before any trial" in table
    assert "Equal within the margin of 0.01 (two one-sided tests" in table
    assert table.count("near.") == 1


def test_a_tasks_sample_interval_stands_beside_its_seeds():
    seeds = {
        str(s): {"m": v, "t": v, "sample/t/low": v - 0.02, "sample/t/high": v + 0.02}
        for s, v in enumerate((0.4, 0.6, 0.7))
    }
    row = TrialRow("a", "a", {}, [], "done", seeds)
    assert row.told("t").endswith("; seeds 0.4 to 0.7, sample ±0.02")
    assert row.told("m") == str(row.estimate("m"))
    one = TrialRow("a", "a", {}, [], "done", {"0": seeds["0"]})
    assert one.told("t") == "0.4; sample ±0.02"


def test_the_best_of_a_search_is_said_to_be_picked():
    rows = [TrialRow(str(i), str(i), {}, [], "done", {"0": {"m": i / 10}}) for i in range(8)]
    definition = {"arms": {}, "space": {"rate": {}}, "seeds": [0]}
    found = Results("s", "m", "max", "", "", "", "", 0.0, definition, ["m"], rows).best
    assert "picked as the largest of 8" in found.in_words("m", "max")
