"""Properties of the fingerprint: equal for equal meaning, different for any other meaning."""

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_stages import add

from momo_platform.stages import Resources, Stage, canonical, fingerprint

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


@dataclass(frozen=True)
class Config:
    """`where` and `workers` are mechanics: they say how, not what."""

    value: object = 1
    rate: float = 0.1
    nested: object = None
    where: str = field(default="", metadata={"semantic": False})
    workers: int = field(default=1, metadata={"semantic": False})


@dataclass(frozen=True)
class Reordered:
    """The fields of Config in another order."""

    nested: object = None
    rate: float = 0.1
    workers: int = field(default=1, metadata={"semantic": False})
    value: object = 1
    where: str = field(default="", metadata={"semantic": False})


def of(config, **fields):
    return fingerprint(Stage("a", add, config, **fields))


def shuffled(value):
    """The same value with every dictionary's keys in the opposite order, tuples for lists."""
    if isinstance(value, dict):
        return {k: shuffled(value[k]) for k in reversed(list(value))}
    return tuple(map(shuffled, value)) if isinstance(value, list) else value


@given(VALUES, VALUES, st.floats(0, 1))
def test_order_of_fields_and_keys_does_not_matter(value, nested, rate):
    one = Config(value, rate, nested)
    other = Reordered(shuffled(nested), rate, 7, shuffled(value), "/elsewhere")
    assert of(one) == of(other)


@given(VALUES, st.text(max_size=30), st.integers(1, 64), st.integers(0, 8))
def test_places_workers_and_resources_never_enter(value, path, workers, gpus):
    base = of(Config(value))
    assert of(Config(value, where=path, workers=workers)) == base
    resources = Resources(workers=workers, worker_cpus=2.0, worker_gpus=gpus, early_start=True)
    assert of(Config(value), resources=resources, code=("momo_platform",)) == base


@given(VALUES, VALUES, st.sampled_from(["value", "rate", "nested"]))
def test_any_changed_semantic_field_changes_it(old, new, name):
    one = dataclasses.replace(Config(), **{name: old})
    other = dataclasses.replace(Config(), **{name: new})
    same = json.dumps(canonical(one), sort_keys=True) == json.dumps(
        canonical(other), sort_keys=True
    )
    assert (of(one) == of(other)) == same


@given(st.integers(-(10**6), 10**6))
def test_kinds_are_told_apart(number):
    values = [number, float(number), str(number), [number], {"a": number}]
    assert len({of(Config(v)) for v in values}) == len(values)
    assert of(Config(True)) != of(Config(1))
    assert of(Config(0.0)) == of(Config(-0.0))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.integers(0, 4))
def test_a_change_reaches_everything_behind_it_and_nothing_else(values, place):
    place %= len(values)

    def chain(numbers):
        stages = []
        for i, number in enumerate(numbers):
            inputs = {"up": stages[-1]} if stages else {}
            stages.append(Stage(f"s{i}", add, Config(number), inputs))
        return [fingerprint(s) for s in stages]

    changed = [v + 10 * (i == place) for i, v in enumerate(values)]
    before, after = chain(values), chain(changed)
    assert [a == b for a, b in zip(before, after, strict=True)] == [
        i < place for i in range(len(values))
    ]


PROGRAM = """
import json, sys
from momo_platform.stages import Stage, fingerprint
from toy_stages import add
for line in sys.stdin:
    print(fingerprint(Stage("a", add, json.loads(line))))
"""


@pytest.fixture(scope="module")
def other_process():
    """Fingerprints from a Python with another hash seed, locale, home and working folder."""
    paths = os.pathsep.join(p for p in sys.path if p)
    env = {"PYTHONPATH": paths, "PYTHONHASHSEED": "12345", "LC_ALL": "C", "HOME": "/nowhere"}
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env | {"PYTHONUTF8": "1"},
        cwd="/",
    )
    yield process
    process.stdin.close()
    process.wait(timeout=10)


@settings(max_examples=100, deadline=None)
@given(config=st.dictionaries(st.text(max_size=6), VALUES, max_size=4))
def test_another_process_agrees(other_process, config):
    text = json.dumps(config)
    other_process.stdin.write(text + "\n")
    other_process.stdin.flush()
    assert other_process.stdout.readline().strip() == of(json.loads(text))
