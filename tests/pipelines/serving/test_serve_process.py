"""`pipelines/serve.py` as people start it."""

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from momo_platform.machine import free_ports, with_our_modules
from pipelines.serve import main

ROOT = Path(__file__).parents[3]
# Some tenths of a second of work, most of it in splitting words.
BODY = json.dumps({"input": ["word " * 2000] * 40}).encode()


@pytest.mark.parametrize("port", ["0", "-1", "99999"])
def test_a_port_that_is_none_is_refused_before_anything_starts(folders, port, capsys):
    assert main(["--model", folders["one"], "--port", port]) == 2
    assert "give one from 1 to 65535" in capsys.readouterr().err


def test_a_limit_that_is_none_is_refused_too(folders, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--model", folders["one"], "--limits.items", "0"])
    assert "items=0: give at least 1" in capsys.readouterr().err


@pytest.mark.slow
def test_what_is_in_work_is_answered_when_it_ends(folders, tmp_path):
    (port,) = free_ports(1)
    command = [sys.executable, "pipelines/serve.py", "--model", folders["one"]]
    command += ["--port", str(port), "--cluster", "local"]
    log = tmp_path / "log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            command, cwd=ROOT, stdout=file, stderr=file, env=with_our_modules()
        )
    try:
        deadline = time.monotonic() + 120
        while "Ctrl-C ends" not in log.read_text():
            assert server.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
        assert len(log.read_text().splitlines()) < 8, "Serve's own lines are not for people"
        outcomes, ended = [], threading.Event()

        def ask():
            while not ended.is_set():
                begun, headers = time.monotonic(), {"Content-Type": "application/json"}
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}/v1/embeddings", BODY, headers
                )
                try:
                    with urllib.request.urlopen(request, timeout=60) as answer:
                        outcomes.append((begun, answer.status))
                except OSError as error:
                    outcomes.append((begun, repr(error)))
                    time.sleep(0.1)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        while len(outcomes) <= 12:
            assert server.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
        asked_to_end = time.monotonic()
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
        ended.set()
        for thread in threads:
            thread.join()
    finally:
        server.kill()
    told = log.read_text().partition("\ndraining\n")
    assert told[1:] == ("\ndraining\n", ""), "what Ray says of its end is not for people"
    before = [status for begun, status in outcomes if begun < asked_to_end]
    assert len(before) > 12
    assert set(before) == {200}
