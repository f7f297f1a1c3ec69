"""The faults of a drill: each strikes a run that works, and says what it did."""

import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from drill_runs import Run, Scene, private_shared_memory, send

HOUR = 3600.0
_RAYS_OWN = re.compile(r"^ray::(IDLE|DashboardAgent|RuntimeEnvAgent)")
ENDED_SECONDS = 90.0
TAKEN_OVER_SECONDS = 120.0  # a lease dies after 30 s; the second driver starts its Ray before


@dataclass(frozen=True)
class Drawn:
    """One fault of the list. `delay`: seconds of work before it; `lasts`: seconds until it is over;
    `stays`: a run that it ends is started once more while it lasts; `share`: picks among processes.
    """

    kind: str
    delay: float
    lasts: float
    stays: bool
    share: float


def draw(seed: int, count: int, kinds: list[str]) -> list[Drawn]:
    """The list of a seed: every kind once in a round of them, each round shuffled."""
    generator = Random(seed)
    names: list[str] = []
    while len(names) < count:
        names += generator.sample(kinds, len(kinds))
    return [
        Drawn(
            name,
            round(generator.uniform(0.2, 6.0), 2),
            round(generator.uniform(1.0, 5.0), 2),
            generator.random() < 0.3,
            generator.random(),
        )
        for name in names[:count]
    ]


def kill_driver(scene: Scene, run: Run, drawn: Drawn) -> str:
    scene.forget(run)
    run.killed = True
    send(run.process.pid, signal.SIGKILL)
    run.process.wait()
    return f"killed the driver, process {run.process.pid}"


def kill_worker(scene: Scene, run: Run, drawn: Drawn) -> str:
    """One of Ray's workers that carry a stage: a task, an actor, a training worker."""
    return _kill_one(run, drawn, lambda c: c.startswith("ray::") and not _RAYS_OWN.search(c))


def kill_ray(scene: Scene, run: Run, drawn: Drawn) -> str:
    """One of Ray's own processes on this machine; the others end with it, and so does the run."""
    did = _kill_one(run, drawn, lambda c: "/raylet/raylet " in c or "/gcs/gcs_server " in c)
    began = time.monotonic()
    run.wait_for(lambda: False, ENDED_SECONDS)
    return f"{did}; {'over' if run.ended else 'NOT OVER'} {time.monotonic() - began:.0f} s later"


def _kill_one(run: Run, drawn: Drawn, wanted: Callable[[str], bool]) -> str:
    found = {p: command for p, command in sorted(run.processes().items()) if wanted(command)}
    if not found:
        return "none of them was there"
    pid = list(found)[int(drawn.share * len(found))]
    send(pid, signal.SIGKILL)
    return f"killed {found[pid].strip()[:80]} ({pid})"


def stop_driver(scene: Scene, run: Run, drawn: Drawn) -> str:
    send(run.process.pid, signal.SIGSTOP)
    run.wait_for(lambda: False, drawn.lasts)
    send(run.process.pid, signal.SIGCONT)
    return f"stopped the driver for {drawn.lasts} s"


def take_over(scene: Scene, run: Run, drawn: Drawn) -> str:
    """The driver is stopped for longer than its leases live; a second one waits, then works. The
    first goes on beside it, and both must come to the end."""
    send(run.process.pid, signal.SIGSTOP)
    second = scene.start()
    try:
        worked = second.wait_for(lambda: ": running" in second.text, TAKEN_OVER_SECONDS)
        second.wait_for(lambda: False, drawn.lasts)
    finally:
        send(run.process.pid, signal.SIGCONT)
    return f"stopped the driver until a second {'worked' if worked else 'DID NOT WORK'}"


def sleep(scene: Scene, run: Run, drawn: Drawn) -> str:
    """A laptop's sleep: all processes stand still, and the wall clock is an hour on afterwards."""
    everyone = [run.process.pid, *run.processes()]
    for pid in everyone:
        send(pid, signal.SIGSTOP)
    run.wait_for(lambda: False, drawn.lasts)
    scene.step(HOUR)
    for pid in everyone:
        send(pid, signal.SIGCONT)
    return f"all {len(everyone)} processes slept, the clock went on an hour"


def clock_forwards(scene: Scene, run: Run, drawn: Drawn) -> str:
    scene.step(HOUR)
    return "the clock went forwards an hour"


def clock_backwards(scene: Scene, run: Run, drawn: Drawn) -> str:
    scene.step(-HOUR)
    return "the clock went backwards an hour"


def lasting(scene: Scene, run: Run, drawn: Drawn) -> str:
    """A fault of the file system that begins, and is over some seconds later."""
    switch = scene.switch(drawn.kind)
    switch.touch()
    run.wait_for(lambda: False, drawn.lasts)
    said = f"for {drawn.lasts} s"
    if drawn.stays and run.ended:
        again = scene.start()
        again.wait_for(lambda: ": running" in again.text, 90)
        said += ", and for a run more"
    switch.unlink()
    return said


def once(scene: Scene, run: Run, drawn: Drawn) -> str:
    """One call of one process fails."""
    marker = Path(f"{scene.markers(drawn.kind)}.0")
    marker.unlink(missing_ok=True)
    switch = scene.switch(drawn.kind)
    switch.touch()
    struck = run.wait_for(marker.exists, 10.0) or marker.exists()
    switch.unlink()
    return "one call failed" if struck else "no call came in 10 s"


def shared_memory_full(scene: Scene, run: Run, drawn: Drawn) -> str:
    """What is left of the run's /dev/shm is filled from outside, all but a few pages."""
    place = Path(f"/proc/{run.process.pid}/root/dev/shm")
    ballast = place / "ballast"
    try:
        sizes = os.statvfs(place)
        free = sizes.f_bavail * sizes.f_frsize
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free - 2**16))
        run.wait_for(lambda: False, drawn.lasts)
        ballast.unlink(missing_ok=True)
    except OSError as error:  # the run ended, and its namespace with it
        return f"over before it was full ({error.strerror})"
    return f"{free / 2**20:.0f} MB filled for {drawn.lasts} s"


KINDS: dict[str, Callable[[Scene, Run, Drawn], str]] = {
    "kill-driver": kill_driver,
    "kill-worker": kill_worker,
    "kill-ray": kill_ray,
    "stop-driver": stop_driver,
    "take-over": take_over,
    "sleep": sleep,
    "clock-forwards": clock_forwards,
    "clock-backwards": clock_backwards,
    "disk-full": lasting,
    "read-only": lasting,
    "no-locks": lasting,
    "no-links": lasting,
    "no-symlinks": lasting,
    "write-error": once,
    "read-error": once,
    "stale": once,
    "shared-memory": shared_memory_full,
}


def possible() -> list[str]:
    """The kinds that can be done on this machine."""
    return [k for k in KINDS if k != "shared-memory" or private_shared_memory()]
