"""The preloaded faults strike where they should, and nowhere else."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import shims

SAYS = """
import errno, fcntl, json, os, sys
def tried(what):
    try:
        what()
        return "fine"
    except OSError as error:
        return errno.errorcode[error.errno]
def write(name, flags=os.O_WRONLY | os.O_CREAT):
    file = os.open(name, flags)
    try:
        os.write(file, b"text")
    finally:
        os.close(file)
os.chdir(sys.argv[1])
"""


def run(folder: Path, code: str, environment: dict[str, str]) -> dict:
    """What `code` leaves in `answers`, run in `folder` by a process of its own."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{SAYS}\nanswers = {{}}\n{code}\nprint(json.dumps(answers))",
            folder,
        ],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_wall_clock_is_stepped_while_a_process_runs_and_steady_clocks_are_not(tmp_path):
    clock = tmp_path / "clock"
    shims.step_clock(clock, 3600)
    answers = run(
        tmp_path,
        """
import datetime, threading, time
wall, steady = time.time(), time.monotonic()
open("clock", "w").write("-3600")
answers["stepped"] = time.time() - wall
answers["date"] = datetime.datetime.now().timestamp() - wall
answers["steady"] = time.monotonic() - steady
answers["first"] = wall
waits = time.monotonic()
threading.Event().wait(0.05)  # must not wait an hour more
answers["waited"] = time.monotonic() - waits
""",
        shims.environment(clock=clock),
    )
    assert abs(answers["stepped"] + 7200) < 60
    assert abs(answers["date"] + 7200) < 60
    assert answers["steady"] < 60
    assert answers["waited"] < 60
    assert abs(answers["first"] - time.time() - 3600) < 60


def test_links_symlinks_and_locks_fail_on_the_named_paths_alone(tmp_path):
    (tmp_path / "shared").mkdir()
    answers = run(
        tmp_path,
        """
for place in ["shared", "."]:
    file = open(f"{place}/file", "w")
    answers[place] = [
        tried(lambda: os.link(f"{place}/file", f"{place}/linked")),
        tried(lambda: os.symlink("file", f"{place}/symlinked")),
        tried(lambda: fcntl.flock(file, fcntl.LOCK_EX)),
        tried(lambda: fcntl.lockf(file, fcntl.LOCK_EX)),
        tried(lambda: file.write("text")),
    ]
""",
        shims.environment(
            shims.no_links("/shared/"), shims.no_symlinks("/shared/"), shims.no_locks("/shared/")
        ),
    )
    assert answers["shared"] == ["EPERM", "EPERM", "ENOLCK", "ENOLCK", "fine"]
    assert answers["."] == ["fine"] * 5


def test_a_fault_lasts_while_its_file_exists(tmp_path):
    answers = run(
        tmp_path,
        """
write("there")
open("full", "w").close()
answers["full"] = [tried(lambda: write("there")), tried(lambda: os.listdir(".") and None)]
os.remove("full")
open("read-only", "w").close()
answers["read-only"] = [
    tried(lambda: write("new")),
    tried(lambda: os.rename("there", "gone")),
    tried(lambda: os.mkdir("folder")),
    tried(lambda: open("there").read()),
]
""",
        shims.environment(
            shims.full_disk(f"{tmp_path}/", tmp_path / "full"),
            shims.read_only(f"{tmp_path}/", tmp_path / "read-only"),
        ),
    )
    assert answers["full"] == ["ENOSPC", "fine"]
    assert answers["read-only"] == ["EROFS", "EROFS", "EROFS", "fine"]


def test_a_counted_fault_strikes_as_often_over_all_processes(tmp_path):
    fault = shims.times(3, ("write", "sync"), "EIO", "/results/", tmp_path / "struck")
    (tmp_path / "results").mkdir()
    code = 'answers["tries"] = [tried(lambda: write("results/file")) for _ in range(2)]'
    tries = [run(tmp_path, code, shims.environment(fault))["tries"] for _ in range(3)]
    assert tries == [["EIO", "EIO"], ["EIO", "fine"], ["fine", "fine"]]
    assert shims.struck(fault) == 3


def test_reading_fails_where_a_server_forgot_its_files(tmp_path):
    (tmp_path / "kept").write_text("text")
    fault = shims.times(2, ("read", "stat"), "ESTALE", "/kept", tmp_path / "struck")
    answers = run(
        tmp_path,
        """
answers["stat"] = [tried(lambda: os.stat("kept"))]
answers["read"] = [tried(lambda: open("kept").read()) for _ in range(2)]
""",
        shims.environment(fault),
    )
    assert answers == {"stat": ["ESTALE"], "read": ["ESTALE", "fine"]}


def test_without_faults_nothing_changes(tmp_path):
    answers = run(
        tmp_path,
        """
import time
write("file")
os.link("file", "linked")
answers["now"] = time.time()
""",
        shims.environment(),
    )
    assert abs(answers["now"] - time.time()) < 60
