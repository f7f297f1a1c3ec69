"""Freeing room: which artifacts and leftovers may go, and deleting them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from momo_platform.stages.amounts import age_of, in_bytes, in_days
from momo_platform.stages.catalog import Catalog, Key, key_of, size_of
from momo_platform.stages.errors import UserError, is_disk_full
from momo_platform.stages.in_use import (
    check_place,
    collecting,
    keys_in_use,
    remove_dead_records,
)
from momo_platform.stages.leftovers import (
    Leftover,
    cached_rows,
    is_old,
    leftover,
    leftovers,
    scratch_folders,
)
from momo_platform.stages.manifest import Manifest
from momo_platform.stages.storage.local import LocalFiles
from momo_platform.stages.storage.scratch import artifact_cache, row_cache


@dataclass
class Collection:
    """One `gc`: `keep_last` of each name stay, and what has not changed for `unfinished_days`
    without becoming an artifact goes. `say` gets (what, bytes, whether it goes, how old it is or
    why it stays)."""

    catalog: Catalog
    keep_last: int
    unfinished_days: float
    dry_run: bool
    say: Callable[[str, int, bool, str], None]
    freed: int = field(default=0)

    def run(self) -> int:
        """The bytes that are freed, or would be.

        Raises UserError, before anything is deleted, where something can't be read: it may need
        what would go.
        """
        storage = self.catalog.storage
        unfinished = self._unfinished()
        check_place(storage)
        with ExitStack() as stack:
            # In a folder that is no storage nothing is written.
            if not self.dry_run and (self.catalog.manifests or unfinished):
                stack.enter_context(collecting(storage))
                unfinished = self._unfinished()
            if not self.dry_run:  # to ask for leases may write
                self.leases = storage.leases()
                stack.callback(self.leases.close)
            in_use = set(self._in_use(unfinished))
            for manifest in self.catalog.to_delete(self.keep_last, in_use):
                self._artifact(manifest)
            for one in unfinished:
                self._leftover(one, in_use)
            self._records()
            self._scratch()
            self._cached_rows()
        return self.freed

    def _unfinished(self) -> list[Leftover]:
        problems = list(self.catalog.problems)
        found = leftovers(self.catalog.storage, self.catalog.by_key, problems)
        if problems:
            raise UserError(f"{problems[0]}: gc can't tell what it was made from")
        return found

    def _in_use(self, unfinished: list[Leftover]) -> Iterator[Key]:
        """What running plans use, and what stages read that hold a lease or can be resumed."""
        yield from keys_in_use(self.catalog.storage)
        for one in unfinished:
            if one.held_by or (one.is_resumable and not self._is_old(one)):
                yield from one.inputs

    def _is_old(self, one: Leftover) -> bool:
        return is_old(one.age, self.unfinished_days)

    def _artifact(self, manifest: Manifest) -> None:
        storage, key = self.catalog.storage, key_of(manifest)
        what = f"{'/'.join(key)}"
        folder = storage.folder(*key)
        if not self.dry_run:
            if other := self._holder(key):
                self.say(what, 0, False, f"{other} works on it")
                return
            # A plan that began since we looked has said so before it reads anything.
            if key in self._used_now():
                self.leases.release(folder)
                self.say(what, 0, False, "a run that began just now uses it")
                return
            storage.delete(*key)
            self.leases.release(folder)
        self._gone(what, size_of(manifest), age_of(manifest))

    def _holder(self, key: Key) -> str | None:
        """Take the lease on what is to go; who else has it, or None. On a full disk none can be
        written: it goes where nobody holds one."""
        try:
            return self.leases.acquire_watching(self.catalog.storage.folder(*key))
        except OSError as error:
            if not is_disk_full(error):
                raise
            return self.catalog.storage.lease_holder(*key)

    def _used_now(self) -> set[Key]:
        used = keys_in_use(self.catalog.storage)
        known = [self.catalog.by_key[k] for k in used if k in self.catalog.by_key]
        return {*used, *(key_of(m) for one in known for m in self.catalog.upstream(one))}

    def _leftover(self, one: Leftover, in_use: set[Key]) -> None:
        storage, key = self.catalog.storage, (one.name, one.fingerprint)
        if one.is_damaged:  # its files may be all that is left of hours
            why = f"its manifest is damaged; --rerun {one.name} makes it again"
            self.say(one.label, 0, False, why)
            return
        if not self._is_old(one):
            return
        if one.held_by:
            self.say(one.label, 0, False, f"{one.held_by} works on it")
            return
        if key in in_use:
            self.say(one.label, 0, False, "a running plan uses it")
            return
        if not self.dry_run:
            folder = storage.folder(*key)
            if other := self._holder(key):
                self.say(one.label, 0, False, f"{other} works on it")
                return
            now = leftover(storage, key, storage.manifest(*key), storage.now())
            goes = now is not None and not now.is_damaged and self._is_old(now)
            goes = goes and key not in self._used_now()
            for path in now.paths if now is not None and goes else ():
                storage.files.remove(path)
            self.leases.release(folder)
            if not goes:
                self.say(one.label, 0, False, "something changed it just now")
                return
        self._gone(f"{one.label}: {one.what}", one.size, in_days(one.age))

    def _records(self) -> None:
        """Those of dead drivers hold nothing any more."""
        if not self.dry_run:
            remove_dead_records(self.catalog.storage)

    def _scratch(self) -> None:
        cache = LocalFiles(artifact_cache())
        for one in scratch_folders():
            old = one.fate == "unknown" and is_old(one.age, self.unfinished_days)
            if old or one.fate == "gone":
                if not self.dry_run:
                    cache.remove(one.name)
                what = f"{artifact_cache() / one.name}: scratch of a dead process"
                self._gone(what, one.size, in_days(one.age))

    def _cached_rows(self) -> None:
        """A process that still reads some has them mapped, or fetches them again."""
        cache = LocalFiles(row_cache())
        for one in cached_rows():
            what = f"{row_cache() / one.folder}: rows that were fetched from a bucket"
            if not is_old(one.age, self.unfinished_days):
                self.say(what, 0, False, f"{in_bytes(one.size)}, used {in_days(one.age)} ago")
                continue
            for path in () if self.dry_run else one.paths:
                cache.remove(path)
            self._gone(what, one.size, in_days(one.age))

    def _gone(self, what: str, size: int, age: str) -> None:
        self.freed += size
        self.say(what, size, True, age)
