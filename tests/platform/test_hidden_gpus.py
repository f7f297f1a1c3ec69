"""A task that asked for no GPU sees none, on any Ray; the model's process sees its replica's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from momo_platform.machine import with_our_modules

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", "start"])
def test_a_task_sees_the_gpus_it_asked_for_and_no_others(kind, tmp_path):
    env = with_our_modules(RAY_OVERRIDE_RESOURCES='{"GPU": 1}' if kind == "local" else "{}")
    env["PYTHONPATH"] += f":{HERE}:{HERE / 'serving'}"
    for name in ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "CUDA_VISIBLE_DEVICES", "RAY_ADDRESS"):
        env.pop(name, None)
    command = [sys.executable, str(HERE / "gpu_seers.py"), kind]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "none": "",
        "one": "0",
        "none again": "",
        "half": "0",
        "actor": "",
        "model on the CPU": "",
        "model on its GPU": "0",
    }
