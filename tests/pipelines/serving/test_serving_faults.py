"""What ends in the middle of its work, and a machine that is busy with other things."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from processes import descendants

from momo_platform.machine import free_ports, with_our_modules
from momo_platform.serving import Client, ServiceError
from pipelines.serve import deploy

ROOT = Path(__file__).parents[3]
IN_FLIGHT = 32
MODEL = "momo_platform.serving.process"
pytestmark = pytest.mark.slow


class Load:
    """32 threads, half with a text and half with a picture of more than 16 KB, never a retry."""

    def __init__(self, url, direct, noise):
        file = io.BytesIO()
        noise(1, 100, 80).save(file, "PNG")
        text = {"texts": ["a red apple"]}
        self.kinds = [
            (text, direct.embed(**text)[0]),
            ({"images": [file.getvalue()]}, direct.embed(images=[noise(1, 100, 80)])[0]),
        ]
        self.url, self.end = url, threading.Event()
        self.answers, self.errors, self.worst = 0, [], 0.0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.ask, args=(n,)) for n in range(IN_FLIGHT)]

    def ask(self, number):
        given, expected = self.kinds[number % 2]
        client = Client(self.url, retries=0)
        while not self.end.is_set():
            try:
                found = client.embed(**given)[0]
                with self.lock:
                    self.answers += 1
                    self.worst = max(self.worst, float(np.abs(found - expected).max()))
            except ServiceError as error:
                with self.lock:
                    self.errors.append((time.monotonic(), str(error)))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        for thread in self.threads:
            thread.join()


def ours(what):
    """The process ids of this test's own Ray whose command line has `what`."""
    return [pid for pid, line in descendants(os.getpid()).items() if what in line]


@pytest.mark.parametrize(
    "what, replicas",
    [("ray::ServeReplica", 2), (MODEL, 2), (MODEL, 1)],
)
def test_kill_9_under_a_load_of_32_costs_clients_without_retries_no_answer(
    endpoint, direct, noise, what, replicas
):
    options, url = endpoint
    deploy(replace(options, min_replicas=replicas, max_replicas=replicas))
    try:
        with Load(url, direct, noise) as load:
            time.sleep(4)
            before, told = load.answers, len(load.errors)
            assert told == 0, load.errors[:3]
            os.kill(ours(what)[0], signal.SIGKILL)
            time.sleep(12)
        print(f"{what}: {load.answers} answers, {len(load.errors)} errors: {load.errors[:5]}")
        assert load.answers > before + 100
        assert load.worst < 1e-5
        assert len(load.errors) <= max(1, (load.answers + len(load.errors)) // 100), load.errors
    finally:
        deploy(options)


def test_one_scrape_has_the_counters_of_all_replicas(endpoint):
    options, url = endpoint
    deploy(replace(options, min_replicas=2, max_replicas=2))
    try:
        client = Client(url)
        for _ in range(40):
            client.embed(texts=["a"])
        with urllib.request.urlopen(url + "/metrics") as answer:
            counted = answer.read().decode()
        line = r'momo_requests_total\{replica="(\w+)",path="/v1/embeddings",status="200"\} (\S+)'
        found = dict(re.findall(line, counted))
        assert sum(map(float, found.values())) >= 40
        names = set(re.findall(r'process_resident_memory_bytes\{replica="(\w+)"\}', counted))
        assert len(names) == 2
    finally:
        deploy(options)


@pytest.fixture
def busy():
    """So many other processes that want the processor all the time: a load of about 15."""
    code = "while True: pass"
    others = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(15)]
    yield
    for other in others:
        other.kill()
        other.wait()


@pytest.mark.timeout(6000)
def test_ten_starts_on_a_busy_machine_come_up_or_say_in_a_line_why_not(folders, busy, tmp_path):
    """MOMO_TEST_STARTS: how many in place of ten."""
    outcomes = []
    for number in range(int(os.environ.get("MOMO_TEST_STARTS", "10"))):
        (port,) = free_ports(1)
        command = [sys.executable, "pipelines/serve.py", "--model", folders["one"]]
        command += ["--port", str(port), "--cluster", "local"]
        log = tmp_path / f"log{number}"
        begun = time.monotonic()
        with log.open("wb") as file:
            server = subprocess.Popen(
                command, cwd=ROOT, stdout=file, stderr=file, env=with_our_modules()
            )
        try:
            while "Ctrl-C ends" not in log.read_text() and server.poll() is None:
                assert time.monotonic() - begun < 600, log.read_text()[-3000:]
                time.sleep(0.5)
            if server.poll() is None:
                client = Client(f"http://127.0.0.1:{port}", timeout=120)
                assert client.embed(texts=["a"]).shape == (1, 24)
                outcomes.append(f"up after {time.monotonic() - begun:.0f} s")
            else:
                told = [line for line in log.read_text().splitlines() if line.strip()]
                assert server.returncode == 2, log.read_text()[-3000:]
                assert len(told) == 1, told
                assert told[0].startswith("error: "), told
                outcomes.append(told[0])
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(240)
            except subprocess.TimeoutExpired:
                server.kill()
    print("\n".join(outcomes))
