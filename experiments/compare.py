"""Runs side by side: configs, metrics and learning curves.

    python experiments/compare.py RUN RUN … [--storage runs] [--html compare.html]

A RUN is a report (`runs/latest`, `report/6f2a1c`), a trial's scores (`scores/1b22`), an exported
model, or a trial of a sweep (`objectives-hour:without matching`, with `:1` for seed 1); NAME=RUN
gives it a name.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from momo_platform.exit_codes import exit_code
from momo_platform.stages import UserError, open_storage
from momo_platform.stages.catalog import Catalog
from momo_platform.sweeps.compare import markdown, page, read_run


@dataclass(frozen=True)
class CompareOptions:
    """What to compare."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Two runs or more."""
    storage: str = "runs"
    """Folder or URI that holds them."""
    html: str = ""
    """Write a page with the learning curves here."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables as Markdown. Exit code 2 for a run that is not there."""

    def work() -> int:
        how = {"prog": "compare.py", "description": __doc__}
        return _compare(tyro.cli(CompareOptions, args=arguments, **how))

    return exit_code(work, "nothing was written")


def _compare(options: CompareOptions) -> int:
    if len(options.runs) < 2:
        raise UserError("give at least two runs to compare")
    catalog = Catalog(open_storage(options.storage))
    runs = [read_run(catalog, text) for text in options.runs]
    if len({run.label for run in runs}) < len(runs):
        raise UserError("two runs have one name: write NAME=RUN to tell them apart")
    print(markdown(runs))
    if options.html:
        try:
            Path(options.html).write_text(page(runs), encoding="utf-8")
        except OSError as error:
            told = f"--html {options.html}: {error.strerror}; give another file"
            raise UserError(told) from error
        print(f"page: {options.html}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
