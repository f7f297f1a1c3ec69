"""An S3 server that keeps what it has when it is killed: SeaweedFS, one process on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs

from momo_platform.machine import free_ports

_SERVICES = ("master", "volume", "filer", "s3")


class S3Server:
    """`environment` leads to it. Not yet started."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.process: subprocess.Popen[bytes] | None = None
        ports = iter(free_ports(2 * len(_SERVICES)))
        self.options: list[str] = []
        named: dict[str, int] = {}
        for service in _SERVICES:
            named[service] = next(ports)
            self.options += [f"-{service}.port={named[service]}"]
            self.options += [f"-{service}.port.grpc={next(ports)}"]
        self.port = named["s3"]
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        """Until it listens."""
        data, keys = self.folder / "data", self.folder / "keys.json"
        data.mkdir(parents=True, exist_ok=True)
        credentials = [{"accessKey": "test", "secretKey": "test"}]
        actions = ["Admin", "Read", "Write", "List"]
        identity = {"name": "test", "credentials": credentials, "actions": actions}
        keys.write_text(json.dumps({"identities": [identity]}))
        program = Path(sys.executable).parent / "weed"
        command = [program, "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        command += ["-s3", f"-s3.config={keys}", "-s3.iam=false", "-master.telemetry=false"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # else two can not run at once
        command += ["-master.volumeSizeLimitMB=64", "-volume.max=0", *self.options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, (self.folder / "log").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def make_bucket(self, name: str) -> None:
        """By this process's own environment, which must lead here."""
        fs, _ = pafs.FileSystem.from_uri(f"s3://{name}?allow_bucket_creation=true")
        fs.create_dir(name)

    def kill(self) -> None:
        """At once, in the middle of whatever it does."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def running(folder: Path, bucket: str) -> Iterator[S3Server]:
    """A server with an empty bucket; this process's environment leads to it."""
    server, before = S3Server(folder), dict(os.environ)
    server.start()
    os.environ.update(server.environment)
    try:
        server.make_bucket(bucket)
        yield server
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.kill()
