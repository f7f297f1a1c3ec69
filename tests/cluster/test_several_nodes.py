"""Preset smoke on several Ray nodes with storage on S3, while servers, nodes and drivers die."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.benchmarks.object_store import S3Server
from momo_platform.stages import make_plan, open_storage
from momo_platform.stages.manifest import sha256_of

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
# Two workers of 0.6 CPU never fit on one node of 1 CPU.
STAGES = ("stage1", "stage2", "stage3")
TRAINED = ("stage1-image", "stage2-joint", "stage3-pair")
LONG = {"stage1": 30, "stage2": 200, "stage3": 300}
OPTIONS = ["--preset", "smoke"]
UNTIL = ["--run.until", "stage3-pair"]
for _name in STAGES:
    OPTIONS += [f"--{_name}.train.steps", str(LONG[_name])]
    OPTIONS += [f"--{_name}.train.scaling.cpus-per-worker", "0.6"]
    OPTIONS += [f"--{_name}.train.logging.checkpoint-every-steps", "10"]


@pytest.fixture(scope="module")
def environment():
    """Import path for every process."""
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(ROOT), str(ROOT / "platform")]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        patch.delenv("RAY_ADDRESS", raising=False)
        yield patch


@pytest.fixture(scope="module")
def undisturbed(environment, tmp_path_factory):
    """The same run in a folder on one machine: stage → sha256 of its weights."""
    folder = tmp_path_factory.mktemp("undisturbed")
    log = (folder / "log").open("wb")
    command = [sys.executable, "pipelines/full.py", *OPTIONS, *UNTIL]
    command += ["--storage", str(folder / "runs"), "--cluster", "local"]
    done = subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, timeout=900)
    assert done.returncode == 0, (folder / "log").read_text()[-3000:]
    return weights(open_storage(folder / "runs"))


def weights(storage):
    found = {}
    for manifest in storage.all_manifests():
        for name in manifest.files:
            if name.endswith("model.safetensors") and manifest.stage in TRAINED:
                assert storage.problem(manifest, checksums=True) is None
                found[manifest.stage] = sha256_of(storage.attempt_path(manifest) / name)
    return found


@pytest.fixture
def s3(environment, tmp_path):
    server = S3Server(tmp_path / "s3")
    for name, value in server.environment.items():
        environment.setenv(name, value)
    environment.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    server.start()
    server.make_bucket("runs")
    yield server
    server.kill()


@pytest.fixture
def cluster(s3):
    """A head that takes no work and two nodes of one CPU."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


class Driver:
    """`pipelines/full.py` in a process group of its own."""

    def __init__(self, address, storage, log):
        self.log = log
        command = [sys.executable, str(ROOT / "pipelines/full.py"), *OPTIONS]
        command += ["--storage", storage.uri, "--cluster", address]
        with log.open("ab") as file:
            # not in the checkout: with a bucket, `runs/latest` of the current folder is moved
            self.process = subprocess.Popen(
                command, cwd=log.parent, stdout=file, stderr=file, start_new_session=True
            )

    def text(self):
        return self.log.read_text()[-4000:]

    def wait_for(self, condition, seconds=400):
        """Until `condition()`; the driver must live."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.2)

    def end(self, seconds=600):
        assert self.process.wait(timeout=seconds) == 0, self.text()


def fingerprints(storage):
    """Stage → fingerprint."""
    from pipelines.full import parse
    from pipelines.graph import build_graph

    graph = build_graph(parse(OPTIONS))
    plan = make_plan([graph["report"]], storage)
    return {e.name: e.fingerprint for e in plan.entries}


def test_a_run_outlives_its_store_a_node_and_its_driver(undisturbed, cluster, s3, tmp_path):
    storage = open_storage("s3://runs/several")
    keys = fingerprints(storage)

    def has_checkpoint(name):
        return lambda: (storage.newest_checkpoint(name, keys[name]) or 0) >= 10

    driver = Driver(cluster.address, storage, tmp_path / "log")
    try:
        driver.wait_for(has_checkpoint("stage1-image"))
        s3.kill()
        time.sleep(3)
        s3.start()

        driver.wait_for(has_checkpoint("stage2-joint"))
        assert storage.newest_checkpoint("stage2-joint", keys["stage2-joint"]) < LONG["stage2"]
        node = next(iter(cluster.worker_nodes))
        cluster.remove_node(node, allow_graceful=False)
        cluster.add_node(num_cpus=1)

        driver.wait_for(has_checkpoint("stage3-pair"))
        os.killpg(driver.process.pid, signal.SIGKILL)
        driver.process.wait()
        driver = Driver(cluster.address, storage, tmp_path / "log-again")
        driver.end()
    finally:
        if driver.process.poll() is None:
            os.killpg(driver.process.pid, signal.SIGKILL)
    assert weights(storage) == undisturbed
    assert storage.artifact("report", keys["report"]) is not None
    metrics = {n: storage.manifest(n, keys[n]).metrics for n in TRAINED}
    assert [m["world_size"] for m in metrics.values()] == [2, 2, 2]
    assert metrics["stage2-joint"]["resumed_at_step"] >= 10
    assert metrics["stage3-pair"]["resumed_at_step"] >= 10
