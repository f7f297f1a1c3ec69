"""Which artifacts running plans use: `gc` leaves them and all that they were made from alone.

A running stage has no manifest yet, and a stage that waits for hours has not even begun: only its
driver knows what it will read. So each running plan keeps a record of all its artifacts in the
storage, `.in-use/<token>.json`, renewed while it runs. A driver that dies leaves its record behind;
it counts no more once its process is known to be gone, or it was silent for an hour.

A plan that was made just before a `gc` and a `gc` that looked just before the plan's record would
miss each other. Therefore `gc` leaves a record, too, before it looks; a driver that finds one after
writing its own waits until it is gone and then checks that its inputs are still there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from momo_platform.application import NAME
from momo_platform.stages.errors import UserError, is_disk_full
from momo_platform.stages.liveness import OLD_SECONDS, ProcessIdentity
from momo_platform.stages.plan import Plan
from momo_platform.stages.storage.artifacts import Storage

logger = logging.getLogger(__name__)
FOLDER = ".in-use"
_BEAT_SECONDS = 30.0
"""Of a process that can't be seen from here, by the storage's clock. `gc` takes one look and can't
watch as a lease's taker does, so it waits long."""
_POLL_SECONDS = 0.2
_CLOSE_SECONDS = 5.0

Key = tuple[str, str]


@dataclass(frozen=True)
class Record:
    """What one process said: `uses` are (name, fingerprint), None where that can't be understood;
    `collects` for a `gc`."""

    path: str
    uses: tuple[Key, ...] | None
    collects: bool
    who: str
    lives: bool


def read_records(storage: Storage) -> list[Record]:
    """All records of a storage, those of the dead too."""
    files = [e for e in storage.files.entries(FOLDER) if e.name.endswith(".json")]
    if not files:
        return []
    now = storage.now()
    found = []
    for entry in files:
        path = f"{FOLDER}/{entry.name}"
        try:
            content = json.loads(storage.files.get(path) or b"{}")
            process = ProcessIdentity.read(content["process"])
            silent = now - entry.changed > OLD_SECONDS
            lives = not process.is_gone if process.is_here else not silent
            uses = tuple((str(name), str(digest)) for name, digest in content["uses"])
            found.append(Record(path, uses, bool(content["collects"]), str(process), lives))
        except (ValueError, KeyError, TypeError):  # of another version
            lives = now - entry.changed <= OLD_SECONDS
            found.append(Record(path, None, False, "a run of another version", lives))
    return found


def remove_dead_records(storage: Storage) -> None:
    """What dead processes left, halves of records too."""
    for record in read_records(storage):
        if not record.lives:
            storage.files.remove(record.path)
    for entry in storage.files.entries(FOLDER):
        if entry.name.endswith(".tmp") and storage.now() - entry.changed > OLD_SECONDS:
            storage.files.remove(f"{FOLDER}/{entry.name}")


def keys_in_use(storage: Storage) -> list[Key]:
    """Of all running plans. Raises UserError where one can't be understood."""
    living = [r for r in read_records(storage) if r.lives]
    for record in living:
        if record.uses is None:
            raise UserError(
                f"{storage.uri}/{record.path} can't be understood: wait until that run has ended, "
                "or update this program"
            )
    return [key for record in living for key in record.uses or ()]


def check_place(storage: Storage) -> None:
    """Raises UserError where something else than a folder is in the records' place: it lists like
    an empty folder, as if no plan ran."""
    if any(e.name == FOLDER and e.size is not None for e in storage.files.entries("")):
        raise UserError(
            f"{storage.uri}/{FOLDER} is a file: which runs use what can't be told there; remove it "
            "when no run is going on"
        )


@dataclass
class InUse:
    """One process's record, renewed by a thread until `close`. Once it was written, a storage that
    can't be written just now is tried again: it may be full, which a `gc` mends."""

    storage: Storage
    collects: bool = False
    _uses: dict[Key, None] = field(default_factory=dict)
    _path: str = field(default_factory=lambda: f"{FOLDER}/{uuid.uuid4().hex}.json")
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def add(self, keys: Iterable[Key]) -> None:
        """Say that these are in use, too; on the disk when this returns.

        Raises OSError where the first record can't be written: what nobody knows of is collected.
        """
        with self._lock:
            self._uses |= dict.fromkeys(keys)
        if self._thread is None:
            self._write()
            self.renew()
        else:
            self._write_again()

    def renew(self) -> None:
        """From now on write the record again and again."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, daemon=True, name="in-use")
            self._thread.start()

    def close(self) -> None:
        """They are no longer in use."""
        self._end.set()
        if self._thread is not None:
            self._thread.join(timeout=_CLOSE_SECONDS)
        with contextlib.suppress(OSError):
            self.storage.files.remove(self._path)

    def _beat(self) -> None:
        while not self._end.wait(_BEAT_SECONDS):
            self._write_again()

    def _write_again(self) -> None:
        with contextlib.suppress(OSError):
            self._write()

    def _write(self) -> None:
        with self._lock:
            document = {
                "process": ProcessIdentity.own().asdict(),
                "collects": self.collects,
                "uses": list(self._uses),
            }
            self.storage.files.put(self._path, json.dumps(document))


@contextlib.contextmanager
def collecting(storage: Storage) -> Iterator[None]:
    """While a `gc` deletes: drivers that start wait for its end.

    A full disk, which it is to mend, keeps no `gc` from it.
    """
    record = InUse(storage, collects=True)
    try:
        record.add([])
    except OSError as error:
        if not is_disk_full(error):
            raise
        logger.warning(
            "the disk is full (%s): a run that starts now is not told that a gc deletes", error
        )
        record.renew()
    try:
        yield
    finally:
        record.close()


@contextlib.contextmanager
def using(plan: Plan, storage: Storage) -> Iterator[None]:
    """While a plan runs: it uses all its artifacts, made or not.

    Waits for a `gc` that runs. Raises UserError where an input was collected since the plan was
    made.
    """
    storage.create()
    record = InUse(storage)
    record.add((e.name, e.fingerprint) for e in plan.entries if e.action != "skipped")
    try:
        remove_dead_records(storage)
        _wait_for_collectors(storage)
        _check_inputs(plan, storage)
        yield
    finally:
        record.close()


def _wait_for_collectors(storage: Storage) -> None:
    told = False
    while found := [r for r in read_records(storage) if r.collects and r.lives]:
        if not told:
            logger.warning("waits for a `%s artifacts gc` (%s)", NAME, found[0].who)
            told = True
        time.sleep(_POLL_SECONDS)


def _check_inputs(plan: Plan, storage: Storage) -> None:
    cached = {e.name: e.fingerprint for e in plan.entries if e.action == "cached"}
    needed = {s.name for e in plan.to_run for s in e.stage.inputs.values()}
    for name in cached.keys() & needed:
        if storage.manifest(name, cached[name]) is None:
            raise UserError(
                f"{name}/{cached[name]} was collected after this run was planned: run it again"
            )
