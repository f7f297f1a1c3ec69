"""An S3 server on this machine that answers late: a proxy holds back what it sends, by so many
milliseconds, however much that is; it counts bytes, and notes what is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import re
import tempfile
from collections.abc import Iterator
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from experiments.benchmarks.object_store import running
from momo_platform.machine import free_ports

_CHUNK = 2**18
_GET = re.compile(rb"^GET (/\S+) HTTP.*?\r\n[Rr]ange: bytes=(\d+)-(\d+)", re.DOTALL)


async def _forward(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    delay: float,
    counted: Synchronized[int] | None,
    noted: Path | None = None,
) -> None:
    """Bytes in their order, each `delay` seconds after it came; ranges that are asked for are
    `noted` in a file."""
    loop, waiting = asyncio.get_running_loop(), asyncio.Queue[tuple[float, bytes]]()

    async def send() -> None:
        while True:
            due, chunk = await waiting.get()
            if not chunk:
                break
            await asyncio.sleep(max(0.0, due - loop.time()))
            writer.write(chunk)
            await writer.drain()
        writer.close()

    sending = asyncio.create_task(send())
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(_CHUNK):
            if counted is not None:
                with counted.get_lock():
                    counted.value += len(chunk)
            if noted is not None and (asked := _GET.match(chunk)):
                with noted.open("ab") as file:
                    file.write(b" ".join(asked.groups()) + b"\n")
            waiting.put_nowait((loop.time() + delay, chunk))
    waiting.put_nowait((0.0, b""))
    with contextlib.suppress(ConnectionError):
        await sending


def _serve(port: int, server: int, delay: float, received: Synchronized[int], noted: Path) -> None:
    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", server)
        await asyncio.gather(
            _forward(reader, back, 0.0, None, noted), _forward(there, writer, delay, received)
        )

    async def run() -> None:
        async with await asyncio.start_server(meet, "127.0.0.1", port) as listening:
            await listening.serve_forever()

    asyncio.run(run())


class SlowStore:
    """`uri` leads there while it runs; `received` are the bytes that it has sent so far."""

    def __init__(self, uri: str, received: Synchronized[int], noted: Path) -> None:
        self.uri, self._received, self._noted = uri, received, noted

    @property
    def received(self) -> int:
        return self._received.value

    def ranges(self, ending: str) -> list[tuple[str, int, int]]:
        """Key, first and last byte of each range that was asked for of keys with this ending."""
        lines = self._noted.read_text().splitlines() if self._noted.exists() else []
        found = (line.split() for line in lines)
        return [(key, int(a), int(b)) for key, a, b in found if key.endswith(ending)]


@contextlib.contextmanager
def slow_store(delay: float) -> Iterator[SlowStore]:
    """A server with an empty bucket behind a proxy, each a process; this process's environment
    leads to it. `delay` in seconds, for every answer."""
    port = free_ports(1)[0]
    bucket = f"corpora-{port}"  # connections are kept by it: another server, another name
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
        running(Path(folder), bucket) as server,
    ):
        received, noted = multiprocessing.Value("q", 0), Path(folder) / "ranges"
        proxy = multiprocessing.Process(
            target=_serve, args=(port, server.port, delay, received, noted), daemon=True
        )
        proxy.start()
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
        try:
            yield SlowStore(f"s3://{bucket}", received, noted)
        finally:
            proxy.kill()
            proxy.join()
