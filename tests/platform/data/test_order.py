"""The order of rows: the weights exactly, each row once an epoch, from any place on."""

from itertools import pairwise
from math import lcm

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from momo_platform.data import order, row_groups
from momo_platform.data.cycle import Cycle
from momo_platform.data.order import SampleOrder, lanes_of
from momo_platform.data.row_groups import SourceRows

_SHARDS = st.lists(st.integers(1, 70), min_size=1, max_size=3)


def sources_of(shards, weights, row_group=8, left_out=()):
    """One source for each list of shards, numbered one after the other."""
    left, found, first = np.array(sorted(left_out), dtype=np.int64), [], 0
    for number, (rows, weight) in enumerate(zip(shards, weights, strict=False)):
        found.append(SourceRows(f"s{number}", first, rows, row_group, weight, left))
        first += sum(rows)
    return found


def until_all_have(sources, made, epochs):
    """A position by which each lane has given its rows of the first `epochs` epochs."""
    read = [one for one in sources if one.weight and one.rows]
    counts = made.cycle.counts
    places = [
        (epochs * one.rows / made.lanes + 20) * made.cycle.slots / count
        for one, count in zip(read, counts, strict=True)
    ]
    return int(max(places)) * made.lanes


def check_every_row_once(sources, batch, left_out=(), epochs=2):
    made = SampleOrder(sources, batch, seed=3)
    epoch, rows = made.rows_at(0, until_all_have(sources, made, epochs))
    for one in sources:
        mine = (rows >= one.first) & (rows < one.end)
        if not one.weight:
            assert not mine.any()
            continue
        wanted = sorted(set(range(one.first, one.end)) - set(left_out))
        for number in range(epochs):
            assert sorted(rows[mine & (epoch == number)]) == wanted


@settings(max_examples=25, deadline=None)
@given(
    shards=st.lists(_SHARDS, min_size=1, max_size=3),
    weights=st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=3, max_size=3),
    batch=st.sampled_from([1, 2, 7, 12, 48, 61, 64, 97, 130, 192]),
    row_group=st.integers(1, 33),
    single=st.sampled_from([0, 100, 16_384]),
)
@example([[90, 90, 90, 77]], [1.0], 64, 8, 0)
@example([[1], [90] * 4], [1.0, 1.0], 192, 8, 0)
def test_every_row_once_an_epoch_and_source(shards, weights, batch, row_group, single):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_groups, "SINGLE", single)
        check_every_row_once(sources_of(shards, weights, row_group), batch)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), shards=st.lists(_SHARDS, min_size=1, max_size=3), single=st.booleans())
