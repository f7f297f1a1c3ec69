"""What one GPU makes of the product: right, fast, beside its peers, fed. Seven minutes on an H200.

    python experiments/benchmarks/gpu.py --out FILE [--only PART ...]
    python experiments/benchmarks/gpu.py --quick     # every part at toy size on a CPU: its test

From source, without an installation: `PYTHONPATH=.:platform`. Without `--out` the JSON comes on
standard output at the end; with it, FILE is written anew after every row, so that what is done
outlives a kill. Parts run one after the other in this process, each within its own seconds; one
that fails or runs out of time is recorded with its traceback, and the next begins. `--only` takes
the beginnings of parts' names. Needs no network; only part `trainer` needs Ray.

Base size at the rows a GPU that the preset has on eight, bf16 autocast, random pictures and words,
texts without padding but where a row's name says how many tokens; medians of five runs in turn with
the peer's, each of about half a second without a wait. Model FLOP leave out what is computed again.
Updates are the Trainer's own (`Trainer._update`), on a batch that lies on the device; losses,
waits, input and TorchTrainer go through its whole loop. The MFU is a share of what large products
reach in the same run, and of the data sheet. Peers are not clipped and have no schedule: they do a
little less. Exit code 1 where a goal is missed or a part failed; `--quick` judges no goals.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.benchmarks.gpu_parts.setting import Cases, Setting
    from experiments.benchmarks.harness import Row

_PACKAGES = ("torch", "transformers", "ray", "triton", "pillow")


class OutOfTime(BaseException):
    """A part's seconds are over. No Exception: libraries would catch it."""


@dataclass(frozen=True)
class BenchmarkPart:
    """`cases` share the `seconds`; a case that fails leaves the others theirs."""

    seconds: float
    cases: Callable[[Setting], Cases]


def parts() -> dict[str, BenchmarkPart]:
    """In the order in which they run: what is needed most comes first, what may hang last."""
    from experiments.benchmarks.gpu_parts import correct, feeding, peers, speed

    return {
        "ceilings": BenchmarkPart(8, speed.ceilings),
        "losses": BenchmarkPart(35, correct.losses),
        "eager": BenchmarkPart(45, speed.eager),
        "preset": BenchmarkPart(15, speed.preset),
        "compiled": BenchmarkPart(120, speed.compiled),
        "vit-mae": BenchmarkPart(15, peers.vit_mae),
        "flava": BenchmarkPart(45, peers.flava),
        "inference": BenchmarkPart(20, peers.inference),
        "input": BenchmarkPart(60, feeding.loading),
        "trainer": BenchmarkPart(70, feeding.torch_trainer),
    }


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises `OutOfTime` inside after so many seconds, at the next line of Python."""

    def over(*_: object) -> None:
        raise OutOfTime(f"stopped: the part's {seconds:.0f} s that were left are over")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _told(row: Row) -> str:
    goal = f" ({row.goal}: {'met' if row.met else 'MISSED'})" if row.goal else ""
    peer = f"{row.ratio:g} × {row.peer} {row.peer_value:g}"
    return f"  {row.name}: {row.value:g} {row.unit}, {peer}{goal}"


def measure(
    chosen: Mapping[str, BenchmarkPart],
    setting: Setting,
    write: Callable[[Sequence[Row], Mapping[str, Any]], None],
    *,
    slower: float = 1.0,
) -> tuple[list[Row], dict[str, Any]]:
    """The rows, and by part its limit, seconds and errors by case. `write` is called with both
    after every row and case; limits are `slower` times as long."""
    rows: list[Row] = []
    told: dict[str, Any] = {}
    for name, part in chosen.items():
        limit, started = part.seconds * slower, time.monotonic()
        about: dict[str, Any] = {"limit": limit, "seconds": None}
        told[name] = about
        _say(f"{name} (at most {limit:.0f} s)")
        write(rows, told)

        def run(cases: Cases, about: dict[str, Any], deadline: float) -> None:
            for case, make in cases.items():
                try:
                    with limited(deadline - time.monotonic()):
                        for row in make():
                            rows.append(row)
                            _say(_told(row))
                            write(rows, told)
                except (Exception, OutOfTime):  # noqa: BLE001 - recorded; the next one runs
                    about.setdefault("cases", {})[case] = {"error": traceback.format_exc()}
                    _say(f"  {case} FAILED: {traceback.format_exc().strip().splitlines()[-1]}")

        try:
            run(part.cases(setting), about, started + limit)
        except Exception:  # noqa: BLE001 - recorded; the next one runs
            about["error"] = traceback.format_exc()
            _say(f"  FAILED: {about['error'].strip().splitlines()[-1]}")
        about["seconds"] = round(time.monotonic() - started, 1)
        write(rows, told)
    return rows, told


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write, and say by the exit code whether all goals were met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="toy size on a CPU: tests the script")
    parser.add_argument("--only", nargs="+", default=[], help="parts' names or beginnings of them")
    parser.add_argument("--out", type=Path, help="the JSON, written anew after every row")
    options = parser.parse_args(arguments)
    if options.quick:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks
    import torch

    from experiments.benchmarks.gpu_parts.setting import setting
    from experiments.benchmarks.harness import document
    from momo_platform.files import write_whole

    every = parts()
    chosen = {
        name: part
        for name, part in every.items()
        if not options.only or any(name.startswith(one) for one in options.only)
    }
    if not chosen:
        parser.error(f"--only {' '.join(options.only)}: the parts are {', '.join(every)}")
    if not options.quick and not torch.cuda.is_available():
        parser.error("no CUDA device here: run it on a GPU machine, or give --quick")
    device = "cpu" if options.quick else torch.cuda.get_device_name()
    about = {"quick": options.quick, "device": device, "versions": _versions()}

    def text(rows: Sequence[Row], told: Mapping[str, Any]) -> str:
        return document(rows, **about, parts=told)

    def write(rows: Sequence[Row], told: Mapping[str, Any]) -> None:
        if options.out:
            write_whole(options.out, text(rows, told))

    slower = 5.0 if options.quick else 1.0  # toys, on cores that may be busy
    rows, told = measure(chosen, setting(options.quick), write, slower=slower)
    if not options.out:
        print(text(rows, told))
    failed = [name for name, one in told.items() if "error" in one or "cases" in one]
    missed = [] if options.quick else [row.name for row in rows if not row.met]
    spent = sum(one["seconds"] for one in told.values())
    _say(f"{len(rows)} rows in {spent:.0f} s; failed: {failed}; missed goals: {missed}")
    return 1 if failed or missed else 0


if __name__ == "__main__":
    sys.exit(main())
