"""Disturbs a whole job with a seeded list of faults, and compares what comes out.

    python tests/faults/drill.py --seed 7 --faults 30

The command `pipelines/full.py --preset smoke` runs undisturbed once, then again in another folder,
where one fault after the other strikes it: kills, stopped processes, a stepped clock, a full or a
read-only disk, missing locks and links, single failing calls. Where the command ends, it is started
again, as a user does; when it has gone through and faults are left, a fresh storage follows. It
must never end with a traceback or without a line that says why, and at the end every artifact must
have the bytes of the undisturbed run. The last thing on standard output is a summary in JSON; the
exit code is 1 where anything was wrong.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import drill_kinds  # noqa: E402
import same_bytes  # noqa: E402
import shims  # noqa: E402
from drill_kinds import KINDS, Drawn  # noqa: E402
from drill_runs import Scene  # noqa: E402

BEGINS_SECONDS = 180.0  # to the first stage
ENDS_SECONDS = 600.0  # a run that nothing disturbs any more
GONE_SECONDS = 30.0  # until the processes of a killed run have gone


class Drill:
    """The faults of a list, one after the other, over as many runs and storages as they take."""

    def __init__(self, folder: Path, options: list[str], faults: list[Drawn]) -> None:
        self.folder, self.options, self.left = folder, options, list(faults)
        self.began = time.monotonic()
        self.told: list[dict[str, Any]] = []
        self.problems: list[str] = []
        self.differences: list[str] = []
        self.scenes: list[Scene] = []
        self.checked = 0

    def say(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        print(f"{minutes:3d}:{seconds:02d}  {text}", flush=True)

    def undisturbed(self) -> Path:
        """The storage of a run without faults."""
        scene = self._scene("undisturbed")
        run = scene.start()
        run.wait_for(lambda: False, ENDS_SECONDS)
        self._look_at(scene)
        if run.process.returncode != 0:
            raise SystemExit(f"the undisturbed run did not go through:\n{run.text[-3000:]}")
        self.say("undisturbed: done")
        return scene.storage

    def disturbed(self, reference: Path) -> None:
        """All faults; compares each storage with the reference when its job has gone through."""
        runs = 0
        while self.left and not (self.problems and self.problems[-1].startswith("gave up")):
            scene = self._scene(f"disturbed-{len(self.scenes)}")
            tries = 2 * len(self.left) + 5
            while not self._go_on(scene):
                tries -= 1
                if not tries:
                    self._wrong("gave up: the command never came to its end")
                    break
            runs += len(scene.runs)
            self._processes_went(scene)
            found = same_bytes.differences(reference, scene.storage)
            self.differences += [f"{scene.folder.name}: {d}" for d in found]
            self.say(f"{scene.folder.name}: {len(found)} differences from the undisturbed run")
            scene.clean()

    def _scene(self, name: str) -> Scene:
        self.scenes.append(Scene(self.folder / name, self.options, self.say))
        self.checked = 0
        return self.scenes[-1]

    def _go_on(self, scene: Scene) -> bool:
        """Start the command and disturb it; True when it has gone through."""
        run = scene.start()
        self.say(f"run {run.number} in {scene.folder.name}, {len(self.left)} faults left")
        run.wait_for(run.works, BEGINS_SECONDS)
        while self.left:
            working = [r for r in scene.runs if not r.ended and "report:" not in r.text]
            if not working:
                break
            run = working[0]  # where a second took over: the first, and the second after its end
            if run.wait_for(lambda: False, self.left[0].delay) or run.ended:
                continue
            drawn = self.left.pop(0)
            self.say(f"{drawn.kind} ...")
            did = KINDS[drawn.kind](scene, run, drawn)
            self.told.append({**asdict(drawn), "run": run.output.parent.name, "did": did})
            self.say(f"{drawn.kind}: {did}")
        for other in scene.runs:
            if not other.ended:
                other.wait_for(lambda: False, ENDS_SECONDS)
            if not other.ended:
                self._wrong(f"run {other.number} hangs: {other.last_line()}")
                scene.forget(other)
                other.killed = True
                other.process.kill()
                other.process.wait()
        new = scene.runs[self.checked :]
        self._look_at(scene)
        return any(r.process.returncode == 0 for r in new)

    def _look_at(self, scene: Scene) -> None:
        """How the runs ended that were not looked at yet."""
        for run in scene.runs[self.checked :]:
            self.say(f"run {run.number}: exit code {run.process.returncode}: {run.last_line()}")
            recent = ", ".join(f"{t['kind']}" for t in self.told[-3:])
            for problem in run.problems():
                self._wrong(f"{run.output.parent.name} run {run.number} ({recent}): {problem}")
        self.checked = len(scene.runs)

    def _processes_went(self, scene: Scene) -> None:
        deadline = time.monotonic() + GONE_SECONDS
        while (alive := scene.alive()) and time.monotonic() < deadline:
            time.sleep(0.2)
        for pid, command in alive.items():
            self._wrong(f"process {pid} of a killed run is still there: {command[:100]}")

    def _wrong(self, text: str) -> None:
        self.problems.append(text)
        self.say(f"WRONG: {text}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=7, help="of the list of faults")
    parser.add_argument("--faults", type=int, default=30, help="how many")
    parser.add_argument("--preset", default="smoke", help="of the job")
    parser.add_argument("--kinds", default="", help=f"commas between: {', '.join(KINDS)}")
    parser.add_argument(
        "--folder", type=Path, help="where to work and keep all; default: temporary"
    )
    parser.add_argument("--reference", type=Path, help="a storage of an undisturbed run of before")
    parser.add_argument("--out", type=Path, help="write the summary here too")
    given = parser.parse_args()
    kinds = given.kinds.split(",") if given.kinds else drill_kinds.possible()
    if unknown := sorted(set(kinds) - KINDS.keys()):
        parser.error(f"--kinds {', '.join(unknown)}: the kinds are {', '.join(KINDS)}")
    try:
        shims.library()
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    faults = drill_kinds.draw(given.seed, given.faults, kinds)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="drill-"))
    options = ["--preset", given.preset, "--every.train.scaling.reader-processes", "1"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started ends with the drill
    drill = Drill(folder.absolute(), options, faults)
    drill.say(f"seed {given.seed}: {', '.join(f.kind for f in faults)}; all of it in {folder}")
    try:
        drill.disturbed((given.reference or drill.undisturbed()).absolute())
    finally:
        for scene in drill.scenes:
            scene.clean()
    summary = {
        "seed": given.seed,
        "command": ["pipelines/full.py", *options],
        "minutes": round((time.monotonic() - drill.began) / 60, 1),
        "runs": sum(len(s.runs) for s in drill.scenes),
        "faults": drill.told,
        "problems": drill.problems,
        "differences": drill.differences,
        "left_out_of_the_comparison": same_bytes.TIMES,
        "keys_left_out": same_bytes.MEASURED.pattern,
        "not_possible_here": sorted(KINDS.keys() - set(drill_kinds.possible())),
    }
    text = json.dumps(summary, indent=1)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 1 if drill.problems or drill.differences else 0


if __name__ == "__main__":
    sys.exit(main())
