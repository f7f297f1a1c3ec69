"""How long `full.py --plan --preset demo` takes, beside the same at another commit.

    python experiments/benchmarks/plan.py [--commit a9fa37d] [--quick]

The whole process, from its start to its end, five times in turn; in a storage that has nothing and
in one that has every artifact (small ones, whose manifests hold the configs and the code's hashes
of the demo's stages), and the planning of 1,000 stages alone. Hypothesis: most of it was importing
what a plan does not need (NumPy, Arrow, Pillow) and building a parser of some 500 fields. About a
minute on two cores.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from experiments.benchmarks.harness import Row, compare, finish, parser
from momo_platform.stages import Plan, Stage, Storage, canonical, make_plan, open_storage
from momo_platform.stages.manifest import FILE_NAME, Manifest, manifest_json, source_hashes
from pipelines.full import plan_of
from pipelines.options import parse

ROOT = Path(__file__).resolve().parents[2]
GOAL_SECONDS = 1.0
_THOUSAND = """
import sys, time
from experiments.benchmarks.graph import graph
from momo_platform.stages import make_plan, open_storage
storage, targets = open_storage(sys.argv[1]), graph("chain", int(sys.argv[2]), 1)
started = time.perf_counter()
make_plan(targets, storage)
print(time.perf_counter() - started)
"""


def fill(storage: Storage, plan: Plan) -> None:
    """A small artifact for each stage of the plan."""
    made: dict[str, Manifest] = {}
    for entry in plan.entries:
        folder = storage.folder(entry.name, entry.fingerprint)
        output = folder / "attempt-00000000"
        output.mkdir(parents=True)
        (output / "x").write_text(entry.fingerprint)
        facts = {
            "size": len(entry.fingerprint),
            "mtime_ns": (output / "x").stat().st_mtime_ns,
            "sha256": hashlib.sha256(entry.fingerprint.encode()).hexdigest(),
        }
        inputs = {
            role: {"name": s.name, "fingerprint": made[s.name].fingerprint}
            | {"content": made[s.name].content}
            for role, s in entry.stage.inputs.items()
        }
        made[entry.name] = Manifest(
            stage=entry.name,
            fingerprint=entry.fingerprint,
            version=entry.stage.version,
            attempt=output.name,
            files={"x": facts},
            metrics={},
            config=canonical(entry.stage.config),
            inputs=inputs,
            git_commit="",
            packages={},
            code=source_hashes(getattr(entry.stage, "sources", entry.stage.code)),
            seconds=1.0,
            resources={},
            created="2026-01-01T00:00:00+00:00",
        )
        (folder / FILE_NAME).write_text(manifest_json(made[entry.name]), encoding="utf-8")


def _environment(root: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(root / "platform")])}


def demo_seconds(root: Path, storage: str) -> float:
    """The command with the sources in `root`, from start to end."""
    command = [sys.executable, str(root / "pipelines" / "full.py")]
    command += ["--plan", "--preset", "demo", "--run.storage", storage]
    started = time.perf_counter()
    subprocess.run(command, env=_environment(root), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def chain_seconds(root: Path, storage: str, size: int) -> float:
    """Planning a chain of so many stages alone, with the sources in `root`."""
    command = [sys.executable, "-c", _THOUSAND, storage, str(size)]
    done = subprocess.run(
        command, env=_environment(root), check=True, stdout=subprocess.PIPE, text=True
    )
    return float(done.stdout)


def rows(commit: str, runs: int, size: int) -> list[Row]:
    """Now and at `commit` in turn; the first runs, which write caches of bytecode, don't count."""
    from experiments.benchmarks.graph import graph

    with tempfile.TemporaryDirectory() as scratch:
        before = Path(scratch) / "before"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run(
            [*git, "add", "--detach", str(before), commit], check=True, stdout=sys.stderr
        )
        try:
            found = []
            chain: list[Stage] = graph("chain", size, 1)
            for made in (False, True):
                demo, thousand = f"{scratch}/demo-{made}", f"{scratch}/chain-{made}"
                if made:
                    config = parse(["--preset", "demo", "--run.storage", demo])
                    fill(open_storage(demo), plan_of(config))
                    fill(open_storage(thousand), make_plan(chain, open_storage(thousand)))
                taken: dict[tuple[str, Path], list[float]] = {}
                for run in range(-1, runs):
                    for root in (ROOT, before):
                        values = {
                            "demo": demo_seconds(root, demo),
                            "chain": chain_seconds(root, thousand, size),
                        }
                        for kind, seconds in values.items() if run >= 0 else ():
                            taken.setdefault((kind, root), []).append(seconds)
                state = "all made" if made else "none made"
                found += [
                    compare(
                        f"--plan of preset demo, {state}",
                        taken["demo", ROOT],
                        f"commit {commit}",
                        taken["demo", before],
                        largest_value=GOAL_SECONDS,
                    ),
                    compare(
                        f"planning {size} stages, {state}",
                        taken["chain", ROOT],
                        f"commit {commit}",
                        taken["chain", before],
                        largest_value=0.5,
                    ),
                ]
            return found
        finally:
            subprocess.run([*git, "remove", "--force", str(before)], check=True)


def main() -> int:
    """Print the JSON document; exit code 1 when a goal is missed."""
    options_of = parser(__doc__)
    options_of.add_argument("--commit", default="a9fa37d", help="what to compare with")
    options = options_of.parse_args()
    return finish(rows(options.commit, *((1, 10) if options.quick else (5, 1000))))


if __name__ == "__main__":
    sys.exit(main())
