"""Statistics, settings and charts of sweeps, without Ray."""

import dataclasses
import io
import json
import types
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from momo_platform.charts import line_chart, standalone
from momo_platform.overrides import as_options, differences, with_settings
from momo_platform.stages import UserError, open_storage
from momo_platform.stages.in_use import InUse, keys_in_use
from momo_platform.sweeps import Choice, Interval, Sweep
from momo_platform.sweeps.charts import forest_chart, parallel_chart, shares_chart
from momo_platform.sweeps.follow import Follower
from momo_platform.sweeps.rows import (
    Results,
    TrialRow,
    best_of,
    estimate,
    figure,
    read_results,
    shown_metrics,
)
from momo_platform.sweeps.study import requeue
from momo_platform.sweeps.sweep import numbers
from momo_platform.sweeps.trial import ROW, Watcher

FINITE = st.floats(-1e6, 1e6)


@given(st.lists(FINITE, min_size=2, max_size=9))
def test_an_estimate_is_students_interval(values):
    found = estimate(values)
    assert found.mean == pytest.approx(np.mean(values))
    error = stats.sem(values)
    if error > 0:
        low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=error)
        assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_one_seed_has_no_interval():
    assert (estimate([0.5]).low, str(estimate([0.5]))) == (None, "0.5")
    with pytest.raises(ValueError, match="no values"):
        estimate([])


def row(label, seeds, state="done"):
    return TrialRow(
        label, label, {"arm": label}, [{}], state, {s: {"m": v} for s, v in seeds.items()}
    )


def test_differences_are_paired_by_seed():
    a, b = row("a", {"0": 1.0, "1": 5.0, "2": 9.0}), row("b", {"2": 8.5, "0": 0.5, "7": 3.0})
    found = a.difference(b, "m")
    assert (found.mean, found.n, found.low) == (0.5, 2, 0.5)
    assert a.difference(row("c", {"9": 1.0}), "m") is None


def clear(name, *values):
    return row(name, {str(seed): value for seed, value in enumerate(values)})


def test_a_winner_is_claimed_only_where_intervals_part():
    far = [clear("a", 0.80, 0.81, 0.82), clear("b", 0.50, 0.51, 0.52)]
    best = best_of(far, "m", "max")
    assert best.is_clear
    assert (
        "Its interval, widened for 2 trials, overlaps with that of no other trial."
        in best.in_words("m", "max")
    )
    near = [*far, clear("c", 0.79, 0.80, 0.81), clear("d", 0.1, 0.8, 0.9)]
    best = best_of(near, "m", "max")
    assert best.row.label == "a"
    assert [rival.label for rival in best.rivals] == ["c", "d"]
    assert not best.is_clear
    assert (
        "no clear winner: its interval, widened for 4 trials, overlaps with those of c, d"
        in best.in_words("m", "max")
    )
    assert best_of(far, "m", "min").row.label == "b"


def test_one_seed_makes_no_winner():
    best = best_of([clear("a", 0.9), clear("b", 0.1)], "m", "max")
    assert not best.is_clear
    assert "one seed can't say whether it is best" in best.in_words("m", "max")
    assert best_of([], "m", "max") is None
    alone = best_of([clear("a", 0.8, 0.9)], "m", "max")
    assert not alone.is_clear
    assert alone.in_words("m", "max").endswith("No other trial has a result.")


def test_figures_have_no_exponent_where_people_read_on():
    assert [figure(v) for v in (0.012345, 1234.5, 0.9)] == ["0.01235", "1,234", "0.9"]
    assert figure(0.5, 3, "+") == "+0.5"


def test_results_come_back_from_their_file_and_others_are_refused(tmp_path):
    definition = {"arms": {"a": {}, "b": {}}, "seeds": [0]}
    rows = [row("a", {"0": 1.0}), row("b", {"0": 3.0}), row("c", {}, "failed")]
    results = Results("s", "m", "max", "c", "", "x", "now", 1.0, definition, ["m"], rows)
    results.write(tmp_path / "results.json")
    again = read_results(tmp_path / "results.json")
    assert again == results
    assert [r.label for r in again.ranked] == ["b", "a"]
    assert again.reference == rows[0]
    (tmp_path / "other.json").write_text('{"rows": 3}')
    with pytest.raises(UserError, match=r"other.json: not a sweep's results"):
        read_results(tmp_path / "other.json")
    with pytest.raises(UserError, match=r"none.json: No such file"):
        read_results(tmp_path / "none.json")


