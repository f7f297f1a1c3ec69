"""The console: plain lines, the live table's fit, and file descriptors given back."""

import io
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from momo_platform.console import View, bar, duration, progress_text, silence


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
    with View(stream) as view:
        view([status("a", "running"), status("b")])
        view([status("a", "running", seconds=1.0), status("b")])
        view([status("a", "done", seconds=2.0), status("b", "failed", error="x\nValueError: no")])
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0].endswith("a: running: never run")
    assert lines[2].endswith("a: done in 2.0 s")
    assert lines[3].endswith("b: failed in 0.0 s: ValueError: no")


def test_plain_view_repeats_a_running_stage_every_ten_seconds(monkeypatch):
    stream, now = io.StringIO(), [0.0]
    monkeypatch.setattr("momo_platform.console.time.monotonic", lambda: now[0])
    with View(stream) as view:
        for now[0] in (0.0, 4.0, 9.0, 11.0, 15.0, 22.0):
            view([status("a", "running", progress={"step": int(now[0])})])
    lines = stream.getvalue().splitlines()
    assert [line.rpartition("step ")[2] for line in lines[1:]] == ["11", "22"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_live_view_folds_finished_stages_on_a_low_terminal(monkeypatch):
    monkeypatch.setenv("LINES", "8")
    monkeypatch.setenv("COLUMNS", "100")
    stream = Terminal()
    statuses = [status(f"old-{i}", "cached") for i in range(10)]
    statuses.append(status("train", "running", progress={"step": 2, "total": 4}, seconds=3.0))
    with View(stream) as view:
        view(statuses)
        live = stream.getvalue()
        view.print("a notice [with brackets]")
    assert "10 cached" in live
    assert "old-3" not in live
    assert "step 2/4" in live
    assert "a notice [with brackets]" in stream.getvalue()
    assert "old-3" in stream.getvalue()  # the last picture is whole


def test_silence_gives_the_descriptors_back_after_an_error(tmp_path):
    log = tmp_path / "logs" / "ray.log"
    code = f"""
import os, sys, pathlib
from momo_platform.console import silence
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


def test_verbose_silence_redirects_nothing(tmp_path):
    with silence(tmp_path / "log", verbose=True) as stream:
        assert stream is sys.stdout
    assert not (tmp_path / "log").exists()