def test_every_row_but_those_left_out(data, shards, single):
    total = sum(map(sum, shards))
    left = data.draw(st.sets(st.integers(0, total - 1), max_size=total - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_groups, "SINGLE", 16_384 if single else 0)
        sources = sources_of(shards, [1.0, 2.0, 0.5], 8, left)
        assert sum(one.rows for one in sources) == total - len(left)
        kept = [one for one in sources if one.rows]
        check_every_row_once(kept, data.draw(st.sampled_from([1, 16, 48, 128])), left)


@pytest.mark.parametrize("single", [0, 16_384])
@pytest.mark.parametrize("batch", [13, 48, 128])
def test_any_cut_of_the_order_is_the_same_order(monkeypatch, single, batch):
    monkeypatch.setattr(row_groups, "SINGLE", single)

    def made(seed=3):
        return SampleOrder(sources_of([[300, 211], [40], [7]], [1, 0.5, 9]), batch, seed)

    epochs, rows = made().rows_at(0, 6000)
    cuts = [0, 1, 50, 51, 128, 999, 3000, 3001, 5999, 6000]
    for start, stop in reversed(list(pairwise(cuts))):
        there = made().rows_at(start, stop)  # without anything before it
        assert np.array_equal(there[0], epochs[start:stop])
        assert np.array_equal(there[1], rows[start:stop])
    assert not np.array_equal(rows, made(seed=4).rows_at(0, 6000)[1])


def test_epochs_and_sources_have_orders_of_their_own():
    sources = sources_of([[500], [500]], [1, 1])
    made = SampleOrder(sources, 1, seed=0)
    epochs, rows = made.rows_at(0, 2100)
    first, second = (rows[(epochs == e) & (rows < 500)] for e in (0, 1))
    other = rows[(epochs == 0) & (rows >= 500)] - 500
    assert len(first) == len(second) == len(other) == 500
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert abs(np.corrcoef(first, np.arange(500))[0, 1]) < 0.15


def test_a_far_step_comes_at_once():
    """And holds nothing by row."""
    sources = [SourceRows("s", 0, [80_000] * 1250, 64)]
    made = SampleOrder(sources, 4096, seed=1)
    place = 4096 * 10**9
    epochs, rows = made.rows_at(place, place + 4096)
    assert len(set(rows.tolist())) == 4096
    assert epochs[0] == place // 100_000_000


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.floats(0.01, 1e6), min_size=1, max_size=9),
    batch=st.sampled_from([1, 6, 48, 64, 97, 256]),
)
@example([1.0, 1.0], 64)
@example([1.0] * 16, 64)
@example([1e9, 1.0], 64)
@example([1.0, 1.0, 1.0, 1.0, 7.0], 6)
def test_the_shares_are_exact_over_each_cycle(sizes, batch):
    lanes = lanes_of(batch)
    cycle, a_lane = Cycle(sizes, lanes), batch // lanes
    assert cycle.counts.sum() == cycle.slots
    assert (cycle.counts >= 1).all()
    share = np.array(sizes) / sum(sizes)
    assert np.abs(cycle.counts / cycle.slots - share).max() <= len(sizes) / cycle.slots
    steps = lcm(a_lane, cycle.turns) // a_lane  # until all together are through
    place = np.arange(min(steps, -(-3 * cycle.turns // a_lane)) * a_lane)
    source = np.stack([cycle.at(np.full(len(place), lane), place)[0] for lane in range(lanes)])
    for start in range(0, len(place) - cycle.turns + 1, cycle.turns):
        part = source[:, start : start + cycle.turns]
        assert np.array_equal(np.bincount(part.ravel(), minlength=len(sizes)), cycle.counts)
    # Each batch, too, has them: of the slots up to any moment t, source j's are count · t + e with
    # |e| <= 1/2, and the batch lies between two such moments.
    steps = source[:, : len(place) // a_lane * a_lane].reshape(lanes, -1, a_lane)
    for number, count in enumerate(cycle.counts):
        have = (steps == number).sum(axis=(0, 2))
        part = count / cycle.slots
        assert np.abs(have - batch * part).max() <= 1 + part * max(len(sizes) - 2, 0) + 1e-9


@pytest.mark.parametrize("lanes", [1, 64])
def test_a_rare_source_comes_as_often_as_asked(lanes):
    sizes = [76 * 65_536.0 / 4, 4.0]  # once in 19 times the usual slots
    cycle = Cycle(sizes, lanes)
    assert cycle.slots <= 2**20
    share = cycle.counts[1] / cycle.slots
    assert share * sum(sizes) / sizes[1] < 1.25
    assert Cycle([5.0, 3.0], lanes).slots == 65_536  # others' cycles are as long as ever


def test_each_lane_has_the_shares_too_and_counts_its_rows():
    lanes, sizes = 16, [5.0, 3.0, 0.4]
    cycle = Cycle(sizes, lanes)
    place = np.arange(2 * cycle.slots)
    for lane in (0, 7, 15):
        source, before = cycle.at(np.full(len(place), lane), place)
        for number, count in enumerate(cycle.counts):
            mine = np.flatnonzero(source == number)
            assert len(mine) == 2 * count
            assert np.array_equal(before[mine], np.arange(2 * count))
            even = (mine + 0.5) * count / cycle.slots
            assert np.abs(even - np.arange(2 * count)).max() < 6


def test_what_takes_no_rows_is_refused():
    for sources in ([], sources_of([[5]], [0.0]), sources_of([[5]], [1.0], left_out=range(5))):
        with pytest.raises(ValueError, match="no rows"):
            SampleOrder(sources, 8, seed=0)


def test_a_rank_of_whole_lanes_reads_row_groups_that_others_do_not(monkeypatch):
    monkeypatch.setattr(row_groups, "SINGLE", 0)
    batch, groups = 16, 1024
    made = SampleOrder([SourceRows("s", 0, [8 * groups], 8)], batch, seed=1)
    _, rows = made.rows_at(0, 8 * groups)
    touched = [
        set((rows.reshape(-1, batch)[:, first : first + 4] // 8).ravel())
        for first in range(0, batch, 4)
    ]
    assert sum(map(len, touched)) <= groups + made.lanes
    assert order.WINDOW == 4
