"""The console: plain lines, the live table's fit, and file descriptors given back."""

import io
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from momo_platform.console import Display, bar, duration, progress_text
from momo_platform.silence import silence


def status(name, state="queued", **fields):
    entry = SimpleNamespace(name=name, reason="never run")
    values = {"detail": "", "seconds": 0.0, "error": "", "progress": {}} | fields
    return SimpleNamespace(entry=entry, state=state, **values)


@pytest.mark.parametrize(
    "seconds, text", [(8.24, "8.2 s"), (65, "1 min 05 s"), (7380, "2 h 03 min")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_progress_names_only_what_is_known():
    assert progress_text({}) == ""
    full = {"step": 3, "total": 10, "metrics": {"mim": 0.934}, "samples_per_second": 812.3}
    assert progress_text(full | {"eta_seconds": 40}) == (
        "step 3/10  mim 0.934  812 samples/s  40.0 s left"
    )
    assert progress_text({"message": "reading"}) == "reading"
    assert bar({"step": 5, "total": 10}).count("━") == 10
    assert bar({"step": 5}) == ""


def test_plain_view_prints_one_line_a_change():
    stream = io.StringIO()
    with Display(stream) as display:
        display([status("a", "running"), status("b")])
        display([status("a", "running", seconds=1.0), status("b")])
        display(
            [status("a", "done", seconds=2.0), status("b", "failed", error="x\nValueError: no")]
        )
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3  # that b waits is no news
    assert lines[0].endswith("a: running: never run")
    assert lines[1].endswith("a: done in 2.0 s")
    assert lines[2].endswith("b: failed in 0.0 s: ValueError: no")


def test_a_stages_note_is_printed_once_even_when_it_comes_late():
    stream = io.StringIO()
    note = {"note": "1 of 3 rows left out"}
    with Display(stream) as display:
        display([status("a", "done", seconds=2.0)])
        display([status("a", "done", seconds=2.0, progress=note)])
        display([status("a", "done", seconds=2.0, progress=note)])
    assert [line.split(" ", 2)[2].strip() for line in stream.getvalue().splitlines()] == [
        *("a: done in 2.0 s", "a: 1 of 3 rows left out")
    ]


def test_plain_view_names_what_was_there_before_once():
    stream = io.StringIO()
    with Display(stream) as display:
        display([status(f"s{n}", "cached") for n in range(9)])
        display([*(status(f"s{n}", "cached") for n in range(9)), status("t", "running")])
    first, second = stream.getvalue().splitlines()
    assert first.endswith("9 stages are there from earlier runs")
    assert second.endswith("t: running: never run")


def test_plain_view_has_a_line_a_minute_that_says_something(monkeypatch):
    stream, now = io.StringIO(), [0.0]
    monkeypatch.setattr("momo_platform.console.time.monotonic", lambda: now[0])
    with Display(stream) as display:
        display.forecast = lambda statuses: "about 12 min left"
        for minute in range(4):
            for now[0] in range(60 * minute, 60 * minute + 60, 5):
                silent = status("silent", "running", seconds=now[0])
                told = status("told", "running", progress={"step": minute}, seconds=now[0])
                display([silent, told, status("gone", "cached")])
    lines = [line.split(" ", 2)[2].strip() for line in stream.getvalue().splitlines()]
    assert lines[:3] == [
        *("silent: running: never run", "told: running: never run", "gone: cached: never run")
    ]
    assert [x for x in lines[3:] if x.startswith("told")] == [f"told: step {n}" for n in (1, 2, 3)]
    assert not any(x.startswith("silent") for x in lines[3:])
    jobs = [x for x in lines if x.startswith("job")]
    assert len(jobs) == 3
    assert jobs[0] == (
        "job: 1 of 3 stages done, about 12 min left; silent for 1 min 00 s, told for 1 min 00 s "
        "running"
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_live_view_folds_finished_stages_on_a_low_terminal(monkeypatch):
    monkeypatch.setenv("LINES", "8")
    monkeypatch.setenv("COLUMNS", "100")
    stream = Terminal()
    statuses = [status(f"old-{i}", "cached") for i in range(10)]
    statuses.append(status("train", "running", progress={"step": 2, "total": 4}, seconds=3.0))
    with Display(stream) as display:
        display.forecast = lambda statuses: "about 40 s left"
        display(statuses)
        live = stream.getvalue()
        display.print("a notice [with brackets]")
    assert "10 cached" in live
    assert "old-3" not in live
    assert "step 2/4" in live
    assert "10 of 11 stages done, about 40 s left" in live
    assert "a notice [with brackets]" in stream.getvalue()
    assert "old-3" in stream.getvalue()  # the last picture is whole


def test_silence_gives_the_descriptors_back_after_an_error(tmp_path):
    log = tmp_path / "logs" / "ray.log"
    code = f"""
import os, sys, pathlib
from momo_platform.silence import silence
try:
    with silence(pathlib.Path({str(log)!r})) as stream:
        print("python chatter"); os.write(1, b"native chatter\\n"); os.system("echo child chatter")
        stream.write("seen ✓\\n")
        raise ValueError("boom")
except ValueError:
    print("after")
    print("error after", file=sys.stderr)
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "utf-8"},
        encoding="utf-8",
        check=True,
    )
    assert result.stdout == "seen ✓\nafter\n"
    assert result.stderr == "error after\n"
    assert sorted(log.read_text().split("\n"))[1:] == [
        "child chatter",
        "native chatter",
        "python chatter",
    ]


def test_verbose_silence_redirects_nothing(tmp_path, capfd):
    with silence(tmp_path / "log", verbose=True) as stream:
        stream.write("seen\n")
        os.write(1, b"seen too\n")
    assert capfd.readouterr().out == "seen\nseen too\n"
    assert not (tmp_path / "log").exists()
