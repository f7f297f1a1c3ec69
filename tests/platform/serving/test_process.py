"""The model's process: what it answers, how it fails, and that it never outlives its replica."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from toy_encoder import ByFile, ToyEncoder

from momo_platform.serving.errors import ServiceRefusal
from momo_platform.serving.process import ModelProcess


def ended(pid, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def process():
    return ModelProcess(ToyEncoder, "here", threads=3)


def test_it_answers_as_the_encoder_does(process):
    assert (process.name, process.dimensions, process.alive) == ("toy", 2, True)
    assert process.resident_bytes > 10e6
    assert (process.device, process.device_bytes) == ("cpu", 0)
    assert process.texts(["one", "three"]).tolist() == [[3, 3], [5, 3]]
    assert process.pictures([np.ones((3, 4, 4), np.uint8)]).tolist() == [[48, 0]]
    assert process.attention(np.ones((3, 4, 4)), None).shape == (2, 2)


def test_an_error_there_is_an_error_here_and_it_goes_on(process):
    with pytest.raises(RuntimeError, match="ValueError: a text that raises"):
        process.texts(["raise"])
    assert process.texts(["a"]).shape == (1, 2)


def test_a_gpu_that_failed_ends_the_process_and_the_next_batch_has_a_new_one(process):
    pid = process.pid
    with pytest.raises(RuntimeError, match="CUDA error: uncorrectable ECC"):
        process.texts(["break"])
    assert ended(pid)
    assert process.texts(["a"]).tolist() == [[1, 3]]
    assert process.pid != pid


def test_a_model_that_can_not_be_loaded_says_why():
    with pytest.raises(RuntimeError, match="nowhere/config.json is missing"):
        ModelProcess(ToyEncoder, "nowhere", threads=1)


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_batch_that_a_process_ended_with_is_done_again_by_a_new_one(process, how, tmp_path):
    pid = process.pid
    if how == "kill":
        os.kill(pid, signal.SIGKILL)
    text = f"once {tmp_path / 'done'}" if how == "exit" else "abc"
    assert process.texts([text]).tolist() == [[len(text), 3]]
    assert process.pid != pid
    assert ended(pid)


def test_what_ends_two_processes_is_refused_and_the_next_has_a_new_one(process):
    pid = process.pid
    with pytest.raises(ServiceRefusal, match="process ended twice") as refusal:
        process.texts(["end"])
    assert refusal.value.status == 503
    assert ended(pid)
    assert process.texts(["a"]).tolist() == [[1, 3]]
    assert process.pid != pid
    assert process.alive


def test_another_model_or_none_in_its_folder_is_refused_until_it_is_there_again(tmp_path):
    (tmp_path / "name").write_text("one")
    process = ModelProcess(ByFile, str(tmp_path), threads=3)
    os.kill(process.pid, signal.SIGKILL)
    for name, told in [("two", "another model"), (None, "can't be loaded again")] * 2:
        if name:
            (tmp_path / "name").write_text(name)
        else:
            (tmp_path / "name").unlink()
        with pytest.raises(ServiceRefusal, match=told) as refusal:
            process.texts(["a"])
        assert refusal.value.status == 503
    (tmp_path / "name").write_text("one")
    assert process.texts(["a"]).tolist() == [[1, 3]]


def test_it_ends_with_its_last_reference():
    process = ModelProcess(ToyEncoder, "here", threads=1)
    pid = process.pid
    del process
    gc.collect()
    assert ended(pid)


def test_it_ends_with_its_replica():
    code = (
        "import sys, time; from toy_encoder import ToyEncoder\n"
        "from momo_platform.serving.process import ModelProcess\n"
        "p = ModelProcess(ToyEncoder, 'here', 1); print(p.pid, flush=True); time.sleep(60)"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *(p for p in sys.path if p)])
    command = [sys.executable, "-c", code]
    env = os.environ | {"PYTHONPATH": paths}
    replica = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    assert replica.stdout
    pid = int(replica.stdout.readline())
    assert not ended(pid, 0.2)
    replica.kill()
    replica.wait()
    assert ended(pid)
