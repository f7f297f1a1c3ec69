"""Folders on this machine's own disk in which processes work, in the cache."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from momo_platform.cache import cache_root
from momo_platform.stages.liveness import ProcessIdentity

OWNER = "owner.json"


def artifact_cache() -> Path:
    """`artifacts` below the cache's root; safe to delete."""
    return cache_root() / "artifacts"


def row_cache() -> Path:
    """`rows` below the cache's root, of `NodeCache`; safe to delete."""
    return cache_root() / "rows"


def scratch_folder(name: str) -> Path:
    """A new folder on this machine, in the cache."""
    artifact_cache().mkdir(parents=True, exist_ok=True)
    return sign(Path(tempfile.mkdtemp(dir=artifact_cache(), prefix=f"work-{name}-")))


def sign(scratch: Path) -> Path:
    """Say which process a scratch folder is of: `gc` frees those of the dead."""
    (scratch / OWNER).write_text(json.dumps(ProcessIdentity.own().asdict()), encoding="utf-8")
    return scratch
