"""Leases on stores that create an object only if it is absent (S3's `If-None-Match: *`).

One object is the lease. Creating it decides who was first; a heartbeat, and taking it from a dead
driver, write it anew if it is still the one that was seen (`If-Match`).

A driver that can't write so, and uses the bakery, may want the same lease. To it the object is one
more claim. It says 'chooses' first; only where no other living claim is found then, it gets the
number that comes before all of the bakery's. So either this driver sees the other's claim and steps
back, or the other sees this one in every look, and waits or steps back.
"""

from __future__ import annotations

import contextlib
import json
import uuid

import pyarrow.fs as pafs

from momo_platform.stages.liveness import ProcessIdentity
from momo_platform.stages.storage.bakery import BakeryLeases
from momo_platform.stages.storage.claims import FOLDER, Claim, ObjectLeases, claim_of
from momo_platform.stages.storage.conditional_objects import (
    ConditionalObjects,
    conditional_objects,
)
from momo_platform.stages.storage.objects import ObjectFiles

HELD = "held.json"
_CHOOSES, _HOLDS = 0, -1
_TRIES = 3


class ConditionalLeases(ObjectLeases):
    """By one object for whoever holds."""

    def __init__(self, fs: pafs.FileSystem, objects: ConditionalObjects) -> None:
        self._objects = objects
        self._tags: dict[str, str] = {}
        super().__init__(fs)

    def _path(self, folder: str) -> str:
        return f"{folder}/{FOLDER}/{HELD}"

    def _look(self, folder: str) -> tuple[Claim, str] | None:
        """The lease and its tag, which changes with every heartbeat; None without one."""
        path = self._path(folder)
        if (found := self._objects.get(path)) is None:
            return None
        try:
            return claim_of(path, json.loads(found[0]), 0.0), found[1]
        except (ValueError, KeyError, TypeError) as error:
            raise OSError(f"{path}: no lease of ours ({error}); delete it") from error

    def _write(self, folder: str, number: int, tag: str | None) -> str | None:
        """Ours from now on, if it is as it was seen: its new tag; else None."""
        own = {"token": self._token, "number": number, "beat": uuid.uuid4().hex}
        content = ProcessIdentity.own().asdict() | own
        path = self._path(folder)
        for _ in range(_TRIES):
            written = self._objects.put(path, json.dumps(content), tag)
            if written is None:
                found = self._look(folder)
                if found is None or found[0].token != self._token:
                    return None
                tag = found[1]  # ours from before, where the store had too much to do at once
                written = tag if found[0].sign == claim_of(path, content, 0.0).sign else None
            if written is not None:  # perhaps by a try whose answer was lost
                return written
        raise OSError(f"{path}: conflicting writes")

    def _take(self, folder: str) -> str | None:
        found = self._look(folder)
        if found is not None:
            claim, _ = found
            if claim.token != self._token and not self._is_dead(folder, claim):
                return str(claim.process)
        tag = self._write(folder, _CHOOSES, None if found is None else found[1])
        if tag is None:
            return self._faster(folder)
        if found is not None:
            self._watch.forget((folder, found[0].token))
        if others := self._others(folder):
            self._give_back(folder)
            return str(min(others, key=lambda c: c.order).process)
        if (held := self._write(folder, _HOLDS, tag)) is None:
            return self._faster(folder)
        self._tags[folder] = held
        return None

    def _faster(self, folder: str) -> str:
        """Another driver was."""
        found = self._look(folder)
        return "another driver" if found is None else str(found[0].process)

    def _give_back(self, folder: str) -> None:
        found = self._look(folder)
        if found is not None and found[0].token == self._token:
            self._objects.delete(self._path(folder), found[1])
        self._tags.pop(folder, None)

    def _renew(self, folder: str) -> bool:
        tag = self._tags.get(folder)
        if tag is None or (written := self._write(folder, _HOLDS, tag)) is None:
            return False
        if self._is_held(folder):
            self._tags[folder] = written
        else:  # given back while we wrote; perhaps taken again, which changes the tag
            with contextlib.suppress(OSError):
                self._objects.delete(self._path(folder), written)
        return True


def best_leases(files: ObjectFiles) -> ObjectLeases:
    """A driver's: conditional ones where the store keeps to conditions, else the bakery's."""
    objects = conditional_objects(files)
    return BakeryLeases(files.fs) if objects is None else ConditionalLeases(files.fs, objects)
