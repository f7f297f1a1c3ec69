"""Batches that are closed when the model is free; no Ray, no model."""

import asyncio

import pytest

from momo_platform.serving.batches import Batches


def make(run, size=8, wait=0.0):
    return Batches(run, len, size, wait)


def test_what_comes_while_a_batch_runs_is_one_batch():
    seen = []

    async def run(works):
        seen.append(sum(len(work) for work in works))
        await asyncio.sleep(0.02)
        return [work.upper() for work in works]

    async def ask():
        batches = make(run)
        first = asyncio.create_task(batches("a"))
        await asyncio.sleep(0.01)  # it runs alone
        rest = await asyncio.gather(*(batches(word) for word in ("bb", "ccc", "ddd", "e" * 20)))
        return [await first, *rest]

    assert asyncio.run(ask()) == ["A", "BB", "CCC", "DDD", "E" * 20]
    assert seen == [1, 8, 20]  # at most 8 items, unless one work has more


def test_a_failed_batch_fails_its_own_works_only():
    async def run(works):
        if "bad" in works:
            raise RuntimeError("no")
        return works

    async def ask():
        batches = make(run, size=3)
        return await asyncio.gather(
            *(batches(word) for word in ("bad", "yes")), return_exceptions=True
        )

    bad, good = asyncio.run(ask())
    assert isinstance(bad, RuntimeError)
    assert good == "yes"


def test_who_has_left_costs_no_computing():
    seen = []

    async def run(works):
        seen.extend(works)
        await asyncio.sleep(0.03)
        return works

    async def ask():
        batches = make(run)
        first = asyncio.create_task(batches("first"))
        await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(batches("gone"), 0.005)
        assert await batches("last") == "last"
        await first

    asyncio.run(ask())
    assert seen == ["first", "last"]
