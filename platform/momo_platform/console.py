"""What a person sees of a run: the graph's state above, one live line a running stage below.

On a terminal the table is redrawn in place; elsewhere there is one plain line a change of state,
and at most one a minute a running stage, which says how far it is, and one for the whole job.
`silence` sends everybody else's output to a log file.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from momo_platform.stages.status import StageStatus

_PLAIN_INTERVAL_SECONDS = 60.0
_MOST_CACHED = 5  # lines of stages that were there before
_BAR_CELLS = 20
_LOOKS: Mapping[str, tuple[str, str]] = {  # state → icon, style
    "queued": ("·", "dim"),
    "leased": ("⧖", "yellow"),
    "starting": ("◌", "cyan"),
    "running": ("▶", "bold cyan"),
    "done": ("✓", "green"),
    "cached": ("=", "green"),
    "failed": ("✗", "bold red"),
    "not run": ("–", "dim"),
}
_WORDS = {"leased": "waiting for lease", "starting": "starting early"}


def duration(seconds: float) -> str:
    """'8.2 s', '1 min 05 s', '2 h 03 min'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def progress_text(progress: Mapping[str, Any]) -> str:
    """'step 120/600  mim 0.93  812 samples/s  40.0 s left': whatever of it is known."""
    parts = []
    if "step" in progress:
        total = f"/{progress['total']}" if "total" in progress else ""
        parts.append(f"step {progress['step']}{total}")
    parts += [f"{name} {value:.3g}" for name, value in progress.get("metrics", {}).items()]
    if "samples_per_second" in progress:
        parts.append(f"{progress['samples_per_second']:,.0f} samples/s")
    if "eta_seconds" in progress:
        parts.append(f"{duration(progress['eta_seconds'])} left")
    if progress.get("message"):
        parts.append(str(progress["message"]))
    return "  ".join(parts)


def bar(progress: Mapping[str, Any]) -> str:
    """'━━━━━───────────────', or '' when there is no total."""
    total = progress.get("total") or 0
    if not total:
        return ""
    filled = round(_BAR_CELLS * min(1.0, progress.get("step", 0) / total))
    return "━" * filled + "─" * (_BAR_CELLS - filled)


def _reason(status: StageStatus) -> str:
    if status.state == "failed":
        lines = status.error.strip().splitlines()
        return lines[-1] if lines else ""
    if status.detail:
        return status.detail
    return "" if status.state == "done" else status.entry.reason


