"""Leases on object stores without an atomic "create if absent".

Lamport's bakery algorithm needs registers only: each driver writes one object of its own and
lists the others', which is safe where listing after writing is consistent (S3, GCS). A driver
first announces that it chooses a number, then takes one above all that it sees; the lowest
(number, token) among the living holds the lease. (L. Lamport, CACM 17(8), 1974.)
"""

from __future__ import annotations

import json
import time
import uuid

import pyarrow.fs as pafs

from momo_platform.stages.liveness import ProcessIdentity
from momo_platform.stages.storage.claims import FOLDER, ObjectLeases
from momo_platform.stages.storage.patience import patiently

_CHOOSING_SECONDS = 5.0


class BakeryLeases(ObjectLeases):
    """By an object for each driver."""

    def __init__(self, fs: pafs.FileSystem) -> None:
        self._numbers: dict[str, int] = {}
        super().__init__(fs)

    def _path(self, folder: str) -> str:
        return f"{folder}/{FOLDER}/{self._token}.json"

    def _write(self, folder: str, number: int) -> None:
        content = ProcessIdentity.own().asdict() | {"number": number, "beat": uuid.uuid4().hex}

        def write() -> None:
            with self._fs.open_output_stream(self._path(folder)) as file:
                file.write(json.dumps(content).encode())

        patiently(write)

    def _take(self, folder: str) -> str | None:
        self._write(folder, 0)
        number = 1 + max([0, *(c.number for c in self._others(folder))])
        self._write(folder, number)
        self._numbers[folder] = number
        deadline = time.monotonic() + _CHOOSING_SECONDS
        while True:
            others = self._others(folder)
            before = [c for c in others if c.number and c.order < (number, self._token)]
            if before:
                self._give_back(folder)
                return str(min(before, key=lambda c: c.order).process)
            choosing = [c for c in others if not c.number]
            if not choosing:
                return None
            if time.monotonic() > deadline:
                self._give_back(folder)
                return str(choosing[0].process)
            time.sleep(0.05)

    def _give_back(self, folder: str) -> None:
        self._delete(self._path(folder))

    def _renew(self, folder: str) -> bool:
        info = self._fs.get_file_info(self._path(folder))
        if info.type != pafs.FileType.File:  # whoever took it had seen no beat for long
            return False
        self._write(folder, self._numbers[folder])
        if not self._is_held(folder):  # given back while we wrote
            self._give_back(folder)
        return True
