"""How commands end: signals, read-only and broken storages, output that nobody takes; what they
leave is for others to read."""

import os
import signal
import stat
import subprocess
import sys
import time

import pytest
import shims
from machines import command, environment, momo, mounted, one_line, run
from PIL import Image
from processes import descendants


def pictures(folder, count=12):
    folder.mkdir(exist_ok=True)
    for index in range(count):
        Image.new("RGB", (9 + index, 8), (20 * index, 7, 9)).save(folder / f"{index}.png")
    return folder


def job(folder, storage, *more):
    """A stage that needs none of the demo's corpora."""
    own = ["--image.source", str(pictures(folder / "own")), "--only", "prepare-image"]
    return ["train", "--preset", "smoke", *own, "--cluster", "local", "--storage", storage, *more]


@pytest.mark.parametrize(
    "number, code",
    [(signal.SIGTERM, 143), pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow)],
)
def test_a_signal_to_the_driver_ends_the_run_with_its_code_and_no_lease(tmp_path, number, code):
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("nohup, or the like: the signal is ignored, and stays so")
    storage, log = tmp_path / "runs", tmp_path / "out.txt"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command(*job(tmp_path, str(storage))),
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment(),
        )
    try:
        deadline = time.monotonic() + 120
        while "running" not in log.read_text(encoding="utf-8"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        below = descendants(process.pid)
        process.send_signal(number)
        assert process.wait(60) == code, log.read_text()
    finally:
        process.kill()
    text = log.read_text(encoding="utf-8")
    assert "Traceback" not in text
    assert text.splitlines()[-1].endswith("the same command goes on from the last checkpoint")
    assert not list(storage.glob("*/*/lease.json"))
    deadline = time.monotonic() + 30
    while any(os.path.exists(f"/proc/{pid}/exe") for pid in below):
        assert time.monotonic() < deadline, below
        time.sleep(0.1)


@pytest.mark.parametrize("name", ["train", "flava"])
def test_a_read_only_storage_is_one_line(tmp_path, name):
    storage = tmp_path / "runs"
    storage.mkdir()
    prefix = mounted(f"mount --bind {storage} {storage}", f"mount -o remount,bind,ro {storage}")
    given = job(tmp_path, str(storage))
    if name == "flava":
        given = ["flava", "--budget", "smoke", "--storage", str(storage)]
    one_line(momo(*given, prefix=prefix), str(storage), "--storage")


@pytest.mark.parametrize("error", ["EIO", "ESTALE", "EDQUOT"])
def test_what_a_file_server_refuses_is_one_line(tmp_path, error):
    fault = shims.Fault(("mkdir",), error, "/runs/logs")
    done = momo(*job(tmp_path, str(tmp_path / "runs")), **shims.environment(fault))
    one_line(done, "/runs/logs", os.strerror(getattr(__import__("errno"), error)), "--storage")


def test_a_file_where_a_folder_should_be_is_one_line(tmp_path):
    storage = tmp_path / "runs"
    storage.mkdir()
    (storage / "logs").write_text("mine")
    one_line(momo(*job(tmp_path, str(storage))), str(storage / "logs"), "--storage")


def test_a_deleted_current_folder_is_one_line(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'rmdir ../gone && exec "$@"'
    prefix = ["sh", "-c", script, "sh"]
    done = momo("plan", "--preset", "smoke", prefix=prefix, cwd=gone)
    one_line(done, "current folder was deleted")


def test_a_reader_that_has_seen_enough_is_no_failure(tmp_path):
    prefix = ["bash", "-c", 'set -o pipefail; "$@" | head -n 1', "bash"]
    done = momo("plan", "--preset", "smoke", prefix=prefix, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_may_be_started_without_standard_output(tmp_path):
    prefix = ["sh", "-c", 'exec "$@" >&-', "sh"]
    given = job(tmp_path, str(tmp_path / "runs"))
    one_line(momo(*given, prefix=prefix, TMPDIR="/proc/none"), "/proc/none")


WATCHED = """
import sys, pathlib
from momo_platform.console import Display
from momo_platform.silence import silence
with silence(pathlib.Path("log")) as stream, Display(stream) as display:
    for number in range(2000):
        display.print(f"line {number}")
pathlib.Path("ended").write_text("well")
"""


def test_a_run_outlives_whoever_watches_it(tmp_path):
    prefix = ["bash", "-c", 'set -o pipefail; "$@" | head -n 1', "bash"]
    done = run(sys.executable, "-c", WATCHED, prefix=prefix, cwd=tmp_path)
    assert (tmp_path / "ended").exists(), done.stderr
    assert (done.returncode, done.stdout) == (0, "line 0\n"), done.stderr


FINISH = """
import sys
from types import SimpleNamespace
from momo_platform.stages import open_storage
from momo_platform.stages.manifest import Manifest
from pipelines.full import finish

class Plan(dict):
    entries = property(lambda self: list(self.values()))

storage = open_storage(sys.argv[1])
storage.create()
space = storage.begin("report", "0123456789ab")
(space.output / "report").mkdir()
(space.output / "report" / "table.txt").write_text("the table")
facts = dict(files=storage.describe(space), metrics={}, config={}, inputs={}, git_commit="")
facts |= dict(packages={}, code={}, seconds=1.0, resources={}, created="2026-01-01T00:00:00")
storage.publish(space, Manifest("report", "0123456789ab", 1, space.attempt, **facts))
entry = SimpleNamespace(name="report", fingerprint="0123456789ab", action="cached")
finish(Plan(report=entry), storage)
"""


@pytest.mark.parametrize("lacking", ["symbolic links", "a free name"])
def test_without_the_link_to_the_newest_report_its_place_is_told(tmp_path, lacking):
    storage, faults = tmp_path / "runs", {}
    if lacking == "symbolic links":
        faults = shims.environment(shims.no_symlinks("latest"))
    else:  # a copy that followed the link, as `cp -rL` makes it
        (storage / "latest" / "report").mkdir(parents=True)
    done = run(sys.executable, "-c", FINISH, storage, **faults)
    assert done.returncode == 0, done.stderr
    place = next(storage.glob("report/*/attempt-*"))
    assert f"{place}/report/index.html" in done.stdout
    assert f"{place}/model" in done.stdout
    assert "--model" in done.stdout
    assert not list(storage.glob(".latest-*"))


SAVE = """
import sys
from pathlib import Path
from momo.config import ModelConfig
from momo.export import save
from momo.model import build_model
shape = ModelConfig(image_size=16, patch_size=8, vocab_size=90, width=16, depth=1, heads=2)
save(build_model(shape, 0), Path(sys.argv[1]))
"""


@pytest.mark.parametrize("mask, mode", [("022", 0o644), ("027", 0o640)])
def test_exported_weights_may_be_read_as_any_new_file(tmp_path, mask, mode):
    prefix = ["sh", "-c", f'umask {mask}; exec "$@"', "sh"]
    done = run(sys.executable, "-c", SAVE, tmp_path / "model", prefix=prefix)
    assert done.returncode == 0, done.stderr
    modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in (tmp_path / "model").iterdir()}
    assert modes == {"model.safetensors": mode, "config.json": mode}