class Display:
    """Shows the statuses that the executor passes to it; a context manager.

    `stream` is where a person looks: pass what `silence` yields. `verbose` (somebody else writes
    to the same terminal) chooses plain lines, as does a stream that is no terminal. `forecast`, set
    when it is known, turns statuses into what is said of the whole job's time left. `record` is
    told every status too, for the dashboard.
    """

    forecast: Callable[[Sequence[StageStatus]], object] | None = None
    record: Callable[[Sequence[StageStatus], str], None] | None = None

    def __init__(self, stream: TextIO | None = None, *, verbose: bool = False) -> None:
        self.stream = stream or sys.stdout
        terminal = os.environ.get("TERM", "").lower()
        dumb = terminal in ("dumb", "unknown")  # no line is drawn anew there
        self.live_display = self.stream.isatty() and not verbose and not dumb
        self._states: dict[str, str] = {}
        self._details: dict[str, str] = {}
        self._notes: dict[str, str] = {}
        self._last_line: dict[str, float] = {}
        self._last_text: dict[str, str] = {}
        self._next_job_line = time.monotonic() + _PLAIN_INTERVAL_SECONDS
        self._job: tuple[float, str] = (0.0, "")
        self._statuses: Sequence[StageStatus] = ()
        self._live: Any = None

    def __enter__(self) -> Display:
        if self.live_display:
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self.stream)
            self._live = Live(
                console=console,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.update(self._table(self._statuses), refresh=True)  # the whole of it
            self._live.stop()
            self._live = None
        self.stream.flush()

    def __call__(self, statuses: Sequence[StageStatus]) -> None:
        """Show the newest statuses; called several times a second."""
        self._statuses = statuses
        if self.record is not None:
            self.record(statuses, self.job_text(statuses))
        self._print_notes(statuses)
        if self._live is not None:
            self._live.update(self._render(statuses), refresh=True)
        else:
            self._print_changes(statuses)

    def _print_notes(self, statuses: Sequence[StageStatus]) -> None:
        """What stages want remembered, each once; it comes with the stage's end or just after."""
        for status in statuses:
            name, note = status.entry.name, status.progress.get("note")
            if note and self._notes.get(name) != note:
                self._notes[name] = note
                if self._live is not None:
                    self.print(f"{name}: {note}")
                else:
                    self._write(f"{name}: {note}")

    def job_text(self, statuses: Sequence[StageStatus]) -> str:
        """'7 of 43 stages done, about 12 min left', reckoned again every second."""
        if time.monotonic() >= self._job[0]:
            done = sum(s.state in ("done", "cached") for s in statuses)
            text = f"{done} of {len(statuses)} stages done"
            if self.forecast is not None and done < len(statuses):
                text += f", {self.forecast(statuses)}"
            self._job = (time.monotonic() + 1.0, text)
        return self._job[1]

    def print(self, text: str) -> None:
        """A line of its own, above the live part."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            self.stream.write(text + "\n")
            self.stream.flush()

    def _render(self, statuses: Sequence[StageStatus]) -> RenderableType:
        from rich.console import Group

        active = [s for s in statuses if s.state in ("running", "starting")]
        lines = [*(self._live_line(s) for s in active), self._whole_job(statuses)]
        room = self._live.console.height - len(lines) - 3
        return Group(self._table(statuses, room), *lines)

    def _table(self, statuses: Sequence[StageStatus], room: int | None = None) -> Table:
        """One row a stage; stages that are over or far away share a row when room is short."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, show_header=False)
        for name in ("icon", "stage", "state", "time", "why"):
            style = "dim" if name == "why" else ""
            side = "right" if name == "time" else "left"
            table.add_column(name, style=style, no_wrap=True, justify=side, overflow="ellipsis")
        folded = ("done", "cached", "queued", "not run")
        fold = room is not None and len(statuses) > room
        for status in statuses:
            if fold and status.state in folded:
                continue
            icon, style = _LOOKS[status.state]
            seconds = duration(status.seconds) if status.seconds else ""
            word = Text(_WORDS.get(status.state, status.state), style)
            table.add_row(
                Text(icon, style), Text(status.entry.name), word, seconds, Text(_reason(status))
            )
        if fold:
            counts = Counter(s.state for s in statuses if s.state in folded)
            text = ", ".join(f"{counts[state]} {state}" for state in folded if counts[state])
            table.add_row("", Text(text, "dim"), "", "", "")
        return table

    def _whole_job(self, statuses: Sequence[StageStatus]) -> Text:
        from rich.text import Text

        return Text(self.job_text(statuses), "bold", no_wrap=True, overflow="ellipsis")

    def _live_line(self, status: StageStatus) -> Text:
        from rich.text import Text

        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{status.entry.name}  ", "bold")
        if drawn := bar(status.progress):
            line.append(drawn + "  ", "cyan")
        if status.state == "starting":
            return line.append("ready, waits for its inputs", "dim")
        return line.append(progress_text(status.progress))

    def _print_changes(self, statuses: Sequence[StageStatus]) -> None:
        now = time.monotonic()
        if not self._states:
            self._print_first(statuses)
        self._print_waiting(statuses)
        for status in statuses:
            name, state = status.entry.name, status.state
            before = self._states.get(name), self._details.get(name, "")
            if before != (state, status.detail):
                self._states[name], self._details[name] = state, status.detail
                self._last_line[name] = now
                seconds = f" in {duration(status.seconds)}" if state in ("done", "failed") else ""
                reason = f": {why}" if (why := _reason(status)) else ""
                self._write(f"{name}: {_WORDS.get(state, state)}{seconds}{reason}", state)
            elif state == "running" and now - self._last_line[name] >= _PLAIN_INTERVAL_SECONDS:
                text = progress_text(status.progress)
                if text and text != self._last_text.get(name):  # only what is news
                    self._last_line[name], self._last_text[name] = now, text
                    self._write(f"{name}: {text}", state)
        if now >= self._next_job_line:
            self._next_job_line = now + _PLAIN_INTERVAL_SECONDS
            running = [
                f"{s.entry.name} for {duration(s.seconds)}"
                for s in statuses
                if s.state == "running"
            ]
            self._write(f"job: {self.job_text(statuses)}; {', '.join(running) or 'none'} running")

    def _print_waiting(self, statuses: Sequence[StageStatus]) -> None:
        """Stages that began to wait for the same are one line."""
        alike: dict[str, list[str]] = {}
        for status in statuses:
            name, detail = status.entry.name, status.detail
            before = self._states.get(name), self._details.get(name, "")
            if status.state == "queued" and detail and before != ("queued", detail):
                alike.setdefault(detail, []).append(name)
        for detail, names in alike.items():
            if len(names) == 1:
                continue  # told as any other
            for name in names:
                self._states[name], self._details[name] = "queued", detail
            word = _WORDS.get("queued", "queued")
            self._write(f"{names[0]} and {len(names) - 1} more: {word}: {detail}", "queued")

    def _print_first(self, statuses: Sequence[StageStatus]) -> None:
        """Stages that wait are no news; those that are there already are a line, unless few."""
        cached = [s for s in statuses if s.state == "cached"]
        if len(cached) > _MOST_CACHED:
            self._write(f"{len(cached)} stages are there from earlier runs", "cached")
        for status in statuses:
            many = status.state == "cached" and len(cached) > _MOST_CACHED
            if many or (status.state == "queued" and not status.detail):
                self._states[status.entry.name] = status.state

    def _write(self, text: str, state: str = "") -> None:
        icon = _LOOKS[state][0] if state else " "
        self.stream.write(f"{time.strftime('%H:%M:%S')} {icon} {text}\n")
        self.stream.flush()
