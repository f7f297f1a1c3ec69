"""Fingerprints cover meaning and nothing else."""

import dataclasses
import os
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from toy_stages import Toy, add

from momo_platform.stages import Resources, Stage, canonical, fingerprint
from momo_platform.stages.fingerprint import NotCanonical
from momo_platform.stages.stage import all_stages


@dataclass(frozen=True)
class Nested:
    rates: tuple[float, ...] = (0.1, 0.2)
    table: dict = field(default_factory=lambda: {"b": 1, "a": None})
    toy: Toy = field(default_factory=Toy)


def stage(config=None, **fields):
    return Stage("a", add, config or Toy(), **fields)


def test_what_enters():
    base = fingerprint(stage())
    assert len(base) == 12
    assert fingerprint(stage()) == base
    assert fingerprint(stage(Toy(2))) != base
    assert fingerprint(stage(version=2)) != base
    assert fingerprint(Stage("b", add, Toy())) != base
    up = Stage("up", add, Toy())
    with_input = fingerprint(stage(inputs={"x": up}))
    assert with_input != base
    assert fingerprint(stage(inputs={"y": up})) != with_input
    assert fingerprint(stage(inputs={"x": Stage("up", add, Toy(2))})) != with_input


def test_what_does_not_enter():
    base = fingerprint(stage())
    assert fingerprint(stage(Toy(seconds=9.0))) == base
    assert fingerprint(stage(resources=Resources(workers=4, worker_cpus=1))) == base
    assert fingerprint(stage(code=("momo_platform",))) == base


@dataclass(frozen=True)
class Grown:
    """A config that got two fields later."""

    size: int = 1
    kept: str = field(default="last", metadata={"absent_at": "last"})
    interval: int = field(default=5, metadata={"semantic": lambda grown: grown.kept == "best"})


def test_a_new_field_enters_when_it_says_something_new():
    assert canonical(Grown()) == canonical(Grown(interval=9)) == {"size": 1}
    assert canonical(Grown(kept="best")) == {"size": 1, "kept": "best", "interval": 5}
    assert fingerprint(stage(Grown(interval=9))) == fingerprint(stage(Grown()))
    often, seldom = (fingerprint(stage(Grown(kept="best", interval=n))) for n in (1, 9))
    assert often != seldom


@dataclass(frozen=True)
class Part:
    """A config of a new field: `seconds` says nothing of what comes out."""

    rates: tuple[float, ...] = (0.1,)
    seconds: float = field(default=0.0, metadata={"semantic": False})


@dataclass(frozen=True)
class Later(Toy):
    """A stage's config with a part more."""

    part: Part = field(default=Part(), metadata={"absent_at": Part()})


@pytest.mark.parametrize(
    "around",
    [lambda c: c, lambda c: Nested(toy=c), lambda c: {"a": c, "b": 1}, lambda c: ((c, c), [c])],
)
def test_a_new_part_is_absent_by_what_it_means_wherever_it_stands(around):
    """Whatever else it has that never counts, and in lists as in tuples."""
    before = canonical(around(Toy()))
    for same in (Later(), Later(part=Part(seconds=9.0)), Later(part=Part(rates=[0.1]))):  # type: ignore[arg-type]
        assert canonical(around(same)) == before
    for other in (Later(part=Part((0.2,))), Later(2)):
        assert canonical(around(other)) != before


def test_a_new_part_without_canonical_form_is_refused_with_its_place():
    with pytest.raises(NotCanonical, match=r"config\.toy\.part\.rates"):
        canonical(Nested(toy=Later(part=Part({0.1}))))  # type: ignore[arg-type]


def test_key_order_does_not_matter_and_processes_agree():
    one, two = Nested(), Nested(table={"a": None, "b": 1})
    assert fingerprint(stage(one)) == fingerprint(stage(two))
    code = (
        "from toy_stages import *; from momo_platform.stages import fingerprint;"
        "print(fingerprint(Stage('a', add, Toy(3))))"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert printed.stdout.strip() == fingerprint(stage(Toy(3)))


@pytest.mark.parametrize(
    "value, place",
    [(float("nan"), r"config\.toy\.value"), ({1}, "value is a set"), (print, "value is a")],
)
def test_values_without_canonical_form_are_refused_with_their_place(value, place):
    config = Nested(toy=dataclasses.replace(Toy(), value=value))
    with pytest.raises(NotCanonical, match=place):
        canonical(config)


def test_two_stages_of_one_name_are_refused():
    one = Stage("a", add, Toy(1))
    with pytest.raises(ValueError, match="two different stages are named 'a'"):
        all_stages([one, Stage("b", add, Toy(), {"x": Stage("a", add, Toy(2))})])
    same = Stage(
        "c", add, Toy(1), {"x": one, "y": Stage("d", add, Toy(), {"x": Stage("a", add, Toy(1))})}
    )
    assert [s.name for s in all_stages([same])] == ["a", "d", "c"]


def test_a_chain_may_be_longer_than_pythons_recursion():
    last = Stage("s0", add, Toy())
    for i in range(1, 3000):
        last = Stage(f"s{i}", add, Toy(), {"up": last})
    assert len(all_stages([last])) == 3000
    assert len(fingerprint(last)) == 12
