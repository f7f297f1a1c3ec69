"""Rows of ended trials: kept for later runs of the sweep, and for its Optuna study."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from momo_platform.files import write_whole
from momo_platform.sweeps.rows import TrialRow
from momo_platform.sweeps.study import add_row
from momo_platform.sweeps.sweep import Sweep

if TYPE_CHECKING:
    from momo_platform.stages.in_use import InUse


class KeptRows:
    """`found`: trial → row of what ended in earlier runs, failures left out.

    The artifacts of ended trials are kept `in_use`: the report, and later segments, read them.
    """

    def __init__(
        self,
        sweep: Sweep,
        folder: Path,
        study: Any,
        in_use: InUse | None,
        say: Callable[[str], None],
    ) -> None:
        self._sweep, self._folder, self._say = sweep, folder, say
        self._study, self._in_use = study, in_use
        self.found: dict[str, TrialRow] = {}
        for file in sorted(folder.glob("*.json")):
            try:
                row = TrialRow(**json.loads(file.read_text(encoding="utf-8")))
            except (ValueError, TypeError):  # cut off by a crash: its trial runs again
                continue
            self.found[row.trial] = row

    def hold(self, rows: Iterable[TrialRow]) -> None:
        """Their artifacts are not collected while the sweep runs."""
        if self._in_use is not None:
            self._in_use.add(
                k for r in rows for stages in r.stages.values() for k in stages.items()
            )

    def keep(self, row: TrialRow) -> None:
        """For a later run, and at once for the study, so that its dashboard is live."""
        self.hold([row])
        if row.state in ("done", "stopped") and not self._sweep.is_population:
            self._folder.mkdir(exist_ok=True)
            write_whole(self._folder / f"{row.trial}.json", json.dumps(asdict(row)))
        try:
            add_row(self._study, self._sweep, row)
        except Exception as error:  # noqa: BLE001 - a database that is locked or gone costs no trial
            self._say(f"the study has no row of {row.label}: {error}")
