"""What `ray up` will read of this machine: the folders that a cluster file mounts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def dead_links(config: Mapping[str, Any]) -> list[Path]:
    """Links to nothing below the folders of `file_mounts`, from the current folder.

    `ray up` hashes every file there, also those that `rsync_exclude` keeps from being copied, and
    ends at a link to nothing with a traceback (`hash_runtime_conf`, Ray 2.60).
    """
    found = []
    for mounted in (config.get("file_mounts") or {}).values():
        for folder, _, names in os.walk(Path(str(mounted)).expanduser()):
            paths = (Path(folder, name) for name in names)
            found += [path for path in paths if path.is_symlink() and not path.exists()]
    return sorted(found)
