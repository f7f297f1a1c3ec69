"""Leases: one driver at a time makes an artifact; a dead driver's lease expires.

The holder gives a sign of life every five seconds. A lease is dead when its holder is known to be
gone, or when its sign has stayed the same for thirty seconds in which a taker watched
(`liveness.py`). A driver that was stopped for so long finds its lease `lost`.

Here is what all kinds share: `local_leases.py` has them in a folder, `conditional.py` and
`bakery.py` on an object store.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from momo_platform.stages.liveness import HEARTBEAT_SECONDS, Watch

logger = logging.getLogger(__name__)


class Leases(ABC):
    """All leases of one driver on a storage, kept alive by one thread. A lease is named by the
    place of its artifact's folder (`Files.place`)."""

    poll_seconds = 0.0
    """How often a lease that somebody else has may be asked for."""
    look_seconds = 0.5
    """How often the holder's signs of life are looked at, where somebody waits for them."""

    def __init__(self) -> None:
        self._token = uuid.uuid4().hex
        self._watch = Watch()
        self._held: set[Any] = set()
        self._lost: set[Any] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        threading.Thread(target=self._beat, daemon=True, name="lease-heartbeat").start()

    @property
    def own_token(self) -> str:
        """This driver's token: that of a lease which is held here."""
        return self._token

    def acquire(self, folder: Any) -> str | None:
        """Take the lease on an artifact's folder; returns its holder when somebody else has it.

        A dead holder's lease is taken after several calls, which watch it.
        """
        with self._lock:
            if folder in self._held:
                return None
        if other := self._take(folder):
            return other
        with self._lock:
            self._held.add(folder)
            self._lost.discard(folder)
        return None

    def acquire_watching(self, folder: Any) -> str | None:
        """Like `acquire`, but waits until it is known whether a holder of whom only signs of life
        tell still lives: for one heartbeat, or the thirty seconds of a dead one."""
        while other := self.acquire(folder):
            if self._is_seen_alive(folder):
                return other
            time.sleep(self.look_seconds)
        return None

    def is_lost(self, folder: Any) -> bool:
        """Whether a lease that was acquired here went to another driver, by the last heartbeat."""
        with self._lock:
            return folder in self._lost

    def holds(self, folder: Any) -> bool:
        """Whether a lease that was acquired here is still ours; looks. Of a storage that does not
        answer nothing is known, and it is taken to be."""
        try:
            return self._token_at(folder) == self._token
        except OSError:
            return True

    def release(self, folder: Any) -> None:
        """Give one lease back."""
        with self._lock:
            held = folder in self._held
            self._held.discard(folder)
            self._lost.discard(folder)
        if held:
            self._give_back(folder)

    def close(self) -> None:
        """Give all leases back and stop the heartbeat."""
        self._stop.set()
        with self._lock:
            held = list(self._held)
        for folder in held:
            self.release(folder)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            with self._lock:
                held = list(self._held)
            for folder in held:
                try:
                    renewed = self._renew(folder)
                except OSError:  # the next beat tries again
                    continue
                except Exception:  # without a heartbeat all leases would be lost unseen
                    logger.exception("heartbeat of %s", folder)
                    continue
                with self._lock:
                    if not renewed and folder in self._held:  # else given back just now
                        self._held.discard(folder)
                        self._lost.add(folder)

    def _is_held(self, folder: Any) -> bool:
        with self._lock:
            return folder in self._held

    @abstractmethod
    def _take(self, folder: Any) -> str | None:
        """Try once; who else has it, or None."""

    @abstractmethod
    def _is_seen_alive(self, folder: Any) -> bool:
        """Whether somebody else there can be seen from here, or has given signs of life since the
        first look."""

    @abstractmethod
    def _token_at(self, folder: Any) -> str | None:
        """The token of whoever has the lease now."""

    @abstractmethod
    def _renew(self, folder: Any) -> bool:
        """A sign of life; False where the lease is no longer ours."""

    @abstractmethod
    def _give_back(self, folder: Any) -> None:
        """Let others have it, unless one already does."""


@dataclass(frozen=True)
class LeaseKind:
    """How a storage's leases are taken and looked at: `leases()` of a new driver, `holder(folder,
    now)` in words or None by a single look at the storage's time `now`, and `token(folder)`."""

    leases: Callable[[], Leases]
    holder: Callable[[Any, float], str | None]
    token: Callable[[Any], str | None]
