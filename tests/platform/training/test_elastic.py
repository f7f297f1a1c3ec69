"""Elastic workers on a real cluster: a node is lost, training goes on with one worker; a node comes
and there are two again; every sample is used once, and the weights are an undisturbed run's."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from momo_platform.training.checkpoint import newest_checkpoint
from momo_platform.training.records import read_records
from tests.platform.training import elastic_driver
from tests.platform.training.toy_runs import make_trainer, weights

ROOT = Path(__file__).parents[3]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def cluster(monkeypatch):
    """A head that takes no work and two nodes of one CPU."""
    from ray.cluster_utils import Cluster

    paths = [str(ROOT), str(ROOT / "platform"), str(ROOT / "tests")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    # A lost node is believed to be there for up to 20 seconds: how long two workers are waited for.
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "30")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


def groups(folder, modality="a"):
    """Group's start → step → ranges of rows that its ranks read."""
    found: dict[float, dict[int, list[tuple[int, int, int]]]] = {}
    for file in folder.glob(f"{modality}-*"):
        steps = found.setdefault(float(file.name.split("-")[1]), {})
        for line in file.read_text().splitlines():
            step, first, last, world = map(int, line.split())
            steps.setdefault(step, []).append((first, last, world))
    return dict(sorted(found.items()))


def newest_group(folder):
    """Workers of the group that started last, and its last step; (0, 0) before the first."""
    started = groups(folder / "seen")
    if not started:
        return 0, 0
    steps = list(started.values())[-1]
    if not steps:
        return 0, 0
    return next(iter(steps.values()))[0][2], max(steps)


def test_training_goes_on_with_fewer_workers_and_with_more(cluster, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", elastic_driver.__name__, cluster.address, str(folder)]
    with (tmp_path / "log").open("wb") as log:
        driver = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    def wait_for(condition, what):
        deadline = time.monotonic() + 500
        while not condition():
            told = f"{what}: {(tmp_path / 'log').read_text()[-3000:]}"
            assert driver.poll() is None, told
            assert time.monotonic() < deadline, told
            time.sleep(0.2)

    try:
        wait_for(lambda: newest_group(folder)[0] == 2 and newest_group(folder)[1] >= 8, "two")
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        lost_at = newest_checkpoint(folder / "checkpoints")
        assert lost_at is not None
        wait_for(lambda: newest_group(folder)[0] == 1, "one")
        cluster.add_node(num_cpus=1)
        wait_for(lambda: newest_group(folder)[0] == 2, "two again")
        assert driver.wait(timeout=600) == 0, (tmp_path / "log").read_text()[-3000:]
    finally:
        if driver.poll() is None:
            driver.kill()
            driver.wait()

    for modality in "ab":
        last: dict[int, list[tuple[int, int, int]]] = {}
        for steps in groups(folder / "seen", modality).values():
            resumed = min(steps, default=0)  # what came after this checkpoint is done again
            last = {s: parts for s, parts in last.items() if s < resumed} | steps
        assert sorted(last) == list(range(elastic_driver.TRAIN.steps))
        for parts in last.values():
            covered = [row for first, end, _ in sorted(parts) for row in range(first, end)]
            assert covered == list(range(elastic_driver.ROWS))
        assert {parts[0][2] for parts in last.values()} == {1, 2}  # some steps by one, some by two
    # The group of one was asked to save before it made room for two: nothing was done twice.
    one, two = list(groups(folder / "seen").values())[-2:]
    assert max(one) + 1 == min(two)

    records = read_records(folder / "output" / "metrics.jsonl")
    assert [r["step"] for r in records] == list(range(1, elastic_driver.TRAIN.steps + 1))
    undisturbed = make_trainer(0, 1, tmp_path / "undisturbed", elastic_driver.TRAIN)
    undisturbed.run()
    undisturbed.finish()
    expected = {n.removeprefix("task."): p for n, p in weights(undisturbed).items()}
    found = torch.load(folder / "output" / "weights.pt")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
