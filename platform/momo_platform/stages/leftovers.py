"""What lies in a storage and is no finished artifact: unfinished ones with checkpoints or parts,
folders of dead attempts, temporary files; and in this machine's cache dead processes' scratch and
the row groups that were fetched from buckets.

Only what this program makes is counted: folders and files of anybody else are left alone.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from momo_platform.stages.begun import read_begun
from momo_platform.stages.checkpoints import CHECKPOINTS
from momo_platform.stages.errors import UserError, unreadable
from momo_platform.stages.fingerprint import is_fingerprint
from momo_platform.stages.in_use import Key
from momo_platform.stages.liveness import ProcessIdentity
from momo_platform.stages.manifest import FILE_NAME, Manifest
from momo_platform.stages.storage.artifacts import FAILURE_FILE, Storage
from momo_platform.stages.storage.attempts import PARTS
from momo_platform.stages.storage.files import Entry
from momo_platform.stages.storage.local import LocalFiles
from momo_platform.stages.storage.scratch import OWNER, artifact_cache, row_cache

_ATTEMPT = re.compile(r"attempt-[0-9a-f]{8}")
_LEASE = re.compile(r"lease(\.json)?(\..*)?")
_TEMPORARY = re.compile(r"manifest\.json\..*tmp")
_SCRATCH = re.compile(r"(work|fetch)-.+")
_DAY = 86400.0


@dataclass(frozen=True)
class Leftover:
    """`paths` are all that would go. `step` is that of the newest checkpoint; `age` in seconds
    since the last change; `held_by` who holds the artifact's lease. With
    `is_finished` it lies beside a finished artifact: a rerun that was interrupted, or an attempt
    that died. With `is_damaged` its manifest is there and not whole: it was finished. With
    `has_parts` there are parts that the next attempt can go on with."""

    name: str
    fingerprint: str
    paths: tuple[str, ...]
    step: int | None
    size: int
    age: float
    held_by: str | None
    is_finished: bool
    inputs: tuple[Key, ...]
    is_damaged: bool = False
    has_parts: bool = False

    @property
    def label(self) -> str:
        """name/fingerprint."""
        return f"{self.name}/{self.fingerprint}"

    @property
    def is_resumable(self) -> bool:
        """Whether an attempt can go on from it."""
        return self.has_parts or self.step is not None

    @property
    def what(self) -> str:
        """In words."""
        if self.is_damaged:
            return "damaged manifest"
        if self.step is not None:
            return f"checkpoint at step {self.step}"
        if self.has_parts:
            return "parts of an unfinished attempt"
        return "left by a dead attempt" if self.is_finished else "no checkpoint"


def leftovers(
    storage: Storage, finished: Mapping[Key, Manifest], problems: list[str]
) -> list[Leftover]:
    """All of a storage, by name. What can't be read is left out and told in `problems`."""
    found: list[Leftover] = []
    told: list[str] = []
    now = storage.now()
    for name in storage.names():
        try:
            entries = storage.entries_of(name)
        except UserError as error:
            told.append(str(error))
            continue
        for entry in entries:
            key = (name, entry.name)
            if entry.size is None and is_fingerprint(entry.name):
                try:
                    one = leftover(storage, key, finished.get(key), now)
                    found += [] if one is None else [one]
                except (UserError, OSError) as error:
                    told.append(unreadable(error, f"{storage.uri}/{name}/{entry.name}"))
    problems += [one for one in told if one not in problems]
    return found


def leftover(storage: Storage, key: Key, manifest: Manifest | None, now: float) -> Leftover | None:
    """Of one artifact's folder, or None. `now` by the storage's clock."""
    place = "/".join(key)
    kept = {FILE_NAME, FAILURE_FILE, manifest.attempt} if manifest else set()
    found = storage.files.entries(place)
    leases = [e for e in found if _LEASE.fullmatch(e.name)]
    top = [e for e in found if e.name not in kept and e not in leases]
    ours = [e for e in top if _is_ours(e)]
    is_damaged = manifest is None and FILE_NAME in {e.name for e in found}
    if is_damaged and not storage.damage(*key):
        return None  # whole, and of another place: somebody's copy
    if not ours or (manifest is None and not is_damaged and len(ours) < len(top)):
        return None  # nothing, or a folder of somebody else
    inner: list[Entry] = []
    for entry in ours:
        inner.append(entry)
        if entry.size is None:
            inner += storage.files.below(f"{place}/{entry.name}")
    if not any(e.size is not None or e.changed for e in inner):
        return None  # a store's mark of a folder that had something in it
    return Leftover(
        *key,
        tuple(f"{place}/{e.name}" for e in ours) if manifest else (place,),
        storage.newest_checkpoint(*key),
        sum(e.size or 0 for e in inner),
        max(0.0, now - max(e.changed for e in inner)),
        storage.lease_holder(*key) if leases else None,
        manifest is not None,
        read_begun(storage, *key).inputs,
        is_damaged,
        PARTS in {e.name for e in ours},
    )


def _is_ours(entry: Entry) -> bool:
    if entry.size is None:
        return entry.name in (CHECKPOINTS, PARTS) or bool(_ATTEMPT.fullmatch(entry.name))
    return entry.name in (FILE_NAME, FAILURE_FILE) or bool(_TEMPORARY.fullmatch(entry.name))


@dataclass(frozen=True)
class Scratch:
    """A folder in the cache that a process works in, or worked in. `fate` is the process's: the
    cache may be in a home that machines share."""

    name: str
    size: int
    age: float
    fate: Literal["runs", "gone", "unknown"]


def scratch_folders() -> list[Scratch]:
    """All of this machine's cache."""
    return list(_scratch_folders())


def _scratch_folders() -> Iterator[Scratch]:
    tree = LocalFiles(artifact_cache())
    entries = [e for e in tree.entries("") if e.size is None and _SCRATCH.fullmatch(e.name)]
    now = tree.now() if entries else 0.0
    for entry in entries:
        inner = [entry, *tree.below(entry.name)]
        owner = ProcessIdentity("", 0)  # of an earlier version, which left no name
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            owner = ProcessIdentity.read(json.loads(tree.get(f"{entry.name}/{OWNER}") or b""))
        known = owner.fate
        size = sum(e.size or 0 for e in inner)
        yield Scratch(entry.name, size, max(0.0, now - max(e.changed for e in inner)), known)


@dataclass(frozen=True)
class CachedRows:
    """Row groups of one corpus that were fetched to this machine (`NodeCache`), in a folder of the
    cache of rows: their files, bytes in all, and seconds since one was used."""

    folder: str
    paths: tuple[str, ...]
    size: int
    age: float


def cached_rows() -> list[CachedRows]:
    """All of this machine's cache."""
    tree = LocalFiles(row_cache())
    boots = [boot.name for boot in tree.entries("") if boot.size is None]
    folders = [f"{boot}/{e.name}" for boot in boots for e in tree.entries(boot) if e.size is None]
    now = tree.now() if folders else 0.0
    found = []
    for folder in folders:
        files = [e for e in tree.below(folder) if e.size is not None and ".arrow" in e.name]
        if files:
            paths = tuple(f"{folder}/{e.name}" for e in files)
            age = max(0.0, now - max(e.changed for e in files))
            found.append(CachedRows(folder, paths, sum(e.size or 0 for e in files), age))
    return found


def is_old(age: float, days: float) -> bool:
    """Whether something unchanged for `age` seconds may go."""
    return age >= days * _DAY
