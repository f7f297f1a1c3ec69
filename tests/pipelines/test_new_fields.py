"""A field more in any config of any stage, with what was done before as its default, leaves all
fingerprints as they are."""

import dataclasses
import functools

import pytest

from momo_platform.stages import canonical, fingerprint
from momo_platform.stages.stage import all_stages
from pipelines import evaluate, index
from pipelines.graph import build_graph
from pipelines.presets import PRESETS
from pipelines.trials import TrialBase, build_trial


@functools.cache
def grown(kind):
    """A config as it might be tomorrow."""
    added = dataclasses.field(default=7, metadata={"absent_at": 7})
    return dataclasses.make_dataclass(
        kind.__name__, [("added", int, added)], bases=(kind,), frozen=True, kw_only=True
    )


def rebuilt(value, kind, added, seen):
    """`value` with a field more in each dataclass that is `kind`, wherever it stands."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        fields = {name: rebuilt(one, kind, added, seen) for name, one in fields.items()}
        seen.add(type(value))
        new = object.__new__(grown(kind) if type(value) is kind else type(value))
        vars(new).update(fields | ({"added": added} if type(value) is kind else {}))
        return new
    if isinstance(value, dict):
        return {key: rebuilt(one, kind, added, seen) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(rebuilt(one, kind, added, seen) for one in value)
    return value


def graphs(folder):
    """The last stage of each kind of graph."""
    smoke = PRESETS["smoke"]()
    yield build_graph(smoke)["report"]
    yield build_trial(TrialBase(smoke), [{}], 0)
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    own = ["--model", str(model), "--preset", "smoke"]
    yield evaluate.build_graph(evaluate.parse(own))["comparison"]
    yield index.index_stage(index.parse(own))


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    targets = graphs(tmp_path_factory.mktemp("graphs"))
    return [stage for target in targets for stage in all_stages([target])]


def kinds_in(config):
    seen = set()
    rebuilt(config, None, 0, seen)
    return seen


def with_field(stage, kind, added):
    return dataclasses.replace(stage, config=rebuilt(stage.config, kind, added, set()))


def counts(config, kind):
    """Whether any `kind` in it is part of the config's meaning."""
    return canonical(rebuilt(config, kind, 8, set())) != canonical(config)


def test_a_field_more_at_its_frozen_default_changes_no_fingerprint(stages):
    meant, tried = set(), set()
    for stage in stages:
        before = fingerprint(stage)
        for kind in kinds_in(stage.config):
            assert fingerprint(with_field(stage, kind, 7)) == before, (stage.name, kind)
            tried.add(kind.__name__)
            if counts(stage.config, kind):
                assert fingerprint(with_field(stage, kind, 8)) != before, (stage.name, kind)
                meant.add(kind.__name__)
    assert len(tried) > 25, tried
    assert tried - meant == {"ScalingConfig", "LoggingConfig", "ValidationConfig"}
