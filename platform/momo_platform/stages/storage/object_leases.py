"""Which leases an object store has: by condition where it keeps to one, else by the bakery."""

from __future__ import annotations

from functools import partial

from momo_platform.stages.storage.bakery import BakeryLeases
from momo_platform.stages.storage.claims import holder_of, token_of
from momo_platform.stages.storage.conditional import ConditionalLeases
from momo_platform.stages.storage.conditional_objects import conditional_objects
from momo_platform.stages.storage.leases import LeaseKind, Leases
from momo_platform.stages.storage.objects import ObjectFiles


def lease_kind(files: ObjectFiles) -> LeaseKind:
    """Of a store."""
    looks = partial(holder_of, files.fs), partial(token_of, files.fs)
    return LeaseKind(lambda: _leases(files), *looks)


def _leases(files: ObjectFiles) -> Leases:
    objects = conditional_objects(files)
    return BakeryLeases(files.fs) if objects is None else ConditionalLeases(files.fs, objects)
