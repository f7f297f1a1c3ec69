"""Users without a home, odd variables, narrow encodings, Rays that don't fit."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from machines import ROOT, environment, momo, namespace, one_line, run

from momo_platform.machine import free_ports

RAY = """
from momo_platform.cluster import start_ray
with start_ray("local", object_store_mb=80):
    import ray
    @ray.remote
    def imports():
        import ray.train
        return "ray trains"
    print(ray.get(imports.remote()), ray.cluster_resources()["CPU"])
"""
NOWHERE = dict.fromkeys(("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"))


@pytest.mark.parametrize(
    "prefix, changes",
    [
        (["unshare", "-U", "--map-user=12345"], {**NOWHERE, "TMPDIR": "scratch"}),
        (["taskset", "-c", str(min(os.sched_getaffinity(0)))], {"HOME": "/proc/none"}),
    ],
    ids=["no home, no name, a relative TMPDIR", "a home that can't be written"],
)
def test_a_private_ray_needs_no_home_and_takes_the_cores_it_may(prefix, changes):
    if prefix[0] == "unshare":
        namespace("-U", "--map-user=12345")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # short, for Ray's sockets
        started = run(sys.executable, "-c", RAY, prefix=prefix, cwd=folder, **changes)
    cores = 1 if prefix[0] == "taskset" else len(os.sched_getaffinity(0))
    assert started.stdout == f"ray trains {float(cores)}\n", started.stderr


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"TMPDIR": "/tmp/" + "x" * 80}, ["TMPDIR", "RAY_TMPDIR", "shorter"]),
        ({"TMPDIR": "/proc/none"}, ["TMPDIR", "/proc/none"]),
        ({"RAY_ADDRESS": "ray://127.0.0.1:9"}, ["RAY_ADDRESS", "ray://127.0.0.1:9"]),
        (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/proc/none"},
            ["RAY_AUTH_TOKEN_PATH", "/proc/none"],
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_ray_can_not_start_with_is_one_line(tmp_path, changes, words):
    (tmp_path / "a.txt").write_text("a line\nanother line\n")
    only = ["--image.source", str(tmp_path), "--only", "prepare-image"]
    picture(tmp_path / "a.png")
    done = momo("train", "--preset", "smoke", *only, "--storage", str(tmp_path / "runs"), **changes)
    one_line(done, *words)


def picture(file):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(file)


ARTIFACT = """
import sys
from momo_platform.stages import open_storage
from momo_platform.stages.manifest import Manifest
storage = open_storage(sys.argv[1])
space = storage.begin("report", "0123456789ab")
facts = dict(files={}, metrics={}, config={}, inputs={}, git_commit="", packages={}, code={})
facts |= dict(seconds=1.0, resources={}, created="2026-01-01T00:00:00")
storage.publish(space, Manifest("report", "0123456789ab", 1, space.attempt, **facts))
"""
ASCII = {"PYTHONIOENCODING": "ascii"}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": None}


@pytest.mark.parametrize("changes", [ASCII, C_LOCALE], ids=["ascii", "C"])
def test_commands_print_whatever_the_encoding(tmp_path, changes):
    asked = momo("train", "--help", **changes)
    assert asked.returncode == 0, asked.stderr
    storage = tmp_path / "runs"
    written = run(sys.executable, "-c", ARTIFACT, storage)
    assert written.returncode == 0, written.stderr
    listed = momo("artifacts", "list", "--storage", storage, **changes)
    assert listed.returncode == 0, listed.stderr
    assert "report/0123456789ab" in listed.stdout
    assert "?" in listed.stdout  # for the dash of what nobody uses


def test_files_are_read_as_utf8_whatever_the_locale(tmp_path):
    file = tmp_path / "mine.yaml"
    text = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
    file.write_text(f"# Häuflein\n{text}", encoding="utf-8")
    done = momo("cluster-check", str(file), cwd=ROOT, **C_LOCALE)
    assert done.returncode == 0, done.stderr
    assert "mine.yaml" in done.stdout


COMMIT = "from momo_platform.stages.manifest import git_commit; print(git_commit())"


def test_the_commit_is_that_of_the_code_whatever_gits_variables_say(tmp_path):
    """A hook or `git rebase --exec` sets them, for another repository."""
    import momo_platform

    tree = Path(momo_platform.__file__).parent
    ours = subprocess.run(["git", "-C", str(tree), "rev-parse", "HEAD"], capture_output=True)
    if ours.returncode:
        pytest.skip("the code is no git checkout")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    author = ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty"]
    subprocess.run(["git", "-C", str(tmp_path), *author, "-m", "other"], check=True)
    for changes in ({"GIT_DIR": str(tmp_path / ".git")}, {"GIT_CEILING_DIRECTORIES": str(tree)}):
        done = run(sys.executable, "-c", COMMIT, **changes)
        assert done.stdout.strip().removesuffix("+changes") == ours.stdout.decode().strip()


def test_caches_are_no_folders_of_the_current_one(tmp_path):
    code = "from momo_platform.cache import cache_root; print(cache_root())"
    relative = run(sys.executable, "-c", code, XDG_CACHE_HOME="cache", HOME=str(tmp_path))
    assert relative.stdout.strip() == str(tmp_path / ".cache" / "momo")
    prefix = namespace("-U", "--map-user=12345")
    homeless = run(sys.executable, "-c", code, prefix=prefix, **NOWHERE, XDG_CACHE_HOME=None)
    assert Path(homeless.stdout.strip()).is_absolute(), homeless.stderr


@pytest.mark.slow
def test_a_cluster_of_another_version_is_one_line_with_both(tmp_path):
    """Ray asks its own version of `ray.__version__`, which the head takes from a file here."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Older:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'ray._version':\n"
        "            import importlib.util as u\n"
        "            return u.spec_from_file_location(name, __file__[:-16] + 'older.py')\n"
        "sys.meta_path.insert(0, Older())\n"
    )
    (tmp_path / "older.py").write_text("version, commit = '2.40.0', 'x'\n")
    (port,) = free_ports(1)
    head = Path(sys.executable).with_name("ray")
    scratch = {"RAY_TMPDIR": f"/tmp/older-{os.getpid()}", "RAY_AUTH_MODE": "disabled"}
    older = environment(**scratch)
    older["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{older['PYTHONPATH']}"
    start = [str(head), "start", "--head", f"--port={port}", "--num-cpus=1", "--block"]
    process = subprocess.Popen(
        [*start, "--include-dashboard=false", "--disable-usage-stats"],
        env=older,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        from momo_platform.cluster import answers

        deadline = time.monotonic() + 60
        while not answers(f"127.0.0.1:{port}"):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        picture(tmp_path / "a.png")
        only = ["--image.source", str(tmp_path), "--only", "prepare-image"]
        to = ["--cluster", f"127.0.0.1:{port}", "--storage", str(tmp_path / "runs")]
        done = momo("train", "--preset", "smoke", *only, *to, **scratch)
        one_line(done, "2.40.0", f"127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(30)
