"""Which Ray a run uses; no Ray is started here."""

import socket

import pytest

from momo_platform.cluster import current_cluster_file, find_address, growth, start_ray
from momo_platform.stages.errors import UserError


@pytest.fixture
def cluster_file(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    path = current_cluster_file()
    assert path == tmp_path / "ray" / "ray_current_cluster"
    path.parent.mkdir()
    return path


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def silent():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"127.0.0.1:{port}"


def test_without_any_cluster_ray_is_local(cluster_file):
    assert find_address("auto") == ("local", "")


def test_a_live_cluster_of_this_machine_is_found(cluster_file, listening):
    cluster_file.write_text(listening)
    assert find_address("auto") == (listening, "")
    assert find_address("local") == ("local", "")


def test_a_stale_cluster_file_is_named(cluster_file, silent):
    cluster_file.write_text(silent)
    for asked in ("auto", "local"):
        address, notice = find_address(asked)
        assert address == "local"
        assert str(cluster_file) in notice
        assert "delete" in notice


def test_ray_address_wins_over_the_file(cluster_file, listening, silent, monkeypatch):
    cluster_file.write_text(silent)
    monkeypatch.setenv("RAY_ADDRESS", listening)
    assert find_address("auto")[0] == listening


def test_an_address_that_does_not_answer_is_an_error(cluster_file, silent):
    with pytest.raises(UserError, match=f"no Ray cluster answers at {silent}"):
        find_address(silent)


@pytest.mark.parametrize("slow_starts", [1, 9])
def test_a_start_that_takes_too_long_is_tried_once_more(slow_starts, monkeypatch):
    tries = []

    def init(*_, **__):
        tries.append(1)
        if len(tries) <= slow_starts:
            raise Exception("The current node timed out during startup. This could happen because")

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    if slow_starts == 1:
        assert start_ray("local").owned
    else:
        with pytest.raises(UserError, match="did not start in time"):
            start_ray("local")
    assert len(tries) == 2


def test_what_a_cluster_grows_to_is_read_from_the_heads_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MOMO_CLUSTER_RESOURCES", raising=False)
    assert growth() == {}
    file = tmp_path / "ray_bootstrap_config.yaml"
    file.write_text(
        "head_node_type: head\nmax_workers: 9\navailable_node_types:\n"
        "  head: {resources: {CPU: 2}}\n"
        "  data: {resources: {CPU: 32}, max_workers: 2}\n"
        "  gpu: {resources: {CPU: 96, GPU: 8}, max_workers: 4}\n"
    )
    assert growth() == {"CPU": 2 + 64 + 384, "GPU": 32}
    file.write_text(file.read_text().replace("max_workers: 9", "max_workers: 1"))
    assert growth() == {"CPU": 2 + 96, "GPU": 8}
    file.write_text("nothing")
    with pytest.raises(UserError, match="no cluster's config"):
        growth()
    monkeypatch.setenv("MOMO_CLUSTER_RESOURCES", '{"CPU": 64, "GPU": 8}')
    assert growth() == {"CPU": 64, "GPU": 8}
    monkeypatch.setenv("MOMO_CLUSTER_RESOURCES", "64 CPUs")
    with pytest.raises(UserError, match="MOMO_CLUSTER_RESOURCES='64 CPUs'"):
        growth()