def test_numbers_and_what_is_shown():
    metrics = {"a": 1, "b": {"c": 2.5, "d": float("nan"), "e": {"f": 3}}, "g": "text", "h": True}
    assert numbers(metrics) == {"a": 1.0, "b/c": 2.5, "b/e/f": 3.0}
    rows = [TrialRow("t", "t", {}, [], "done", {"0": {"m": 1.0, "b/c": 2.0, "b/d": 3.0, "z": 0.0}})]
    assert shown_metrics("m", ["b/*"], rows) == ["m", "b/c", "b/d"]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"arms": {}, "space": {}}, "arms or a space"),
        ({"space": {"q": Choice((1,))}}, "arms or a space"),
        ({"seeds": (1, 1)}, r"seeds \[1, 1\]"),
        ({"arms": {}, "space": {"q": Interval(0, 1)}}, "a grid has no intervals"),
        ({"search": "optuna"}, "needs a space"),
        ({"arms": {"a": {"x.y": Choice((1,))}}}, "arm a: x.y is a Choice"),
        ({"seeds": (0, -1)}, r"seeds \[0, -1\]: give 0 or more"),
        *(({"name": name}, "sweep name") for name in ("a/b", "a b", "..", ".", "", "-x", "a\\b")),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(change, words):
    good = {"name": "s", "build": print, "metric": "m", "arms": {"a": {}}}
    with pytest.raises(UserError, match=words):
        Sweep(**{**good, **change})


def test_a_grid_names_all_its_settings():
    sweep = Sweep("s", print, "m", space={"x.a": Choice((1, 2)), "y": Choice(("u", "v", "w"))})
    assert sweep.trials == 6
    assert len(sweep.parameter_sets()) == 6
    assert sweep.label({"x.a": 0.12345, "y": "u"}) == "a=0.123 y=u"


def test_a_label_tells_settings_apart_that_end_alike():
    values = {"one.train.rate": 0.1, "two.train.rate": 0.2, "two.eval.rate": 3, "size": 4}
    sweep = Sweep("s", print, "m", space={name: Choice((1,)) for name in values})
    assert sweep.label(values) == "one…rate=0.1 size=4 eval…rate=3 two.train.rate=0.2"


def test_a_failures_cause_is_one_line():
    traceback = "seed 1: stage fit failed:   File x\n    call()\n  ^^^\nValueError: too large\n"
    traceback += "stage probe failed too\nnot run: scores, report"
    assert dataclasses.replace(row("a", {}), error=traceback).cause == (
        "seed 1: stage fit: ValueError: too large"
    )
    assert dataclasses.replace(row("a", {}), error="one line").cause == "one line"


def test_an_interrupted_search_gives_its_trials_out_again():
    study = optuna.create_study()
    study.tell(study.ask(), 1.0)
    left = [study.ask() for _ in range(2)]
    given = [trial.suggest_float("x", 0, 1) for trial in left]
    assert requeue(study) == 2
    again = [study.ask().suggest_float("x", 0, 1) for _ in range(2)]
    assert again == given
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "FAIL", "FAIL", "RUNNING", "RUNNING"]


@dataclass(frozen=True)
class Inner:
    low: int = 1
    high: int = 2
    names: tuple[str, ...] = ()

    def __post_init__(self):
        if self.low > self.high:
            raise ValueError(f"low={self.low} above high={self.high}")


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    sizes: dict[str, int] = field(default_factory=lambda: {"image": 1})
    on: bool = True


def test_settings_change_fields_by_their_paths():
    changed = with_settings(
        Outer(), {"inner.high": 9, "inner.low": 5, "sizes.image": 4, "on": False}
    )
    assert changed == Outer(Inner(5, 9), {"image": 4}, False)
    assert with_settings(Outer(), {"inner": Inner(0, 0)}).inner == Inner(0, 0)
    assert with_settings(Outer(), {"sizes.text": 3}).sizes == {"image": 1, "text": 3}
    dotted = with_settings(Outer(), {"sizes.image.small": 2, "sizes.image.x.y": 5})
    assert dotted.sizes == {"image": 1, "image.small": 2, "image.x.y": 5}
    assert with_settings(Outer(), {}) == Outer()


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"inner.hihg": 1}, "inner.hihg: no such field, did you mean high"),
        ({"on.low": 1}, "on is a single value"),
        ({"inner.low": 7}, "inner: low=7 above high=2"),
    ],
)
def test_settings_that_lead_nowhere_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        with_settings(Outer(), settings)


def test_settings_as_options():
    settings = {"a.b_c": 0.5, "a.on": False, "x": ("p", "q"), "sizes.image": 3}
    assert as_options(settings) == [
        *("--a.b-c", "0.5", "--a.no-on", "--x", "p", "q", "--sizes.image", "3")
    ]


def test_a_mapping_that_was_empty_is_set_as_a_whole():
    base = {"a": {"free": {}, "sizes": {"x": 1}}}
    changed = {"a": {"free": {"b_c": 0.5, "b_c.d": 2.0}, "sizes": {"x": 3}}}
    settings = differences(changed, base)
    assert settings == {"a.free": {"b_c": 0.5, "b_c.d": 2.0}, "a.sizes.x": 3}
    assert as_options(settings) == [*("--a.free", "b_c", "0.5", "b_c.d", "2.0", "--a.sizes.x", "3")]
    assert differences(base, base) == {}


