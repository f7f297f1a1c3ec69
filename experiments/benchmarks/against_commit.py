"""How long an update takes beside the same update at another commit, on this machine.

    python experiments/benchmarks/against_commit.py [--commit a9fa37d] [--quick] [--only demo]

Both commits run in processes of their own, from their own sources, and take turns update by update:
all stages of presets demo (its batches a worker) and base (two pictures, texts and pairs), fp32 on
CPUs. Captions have the lengths of the demo's first batch of pairs, half of them padding. About 15
minutes on two cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from experiments.benchmarks import harness  # a module: an earlier commit's has fewer functions

CAPTIONS = (
    *(3, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 7, 7, 7, 7),
    *(7, 7, 8, 13, 14, 15, 16, 17, 17, 19, 19, 19, 19, 19, 20, 20, 20, 21, 22, 22, 22, 24, 24, 24),
    *(26, 27, 31, 32, 32, 32, 32, 32, 32),
)
"""Tokens of the 64 captions of a worker's first batch in the demo."""
CASES = tuple(f"{preset} stage {stage}" for preset in ("demo", "base") for stage in (1, 2, 3))


def serve() -> None:
    """In a process of its own: an update for each line on standard input that names a case, and its
    seconds on standard output. Only what both commits have is called."""
    name, update = "", None
    for line in sys.stdin:
        if line.strip() != name:
            name, update = line.strip(), None  # the case before is freed first
            update = _updater(name)
        assert update is not None
        print(update(), flush=True)


def _batch(modality: str, rows: int, model: Any, length: int, generator: Any) -> dict[str, Any]:
    """A worker's batch on the host: noise float32, pixels uint8 [rows, 3, side, side], ids int64
    [rows, length], padded after `CAPTIONS` in pairs."""
    import torch

    def noise(*shape: int) -> torch.Tensor:
        return torch.rand(rows, *shape, generator=generator)

    side = model.image_size
    pixels = torch.randint(0, 256, (rows, 3, side, side), generator=generator).byte()
    if modality == "image":
        return {"pixels": pixels, "noise": noise(model.num_patches)}
    ids = torch.randint(5, model.vocab_size, (rows, length), generator=generator)
    if modality == "text":
        return {"ids": ids, "noise": noise(length, 3)}
    for row in range(rows):
        ids[row, CAPTIONS[row * len(CAPTIONS) // rows] :] = 0
    words = {"noise_text": noise(length, 3), "noise_match": noise(1)[:, 0]}
    return {"pixels": pixels, "ids": ids, "noise_image": noise(model.num_patches)} | words


def _updater(case: str) -> Callable[[], float]:
    """Makes an update of the case, and gives its seconds."""
    import torch

    from momo.model import build_model
    from momo.tasks import MoMoTask
    from momo_platform.training.loop import Trainer
    from momo_platform.training.task import TrainingSetup
    from pipelines.presets import PRESETS

    preset, _, stage = case.split()
    config: Any = PRESETS[preset]()
    stages = getattr(config, "training", None)  # older commits have a field a stage
    chosen = list(stages.values())[int(stage) - 1] if stages else getattr(config, f"stage{stage}")
    scaling = replace(
        chosen.train.scaling, num_workers=0, gpus_per_worker=0.0, activation_checkpointing="none"
    )
    # As the preset's workers: one thread each in the demo.
    torch.set_num_threads(chosen.train.scaling.threads_per_worker or torch.get_num_threads())
    recipe = replace(chosen.task, contrastive_chunk=0)
    train = replace(chosen.train, scaling=scaling, precision="fp32")
    task = MoMoTask(build_model(config.model), recipe)
    sizes = {m: train.batch_sizes[m] // 2 if preset == "demo" else 2 for m in recipe.modalities}
    lengths = {"text": config.packed_text_length, "pair": 32, "image": 0}
    draw = torch.Generator().manual_seed(0)
    batches = {m: _batch(m, rows, config.model, lengths[m], draw) for m, rows in sizes.items()}
    setup = TrainingSetup(task, dict.fromkeys(batches), lambda *_: None)
    trainer = Trainer(setup, train, Path(tempfile.mkdtemp()))
    prepared = getattr(task, "on_host", lambda _, given: given)

    def update() -> float:
        started = time.perf_counter()
        ready = {m: prepared(m, given) for m, given in batches.items()}
        trainer._update(0, ready, diagnose=False)
        return time.perf_counter() - started

    return update


def start(root: Path) -> subprocess.Popen[str]:
    """`serve` with the sources in `root`."""
    code = f"import runpy; runpy.run_path({str(Path(__file__).resolve())!r})['serve']()"
    path = os.pathsep.join([str(root), str(root / "platform")])
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=root,
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def one(process: subprocess.Popen[str], case: str) -> float:
    """Seconds of an update there."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(case + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def rows(cases: list[str], commit: str, runs: int) -> list[harness.Row]:
    """Updates a second of both, in turn."""
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        before = Path(scratch) / "before"
        git = ["git", "-C", str(harness.ROOT), "worktree"]
        subprocess.run(
            [*git, "add", "--detach", str(before), commit], check=True, stderr=subprocess.DEVNULL
        )
        processes = {"now": start(harness.ROOT), commit: start(before)}
        try:
            for case in cases:
                calls = {name: partial(one, process, case) for name, process in processes.items()}
                taken = harness.in_turn(runs, calls, case, warm_ups=2)
                found.append(
                    harness.compare(
                        f"an update of {case}",
                        taken["now"],
                        f"commit {commit}",
                        taken[commit],
                        largest_ratio=1 / 1.3 if case == "demo stage 3" else 1.0,
                    )
                )
        finally:
            for process in processes.values():
                process.kill()
            subprocess.run([*git, "remove", "--force", str(before)], check=True)
    return found


def main() -> int:
    """Print the JSON document; exit code 1 when a goal is missed."""
    options = harness.parser(__doc__)
    options.add_argument("--commit", default="a9fa37d", help="what to compare with")
    options.add_argument("--only", default="", help="a part of a case's name, e.g. 'demo stage 3'")
    given = options.parse_args()
    cases = [case for case in CASES if given.only in case]
    return harness.finish(rows(cases, given.commit, 1 if given.quick else 11))


if __name__ == "__main__":
    sys.exit(main())
