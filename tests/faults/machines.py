"""Commands of this checkout in processes on machines that lack something."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {
    "train": ["pipelines/full.py"],
    "plan": ["pipelines/full.py", "--plan"],
    "artifacts": ["-m", "momo_platform"],
    "cluster-check": ["pipelines/cluster_check.py"],
    "flava": ["experiments/flava.py"],
}


def environment(**changes):
    """This process's, with the modules that it finds and no Ray address; None takes a name out."""
    paths = os.pathsep.join(dict.fromkeys(os.path.abspath(p) for p in sys.path if p))
    found = {**os.environ, "PYTHONPATH": paths, **changes}
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_TMPDIR"):
        if name not in changes:
            found.pop(name, None)
    return {name: value for name, value in found.items() if value is not None}


def run(*command, prefix=(), seconds=120, cwd=None, **changes):
    """A finished process; TimeoutExpired where it hangs."""
    return subprocess.run(
        [*prefix, *map(str, command)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        cwd=cwd,
        env=environment(**changes),
    )


def command(name, *arguments):
    """A command line by the script of the command, which is older than the command `momo`."""
    script, *more = COMMANDS[name]
    module = script == "-m"
    start = [script] if module else [str(ROOT / script)]
    return [sys.executable, *start, *more, *map(str, arguments)]


def momo(name, *arguments, **how):
    return run(*command(name, *arguments), **how)


def namespace(*options):
    """The start of a command that runs in a namespace of its own; a test is skipped without."""
    command = ["unshare", *options]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"]).returncode:
        pytest.skip("no such namespace can be made here")
    return command


def mounted(*commands):
    """The start of a command with mounts that it alone sees."""
    script = "; ".join([*(f"{command} || exit 99" for command in commands), 'exec "$@"'])
    return [*namespace("-m"), "sh", "-c", script, "sh"]


def one_line(done, *words, code=2):
    """The command ended with this code and one line that says all the words, and no traceback."""
    told = done.stdout + done.stderr
    assert done.returncode == code, told
    assert "Traceback" not in told
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    last = lines[-1]
    assert all(word in last for word in words), told
    return last