def test_charts_are_well_formed():
    charts = [
        forest_chart({"a<b": (0.1, -0.1, 0.3), "c": (0.2, None, None)}, "d&e"),
        parallel_chart({"t": {"x": 1e-4, "y": "u", "m": 0.5}, "s": {"x": 1.0, "m": 0.25}}, "p"),
        shares_chart({"a": 0.75, "b": 0.25}, "w"),
        line_chart({"a<b": [(0, 1.0), (1, 0.5)]}, "l", {"a<b": 7}),
    ]
    for chart in charts:
        assert ElementTree.fromstring(standalone(chart)).tag.endswith("svg")
    assert forest_chart({}, "") == parallel_chart({"a": {"m": 1}}, "") == shares_chart({}, "") == ""


def test_a_trial_that_is_over_is_not_shown_as_running(tmp_path):
    """Its last message lies on the board until the next second."""
    sweep = Sweep("s", None, "m", arms={"a": {}, "b": {"x": 1}}, seeds=(0,))
    trials = [types.SimpleNamespace(trial_id=f"t{i}", config={"number": i}) for i in (0, 1)]
    said = io.StringIO()
    follower = Follower(sweep, tmp_path, said, optuna.create_study(), verbose=False)
    for trial in trials:
        follower.begin(trial)
        trial.last_result = {}
    news = {name: {"seed": 0, "stages": {"fit": {"state": "running"}}} for name in ("a", "b")}
    assert follower.take(news).plain.count("running") == 2
    follower.end(trials[0], failed=False)
    shown = follower.take(news).plain
    assert "1 of 2 trials done" in shown
    assert "b, seed 0, fit  running" in shown
    assert "a, seed 0" not in shown
    follower.begin(trials[0])  # tried again
    assert "a, seed 0" in follower.take(news).plain


def test_the_best_of_earlier_commands_stays_the_best(tmp_path):
    sweep = Sweep("s", None, "m", mode="min", arms={"a": {}, "b": {"x": 1}}, seeds=(0,))
    follower = Follower(sweep, tmp_path, io.StringIO(), optuna.create_study(), verbose=False)
    follower.know([row("a", {"0": 1.0}), row("b", {"0": 2.0}), row("c", {}, "failed")])
    assert (follower.tally.finished, follower.tally.best) == (3, (1.0, "a"))


def test_artifacts_of_ended_trials_are_in_use_while_the_sweep_runs(tmp_path):
    sweep = Sweep("s", None, "m", arms={"a": {}}, seeds=(0,))
    storage = open_storage(tmp_path / "runs")
    held = InUse(storage)
    follower = Follower(
        *(sweep, tmp_path, io.StringIO(), optuna.create_study()), verbose=False, in_use=held
    )
    trial = types.SimpleNamespace(trial_id="t0", config={"number": 0})
    follower.begin(trial)
    ended = {"seeds": {"0": {"m": 1.0}}, "stages": {"0": {"fit": "0" * 12}}, "history": [{}]}
    trial.last_result = {"m": 1.0, ROW: json.dumps(ended)}
    follower.end(trial, failed=False)
    assert keys_in_use(storage) == [("fit", "0" * 12)]
    held.close()
    assert keys_in_use(storage) == []


def test_curves_have_every_stages_last_point_once(tmp_path):
    """Stages shorter than the second between two messages are drawn, too."""
    sweep = Sweep("s", None, "m", arms={"a": {}, "b": {"x": 1}}, seeds=(0,))
    follower = Follower(sweep, tmp_path, io.StringIO(), optuna.create_study(), verbose=False)
    sent = []
    board = types.SimpleNamespace(report=types.SimpleNamespace(remote=lambda *m: sent.append(m)))
    watcher = Watcher(sweep, "a", 0, board)

    def status(name, state, step):
        progress = {"step": step, "metrics": {"toy": 1 / step}}
        return types.SimpleNamespace(
            entry=types.SimpleNamespace(name=name), state=state, progress=progress, machine="here"
        )

    watcher([status("fit", "running", 1), status("probe", "queued", 1)])
    watcher([status("fit", "done", 3), status("probe", "running", 1)])  # within a second: not sent
    watcher([status("fit", "done", 3), status("probe", "done", 2)])
    assert len(sent) == 2
    for label, message in sent:
        follower.take({label: message})
        follower.take({label: message})
    follower.close()
    found = {}
    for file in (tmp_path / "tensorboard").rglob("events*"):
        events = EventAccumulator(str(file.parent)).Reload()
        found[file.parent.name] = [(e.step, e.value) for e in events.Scalars("loss/toy")]
    assert found == {"fit": [(1, 1.0), (3, pytest.approx(1 / 3))], "probe": [(2, 0.5)]}
