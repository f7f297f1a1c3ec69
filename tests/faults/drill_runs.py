"""The command that a drill runs again and again, and what a fault may do to it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import shims
from processes import descendants

ROOT = Path(__file__).resolve().parents[2]
# A worker of a private Ray in a namespace of its own, where /dev/shm is as small as a container's.
SHARED_MEMORY_MB = 1024
_ENDINGS = re.compile(
    r"^(error: |stage \S+ failed: |Ray ended under |this machine's clock |interrupted|stopped)",
    re.MULTILINE,
)

_TRACE = re.compile(r'^Traceback \(most recent call last\)|^  File ".*", line \d+', re.MULTILINE)


@dataclass
class Run:
    """One start of the command; its output goes to a file."""

    number: int
    process: subprocess.Popen[bytes]
    output: Path
    killed: bool = False  # by the drill: its end says nothing of the product
    started: float = field(default_factory=time.monotonic)

    @property
    def text(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """True once the condition holds; False when the time is over or the run has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return True
            if self.ended:
                return False
            time.sleep(0.05)
        return False

    def works(self) -> bool:
        """Has it begun with a stage (or found that there is nothing to do)?"""
        return ": running" in self.text or ": starting" in self.text or "report:" in self.text

    def processes(self) -> dict[int, str]:
        return descendants(self.process.pid)

    def problems(self) -> list[str]:
        """What is wrong with how it ended, as a person reads it."""
        code, text = self.process.returncode, self.text
        found = []
        if trace := _TRACE.search(text):
            lines = text[trace.start() :].strip().splitlines()
            found.append(f"a traceback: {lines[0].strip()} ... {lines[-1][:300]}")
        if self.killed:
            return found
        if code == 0 and "report:" not in text:
            found.append("exit code 0 without a report")
        elif code not in (0, 1, 2):
            found.append(f"exit code {code}")
        elif code and not _ENDINGS.search(text):
            found.append(f"exit code {code} without a line that says why")
        return found

    def last_line(self) -> str:
        """The line that says how it ended."""
        said = [line for line in self.text.splitlines() if _ENDINGS.match(line)]
        lines = self.text.strip().splitlines()
        return (said or lines or ["(no output)"])[-1][:300]


class Scene:
    """A storage, its clock and switches, and all runs on it."""

    def __init__(self, folder: Path, options: list[str], say: Callable[[str], None]) -> None:
        self.folder, self.options, self.say = folder, options, say
        self.storage, self.clock = folder / "runs", folder / "clock"
        self.runs: list[Run] = []
        self.offset = 0.0
        self.left_behind: dict[int, str] = {}
        folder.mkdir(parents=True)
        shims.step_clock(self.clock, 0.0)
        place = f"{self.storage}/"
        self.faults = {
            "disk-full": shims.full_disk(place, self.switch("disk-full")),
            "read-only": shims.read_only(place, self.switch("read-only")),
            "no-locks": shims.no_locks(place, while_exists=self.switch("no-locks")),
            "no-links": shims.no_links(place, while_exists=self.switch("no-links")),
            "no-symlinks": shims.no_symlinks(place, while_exists=self.switch("no-symlinks")),
            "write-error": self._once("write-error", ("write", "sync"), "EIO"),
            "read-error": self._once("read-error", ("read",), "EIO"),
            "stale": self._once("stale", ("open", "stat", "read"), "ESTALE"),
        }

    def switch(self, name: str) -> Path:
        """The file that switches a fault on while it exists."""
        return self.folder / f"on-{name}"

    def markers(self, name: str) -> Path:
        return self.folder / f"struck-{name}"

    def _once(self, name: str, operations: tuple[str, ...], error: str) -> shims.Fault:
        place = f"{self.storage}/"
        return shims.Fault(operations, error, place, 1, self.markers(name), self.switch(name))

    def start(self) -> Run:
        """The command as a user types it, in a session of its own."""
        output = self.folder / f"output-{len(self.runs)}.txt"
        full = str(ROOT / "pipelines" / "full.py")
        command = [sys.executable, full, "--cluster", "local", "--storage", "runs", *self.options]
        if private_shared_memory():
            mount = f"mount -t tmpfs -o size={SHARED_MEMORY_MB}m tmpfs /dev/shm"
            command = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", *command]
        paths = [str(ROOT), str(ROOT / "platform"), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            **shims.environment(*self.faults.values(), clock=self.clock),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.runs.append(Run(len(self.runs), process, output))
        return self.runs[-1]

    def step(self, seconds: float) -> None:
        self.offset += seconds
        shims.step_clock(self.clock, self.offset)

    def forget(self, run: Run) -> None:
        """Note a run's processes before it is killed: they must go by themselves."""
        self.left_behind.update(run.processes())

    def alive(self) -> dict[int, str]:
        """Processes of killed runs that are still there."""
        return {p: c for p, c in self.left_behind.items() if _command(p) == c}

    def clean(self) -> None:
        """End everything that was started here."""
        for run in self.runs:
            if not run.ended:
                self.forget(run)
                send(run.process.pid, signal.SIGKILL)
                run.process.wait()
        for pid in self.alive():
            send(pid, signal.SIGKILL)


@cache
def private_shared_memory() -> bool:
    """Can a run have a /dev/shm of its own? It takes root, and a kernel that lets one unshare."""
    done = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], capture_output=True
    )
    return done.returncode == 0


def send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
