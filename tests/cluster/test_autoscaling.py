"""Nodes that come when a graph needs them and go when it does not: Ray's fake provider."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


@pytest.fixture
def folder():
    """A short path: Ray's sockets lie below."""
    path = Path(tempfile.mkdtemp(prefix="ma-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_gpu_nodes_come_for_a_stage_and_go_when_idle(folder):
    if subprocess.run([*NAMESPACE, "true"]).returncode:
        pytest.skip("this machine allows no process namespace")
    env = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "RAY_TMPDIR")}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    env |= {"PYTHONPATH": os.pathsep.join(map(str, (ROOT / "platform", Path(__file__).parent)))}
    script = Path(__file__).parent / "autoscaled.py"
    done = subprocess.run(
        [*NAMESPACE, sys.executable, str(script), str(folder)],
        env=env,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["stages"] == {"data": {"CPU": 1.0}, "train": {"CPU": 1.0, "GPU": 2.0}}
    assert result["seen"][0] == ["head"], "no node was there before it was asked for"
    assert any("gpu" in nodes for nodes in result["seen"])
    assert any("waits for nodes with 2 GPU" in detail for detail in result["waited"])
    assert result["left"] == ["head"]
