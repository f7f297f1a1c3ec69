"""Roles as a stage's function takes them, and those that a graph may give it."""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from toy_stages import Toy, add

from momo_platform.stages import Artifact, Stage, by_role
from momo_platform.stages.inputs import ArtifactFolder, ArtifactPlace, Within, by_role_later
from momo_platform.stages.storage.place import Place


class Listed(ArtifactFolder):
    file = Within("rows.txt")


class Named(Listed):
    names = Within("names.txt")


@by_role
def join(
    config, context, *, rows: Listed, model: Artifact, names: Named | None = None
) -> dict[str, object]:
    """A function with a docstring."""
    return {"rows": rows, "model": model, "names": names}


@by_role
def gather(config, context, *, rows: Listed, others: Mapping[str, Listed]) -> dict[str, object]:
    return {"rows": rows, "others": others}


class Shelf(ArtifactPlace):
    """Read where it lies."""


@by_role
def read(config, context, *, shelf: Shelf) -> dict[str, object]:
    return {"shelf": shelf}


@by_role
def start(config, context) -> dict[str, object]:
    return {"of": config}


@dataclass(frozen=True, kw_only=True)
class Taken:
    rows: Listed
    parts: Mapping[str, Named]
    names: Named | None = None


@by_role_later(Taken)
def train(config, context, inputs: Callable[[], Taken]) -> dict[str, object]:
    return {"later": inputs}


UP = Stage("up", add, Toy())
A, B, C = (Artifact(name, "0", Path("/", name), None) for name in "abc")


def test_a_keyword_is_what_lies_in_the_artifact_of_its_role():
    found = join(None, {"rows": A, "model": B, "names": C}, None)
    assert found == {"rows": Listed(Path("/a")), "model": B, "names": Named(Path("/c"))}
    assert found["rows"].file == Path("/a/rows.txt")
    assert (found["names"].file, found["names"].names) == (
        Path("/c/rows.txt"),
        Path("/c/names.txt"),
    )
    assert join(None, {"rows": A, "model": B}, None)["names"] is None
    assert start(3, {}, None) == {"of": 3}


def test_what_is_read_where_it_lies_gets_the_place_and_fetches_nothing():
    there = SimpleNamespace(place=Place("s3://bucket/runs", "a/0/attempt-1"))  # it has no path
    assert read(None, {"shelf": there}, None)["shelf"] == Shelf(there.place)
    assert Shelf(Path("/a")) == Shelf(Place("/a")) != Shelf(Place("/b"))


def test_a_mapping_has_the_roles_that_no_other_keyword_names():
    found = gather(None, {"b-1": B, "rows": A, "c": C}, None)
    assert found["others"] == {"b-1": Listed(Path("/b")), "c": Listed(Path("/c"))}
    assert gather(None, {"rows": A}, None)["others"] == {}


def test_only_the_artifacts_of_its_roles_are_looked_up_and_each_once():
    asked = []

    class Storage(dict):
        def __getitem__(self, role):
            asked.append(role)
            return super().__getitem__(role)

    gather(None, Storage(rows=A, b=B), None)
    assert asked == ["rows", "b"]


def test_inputs_of_an_early_start_are_waited_for_when_they_are_asked_for():
    waited = []

    def resolve():
        waited.append(1)
        return {"rows": A, "image": B}

    later = train(None, {}, SimpleNamespace(resolve_inputs=resolve))["later"]
    assert not waited
    assert later() == Taken(rows=Listed(Path("/a")), parts={"image": Named(Path("/b"))})
    sent = pickle.loads(
        pickle.dumps(train(None, {}, SimpleNamespace(resolve_inputs=dict))["later"])
    )
    with pytest.raises(TypeError, match="rows"):
        sent()


def test_functions_keep_their_name_by_which_workers_find_them():
    for run in (join, gather, start, train):
        assert pickle.loads(pickle.dumps(run)) is run
    assert join.__doc__ == "A function with a docstring."
    assert Stage("a", start, None).sources == (__name__,)


@pytest.mark.parametrize(
    "run, roles, said",
    [
        (join, ["rows"], "'model' is missing; its roles are: rows, model, names"),
        (join, ["rows", "model", "name"], "there is no 'name'; its"),
        (join, ["name"], "'rows' is missing; 'model' is missing; there is no 'name'; its"),
        (gather, ["other"], "'rows' is missing"),
        (train, ["names", "image"], "'rows' is missing; its roles are: rows, names"),
        (start, ["up"], "there is no 'up'; its roles are: none"),
    ],
)
def test_a_graph_with_other_roles_is_refused_where_it_is_built(run, roles, said):
    with pytest.raises(TypeError, match=f"inputs of stage 'toy': {said}"):
        Stage("toy", run, Toy(), dict.fromkeys(roles, UP))


@pytest.mark.parametrize(
    "run, roles",
    [
        (join, ["rows", "model"]),
        (join, ["rows", "model", "names"]),
        (gather, ["rows"]),
        (gather, ["rows", "b-1", "c"]),
        (train, ["rows", "image"]),
        (start, []),
        (add, ["anything"]),
    ],
)
def test_a_graph_with_the_right_roles_is_built(run, roles):
    assert list(Stage("toy", run, Toy(), dict.fromkeys(roles, UP)).inputs) == roles
