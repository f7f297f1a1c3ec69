"""What Ray keeps to itself is used in one file, and is there in the installed version."""

import ast
import inspect
import types
from pathlib import Path

import pytest
import ray
import yaml
from jsonschema import ValidationError

from momo_platform import ray_internals

ROOT = Path(__file__).parents[2]


def private_imports(file):
    """Dotted names below `ray` of which a part begins with an underscore."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            top, *rest = name.split(".")
            if top == "ray" and any(part.startswith("_") for part in rest):
                yield name


def test_no_other_file_imports_them():
    files = [
        f for part in ("platform", "pipelines", "experiments") for f in (ROOT / part).rglob("*.py")
    ]
    found = {f.relative_to(ROOT).as_posix() for f in files if list(private_imports(f))}
    assert len(files) > 100
    assert found == {"platform/momo_platform/ray_internals.py"}


def test_the_tokens_loader_can_be_asked_and_told_to_look_again(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x" * 64)
    loader = ray_internals.token_loader()
    loader.reset_cache()
    assert loader.has_token(ignore_auth_mode=True)
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    loader.reset_cache()


def test_without_a_ray_of_its_own_no_process_of_it_is_dead():
    assert ray_internals.dead_processes() == []


def test_the_processes_of_a_node_are_told_by_the_names_that_a_run_looks_for(monkeypatch):
    from ray._private import ray_constants, worker
    from ray._private.node import Node

    assert {ray_constants.PROCESS_TYPE_RAYLET, ray_constants.PROCESS_TYPE_GCS_SERVER} == {
        *("raylet", "gcs_server")
    }
    node = types.SimpleNamespace(dead_processes=lambda: [("raylet", None)])
    assert callable(Node.dead_processes)
    monkeypatch.setattr(worker, "_global_node", node)
    assert ray_internals.dead_processes() == ["raylet"]


def test_a_clusters_file_is_checked_by_rays_schema():
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    ray_internals.validated_cluster(config)
    with pytest.raises(ValidationError):
        ray_internals.validated_cluster(config | {"max_workers": "many"})


class Group:
    """A worker group's outside."""

    def __init__(self, **status):
        self.called, self.status = [], types.SimpleNamespace(errors=[], finished=False)
        vars(self.status).update(status)

    def execute(self, function, *arguments):
        self.called.append((function, *arguments))

    execute_async = execute

    def get_latest_poll_status(self):
        return self.status


def test_workers_are_told_of_their_start_and_of_another_size(monkeypatch):
    from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
    from ray.train.v2._internal.execution.worker_group import WorkerGroup

    for name in ("execute", "execute_async", "get_latest_poll_status"):
        assert hasattr(WorkerGroup, name)
    monkeypatch.setattr(ray, "get", lambda refs, timeout: refs)
    callback = ray_internals.worker_group_callback(print, repr, 7.0)
    for name, function in vars(type(callback)).items():
        if inspect.isfunction(function):  # each of Ray's own hooks, by its own arguments
            (own,) = [
                getattr(c, name)
                for c in (ControllerCallback, WorkerGroupCallback)
                if name in vars(c)
            ]
            assert list(inspect.signature(function).parameters) == list(
                inspect.signature(own).parameters
            )
    group = Group()
    callback.after_worker_group_start(group)
    callback.before_controller_execute_resize_decision(None)
    assert group.called == [(print,), (repr, 7.0)]
    callback.before_controller_execute_resize_decision(None)  # once: the group leaves
    assert len(group.called) == 2
    for over in (Group(finished=True), Group(errors=["lost"])):
        callback.after_worker_group_start(over)
        callback.before_controller_execute_resize_decision(None)
        assert over.called == [(print,)]
    gone = Group()
    callback.after_worker_group_start(gone)
    callback.before_worker_group_shutdown(gone)
    callback.before_controller_execute_resize_decision(None)
    assert gone.called == [(print,)]
