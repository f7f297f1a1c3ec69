"""Several runs of one experiment together: each arm's difference from the first, by seed.

    python experiments/pooled.py RESULTS.json RESULTS.json … [--metrics macro 'groups/*']

A pair is one arm and the reference with equal seed in one run; one that two files hold counts once.
Runs that share a seed share its data order and first weights, so their pairs are not independent:
a seed's pairs are averaged, and the interval is Student's t over seeds. p is of the paired t-test,
corrected by Holm's procedure over all differences of the table. Seeds that were looked at before
others were added can't be tested so; `findings.py` leaves them out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import tyro

from momo_platform.exit_codes import exit_code
from momo_platform.stages import UserError
from momo_platform.sweeps.comparisons import family, told_p
from momo_platform.sweeps.rows import Results, read_results, shown_metrics


@dataclass(frozen=True)
class PooledOptions:
    """What to pool."""

    results: tyro.conf.Positional[tuple[Path, ...]]
    """Results of sweeps with the same first arm, e.g. in experiments/results/."""
    metrics: tuple[str, ...] = ("macro", "groups/*", "validation_mean")
    """Metrics to show; patterns."""


def differences(runs: Sequence[Results], arm: str, metric: str) -> dict[str, list[float]]:
    """Seed → the arm less its run's first arm, a number a run; runs without the arm have none. A
    pair that two files hold, to the last digit, counts once."""
    found: dict[str, dict[str, float]] = {}
    for run in runs:
        row = next((r for r in run.rows if r.label == arm and r.state == "done"), None)
        if row is None or run.reference is None:
            continue
        for seed, value in row.differences(run.reference, metric).items():
            pair = json.dumps([row.seeds[seed], run.reference.seeds[seed]], sort_keys=True)
            found.setdefault(seed, {})[pair] = value
    return {seed: list(pairs.values()) for seed, pairs in found.items()}


def markdown(runs: Sequence[Results], metrics: Sequence[str]) -> str:
    """A row an arm: seeds, pairs, then of each metric the mean difference, its raw 95 % interval
    and p, corrected for all differences of the table. Raises UserError for runs whose first arms
    differ, or which have none."""
    firsts = {run.reference.label if run.reference else "none" for run in runs}
    if len(firsts) != 1 or firsts == {"none"}:
        raise UserError(
            f"first arms {', '.join(sorted(firsts))}: give finished runs of one experiment's arms"
        )
    first = firsts.pop()
    rows = [row for run in runs for row in run.rows if row.state == "done"]
    shown = shown_metrics(metrics[0], metrics[1:], rows)
    lines = [
        f"| less {first} | seeds | pairs | " + " | ".join(shown) + " |",
        "|---" * (len(shown) + 3) + "|",
    ]
    arms = [arm for arm in dict.fromkeys(row.label for row in rows) if arm != first]
    by_seed = {(arm, m): differences(runs, arm, m) for arm in arms for m in shown}
    values = {
        k: [fmean(pairs) for pairs in seeds.values()] for k, seeds in by_seed.items() if seeds
    }
    compared = family(values)
    for arm in arms:
        seeds = max((by_seed[arm, metric] for metric in shown), key=len)
        pairs = sum(map(len, seeds.values()))
        found = [compared.get((arm, metric)) for metric in shown]
        cells = [f"{one.estimate}, p {told_p(one.adjusted)}" if one else "–" for one in found]
        lines.append(f"| {arm} | {len(seeds)} | {pairs} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table. Exit code 2 for what is no sweep's results."""
    options = tyro.cli(PooledOptions, args=arguments, description=__doc__, prog="pooled.py")

    def run() -> int:
        if not options.results or not options.metrics:
            raise UserError("give a results file or more, and a metric or more")
        print(markdown([read_results(file) for file in options.results], options.metrics))
        return 0

    return exit_code(run, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
