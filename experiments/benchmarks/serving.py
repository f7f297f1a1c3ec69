"""The endpoint under load, beside the bare model and a plain FastAPI app on the same cores.

    python experiments/benchmarks/serving.py [--size base] [--runs 5] [--memory 50000]

Every side is a process of its own with the same exported model (random weights) and two torch
threads; this process sends the requests over loopback. The mix: half short texts (2 to 9 words), a
quarter long ones (40 to 119 words), a quarter PNG pictures; a request has one item.

- throughput, 32 requests in flight, beside the bare model in batches of 32 without any HTTP, and
  beside the plain app, which embeds a request at a time; runs interleaved, medians;
- latency, one in flight: what the endpoint adds to the bare model's median, for each kind;
- memory of the replica after `--memory` requests beside a fifth of them (`--memory 0`: left out).

About 6 minutes on two cores with size base and `--requests 64`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from experiments.benchmarks.harness import Row, compare, document
from experiments.benchmarks.serving_peers import THREADS, workload
from momo_platform.serving import Client

IN_FLIGHT = 32
_PEERS = [sys.executable, "-m", "experiments.benchmarks.serving_peers"]


class Bare:
    """The bare model's process."""

    def __init__(self, folder: str) -> None:
        self.process = subprocess.Popen(
            [*_PEERS, "bare", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._line()

    def _line(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the bare model's process ended; its error stands above")
        return line

    def ask(self, question: dict[str, Any]) -> Any:
        """The answer to one line."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self._line())

    def seconds(self, count: int, batch: int, seed: int, kind: str = "") -> list[float]:
        """Of each batch of a workload, or of its items of one kind."""
        return self.ask({"count": count, "batch": batch, "seed": seed, "kind": kind})


async def _send(url: str, items: Sequence[dict[str, Any]], in_flight: int) -> list[float]:
    """Seconds of each request; any answer but 200 ends the benchmark."""
    import aiohttp

    waiting = iter(items)
    seconds: list[float] = []

    async def work(session: aiohttp.ClientSession) -> None:
        for item in waiting:
            body = {"input": item.get("text", [item])}
            started = time.perf_counter()
            async with session.post(url + "/v1/embeddings", json=body) as answer:
                text = await answer.text()
                if answer.status != 200:
                    raise SystemExit(f"{url}: {answer.status} {text[:300]}")
            seconds.append(time.perf_counter() - started)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(work(session) for _ in range(in_flight)))
    return seconds


def send(url: str, items: Sequence[dict[str, Any]], in_flight: int) -> tuple[float, list[float]]:
    """Seconds of all, and of each."""
    started = time.perf_counter()
    seconds = asyncio.run(_send(url, items, in_flight))
    return time.perf_counter() - started, seconds


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str, process: subprocess.Popen[Any]) -> None:
    """Until it embeds."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"the process behind {url} ended; its error stands above")
        try:
            send(url, [{"text": "a tree"}], 1)
            return
        except (OSError, SystemExit):
            time.sleep(0.5)
    raise SystemExit(f"{url} does not answer")


@contextmanager
def started(command: Sequence[str], port: int) -> Iterator[str]:
    """A server's address; it is ended afterwards."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url, process)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            process.kill()


def replica_memory(url: str) -> float:
    """Resident set size of the endpoint's only replica by its own /metrics, MB."""
    with urllib.request.urlopen(url + "/metrics") as answer:
        lines = answer.read().decode().splitlines()
    (size,) = [line for line in lines if line.startswith("process_resident_memory_bytes ")]
    return float(size.split()[1]) / 1e6


def check(ours: str, bare: Bare) -> None:
    """Both sides give the same vectors, or the comparison means nothing."""
    client = Client(ours)
    items = workload(8)
    found = client.post("/v1/embeddings", {"input": [i.get("text", i) for i in items]})
    rows = np.array([one["embedding"] for one in found["data"]])
    largest = np.abs(rows - np.array(bare.ask({"vectors_of": 8}))).max()
    if largest > 1e-5:
        raise SystemExit(f"the endpoint's vectors differ from the model's by {largest:g}")


def loads(ours: str, other: str, bare: Bare, options: argparse.Namespace) -> list[Row]:
    """Throughput and latency."""
    rates: dict[str, list[float]] = {"ours": [], "bare": [], "plain": []}
    for seed in range(options.runs + 1):  # the first is to warm up
        items = workload(options.requests, seed)
        found = {"bare": len(items) / sum(bare.seconds(options.requests, IN_FLIGHT, seed))}
        found["ours"] = len(items) / send(ours, items, IN_FLIGHT)[0]
        found["plain"] = len(items) / send(other, items, IN_FLIGHT)[0]
        for name, rate in found.items():
            print(f"run {seed}, {name}: {rate:.1f} items/s", file=sys.stderr, flush=True)
            if seed:
                rates[name].append(rate)
    rows = [
        compare(
            f"throughput at {IN_FLIGHT} in flight, size {options.size}",
            *(rates["ours"], "bare model, batches of 32, no HTTP", rates["bare"]),
            unit="items/s",
            least_ratio=0.9,
        ),
        compare(
            f"throughput at {IN_FLIGHT} in flight, size {options.size}",
            *(rates["ours"], "plain FastAPI, a request at a time", rates["plain"]),
            unit="items/s",
            least_ratio=3.0,
        ),
    ]
    for kind in ("text", "image"):
        added: dict[str, list[float]] = {"ours": [], "bare": []}
        for seed in range(options.runs):
            alone = bare.seconds(options.requests // 4, 1, seed, kind)
            items = [i for i in workload(options.requests // 4, seed) if kind in i]
            added["bare"].append(1000 * statistics.median(alone))
            added["ours"].append(1000 * statistics.median(send(ours, items, 1)[1]))
        extra = [a - b for a, b in zip(added["ours"], added["bare"], strict=True)]
        rows.append(
            compare(
                f"added p50 at one in flight, {kind}, size {options.size}",
                *(extra, "the bare model's p50", added["bare"]),
                unit="ms",
                largest_value=10.0,
            )
        )
    return rows


def memory(url: str, requests: int) -> Row:
    """Of the replica, after all requests and after a fifth of them."""
    sizes = []
    for part in range(5):
        items = workload(requests // 5, 100 + part)
        send(url, items, IN_FLIGHT)
        sizes.append(replica_memory(url))
        print(f"{(part + 1) * requests // 5} requests: {sizes[-1]:.0f} MB", file=sys.stderr)
    return compare(
        f"the replica's memory after {requests:,} requests",
        *(sizes[-1:], f"after {requests // 5:,}", sizes[:1]),
        unit="MB",
        largest_ratio=1.03,
    )


def main() -> None:
    """Write the JSON to standard output; progress to standard error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", default="base", choices=("demo", "small", "base"))
    parser.add_argument("--requests", type=int, default=256, help="of each throughput run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--memory", type=int, default=0, help="requests of the memory test")
    parser.add_argument("--quick", action="store_true", help="one run of few requests")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.requests = 1, 48
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*_PEERS, "model", folder, options.size], check=True)
        port, other = free_port(), free_port()
        command = [sys.executable, "-m", "pipelines.serve", "--model", folder, "--cluster", "local"]
        command += ["--port", str(port), "--cpus", str(THREADS)]
        bare = Bare(folder)
        with (
            started(command, port) as ours,
            started([*_PEERS, "plain", folder, str(other)], other) as plain,
        ):
            check(ours, bare)
            if options.runs:
                rows += loads(ours, plain, bare, options)
            if options.memory:
                rows.append(memory(ours, options.memory))
        bare.process.terminate()
    print(document(rows))


if __name__ == "__main__":
    main()
