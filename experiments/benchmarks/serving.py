"""The endpoint under load, beside the bare model and a plain FastAPI app on the same cores.

    python experiments/benchmarks/serving.py [--size base] [--threads 1] [--runs 5]

Every side is a process of its own with the same exported model (random weights) and as many torch
threads: one by default, as the endpoint's replicas have, which leaves the other core to HTTP and to
Ray; with two they share both cores with the model. This process sends the requests over loopback.
The mix: half short texts (2 to 9 words), a quarter long ones (40 to 119 words), a quarter PNG
pictures; a request has one item.

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
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.harness import (
    Row,
    compare,
    document,
    in_a_process,
    parser,
    say,
    started,
)
from experiments.benchmarks.serving_peers import bare, make_model, plain, workload
from momo_platform.machine import free_ports
from momo_platform.serving import Client

IN_FLIGHT = 32
LEAST_OF_BARE = {"demo": 0.75, "small": 0.9, "base": 0.9}
"""Of the bare model's throughput: HTTP weighs more beside a small one."""


class Bare:
    """The bare model's process."""

    def __init__(self, folder: str, threads: int) -> None:
        self.process = started(bare, folder, threads)
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


def request_of(item: dict[str, Any]) -> dict[str, Any]:
    """To the endpoint, of one item."""
    return {"input": item.get("text", [item])}


async def _send(url: str, bodies: Sequence[dict[str, Any]], in_flight: int) -> list[float]:
    """Seconds of each request; any answer but 200 ends the benchmark. Written by hand, since an
    HTTP library takes as much of the two cores as the endpoint does."""
    host, _, port = url.removeprefix("http://").partition(":")
    requests = []
    for content in bodies:
        body = json.dumps(content).encode()
        head = f"POST /v1/embeddings HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n"
        requests.append((head + "content-type: application/json\r\n\r\n").encode() + body)
    waiting = iter(requests)
    seconds: list[float] = []

    async def work() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for request in waiting:
            started = time.perf_counter()
            try:
                writer.write(request)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
            except (asyncio.IncompleteReadError, OSError):  # closed between two requests: again
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(request)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            answer = await reader.readexactly(length)
            seconds.append(time.perf_counter() - started)
            if b" 200 " not in head[:20]:
                raise SystemExit(f"{url}: {head[:20]!r} {answer[:300]!r}")
        writer.close()

    await asyncio.gather(*(work() for _ in range(in_flight)))
    return seconds


def send(url: str, bodies: Sequence[dict[str, Any]], in_flight: int) -> tuple[float, list[float]]:
    """Requests to /v1/embeddings: seconds of all, and of each."""
    started = time.perf_counter()
    seconds = asyncio.run(_send(url, bodies, in_flight))
    return time.perf_counter() - started, seconds


def send_items(url: str, items: Sequence[dict[str, Any]], in_flight: int) -> float:
    """Seconds of all, a request to the endpoint each."""
    return send(url, [request_of(item) for item in items], in_flight)[0]


def wait_for(url: str, process: subprocess.Popen[Any], probe: dict[str, Any]) -> None:
    """Until it embeds what `probe` asks for."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"the process behind {url} ended; its error stands above")
        try:
            send(url, [probe], 1)
            return
        except (OSError, SystemExit):
            time.sleep(0.5)
    raise SystemExit(f"{url} does not answer")


@contextmanager
def answering(
    process: subprocess.Popen[Any], port: int, probe: dict[str, Any] | None = None
) -> Iterator[str]:
    """A server's address, once it answers `probe` (a text's request); it is ended afterwards."""
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url, process, probe or request_of({"text": "a tree"}))
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def endpoint(model: str | Path, cpus: int = 1, precision: str = "fp32") -> Iterator[str]:
    """Our endpoint with one replica, and its address."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "pipelines.serve", "--model", str(model), "--cluster", "local"]
    command += ["--port", str(port), "--cpus", str(cpus), "--precision", precision]
    with answering(subprocess.Popen(command, stdout=subprocess.DEVNULL), port) as url:
        yield url


def replica_memory(url: str) -> float:
    """Resident set sizes of the endpoint's only replica and of its model's process, by its own
    /metrics, MB."""
    with urllib.request.urlopen(url + "/metrics") as answer:
        lines = answer.read().decode().splitlines()
    names = ("process_resident_memory_bytes{", "momo_model_resident_bytes{")
    own, model = [float(line.split()[1]) for line in sorted(lines) if line.startswith(names)]
    return (own + model) / 1e6


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
    side = f"size {options.size}, torch threads {options.threads}"
    rates: dict[str, list[float]] = defaultdict(list)
    for seed in range(options.runs + 1):  # the first is to warm up
        items = workload(options.requests, seed)
        found = {"bare": len(items) / sum(bare.seconds(options.requests, IN_FLIGHT, seed))}
        found["ours"] = len(items) / send_items(ours, items, IN_FLIGHT)
        found["plain"] = len(items) / send_items(other, items, IN_FLIGHT)
        for name, rate in found.items():
            say(f"run {seed}, {name}: {rate:.1f} items/s")
            if seed:
                rates[name].append(rate)
    name = f"throughput at {IN_FLIGHT} in flight, {side}"
    batched, plain = "bare model, batches of 32, no HTTP", "plain FastAPI, a request at a time"
    rows = [
        compare(name, rates["ours"], peer, rates[kind], unit="items/s", least_ratio=goal)
        for kind, peer, goal in (
            ("bare", batched, LEAST_OF_BARE[options.size]),
            ("plain", plain, 3.0),
        )
    ]
    for kind in ("text", "image"):
        count = max(options.requests // 4, 64)
        added: dict[str, list[float]] = {"ours": [], "bare": []}
        for seed in range(options.runs):
            alone = bare.seconds(count, 1, seed, kind)
            bodies = [request_of(i) for i in workload(count, seed) if kind in i]
            added["bare"].append(1000 * statistics.median(alone))
            added["ours"].append(1000 * statistics.median(send(ours, bodies, 1)[1]))
        extra = [a - b for a, b in zip(added["ours"], added["bare"], strict=True)]
        rows.append(
            compare(
                f"added p50 at one in flight, {kind}, {side}",
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
        send_items(url, workload(requests // 5, 100 + part), IN_FLIGHT)
        sizes.append(replica_memory(url))
        say(f"{(part + 1) * requests // 5} requests: {sizes[-1]:.0f} MB")
    return compare(
        f"the replica's memory after {requests:,} requests",
        *(sizes[-1:], f"after {requests // 5:,}", sizes[:1]),
        unit="MB",
        largest_ratio=1.03,
    )


def main() -> None:
    """Print the JSON document; progress to standard error."""
    options = parser(__doc__)
    options.add_argument("--size", default="base", choices=("demo", "small", "base"))
    options.add_argument("--requests", type=int, default=256, help="of each throughput run")
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--threads", type=int, default=1, help="torch's, on every side")
    options.add_argument("--memory", type=int, default=0, help="requests of the memory test")
    given = options.parse_args()
    if given.quick:
        given.runs, given.requests = 1, 48
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        in_a_process(make_model, folder, given.size)
        (other,) = free_ports(1)
        beside = Bare(folder, given.threads)
        with (
            endpoint(folder, given.threads) as ours,
            answering(started(plain, folder, given.threads, other), other) as theirs,
        ):
            check(ours, beside)
            if given.runs:
                rows += loads(ours, theirs, beside, given)
            if given.memory:
                rows.append(memory(ours, given.memory))
        beside.process.terminate()
    print(document(rows))


if __name__ == "__main__":
    main()
