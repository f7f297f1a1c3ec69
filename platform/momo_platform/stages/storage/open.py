"""Which kind of storage a place is."""

from __future__ import annotations

import os
from functools import partial

from momo_platform.stages.errors import UserError
from momo_platform.stages.storage.artifacts import Storage
from momo_platform.stages.storage.files import is_bucket
from momo_platform.stages.storage.in_place import InPlace
from momo_platform.stages.storage.leases import LeaseKind
from momo_platform.stages.storage.local import LocalFiles
from momo_platform.stages.storage.local_leases import LOCAL


def open_storage(uri: str | os.PathLike[str]) -> Storage:
    """The storage at a local path or a `pyarrow.fs` URI (`s3://bucket/folder`, `gs://…`).

    Raises UserError for none at all (an unset variable), a URI of an unknown scheme, and a file.
    """
    text = os.fspath(uri)
    if not text.removeprefix("file://").strip():
        raise UserError("--storage is empty: give a folder or a URI")
    if is_bucket(text):
        return object_storage(text)
    files = LocalFiles(text)
    files.check_place()
    return Storage(files, InPlace(files.root), LOCAL)


def object_storage(uri: str) -> Storage:
    """The storage at a `pyarrow.fs` URI. Takes half a second to load pyarrow."""
    from momo_platform.stages.storage.claims import holder_of, token_of
    from momo_platform.stages.storage.conditional import best_leases
    from momo_platform.stages.storage.copies import Copies
    from momo_platform.stages.storage.objects import ObjectFiles

    files = ObjectFiles(uri)
    looks = partial(holder_of, files.fs), partial(token_of, files.fs)
    return Storage(files, Copies(files), LeaseKind(partial(best_leases, files), *looks))
