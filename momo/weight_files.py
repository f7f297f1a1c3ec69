"""Weights as safetensors files that others may read where the umask lets them."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """As `safetensors.torch.save_file`, which leaves a file of mode 600 (it renames a private
    temporary one): with the mode of any new file, or of the one that was there."""
    file.touch()
    mode = file.stat().st_mode
    save_file(dict(tensors), file)
    with_mode(file, mode)


def with_mode(file: Path, mode: int) -> None:
    """Give a file the permissions in `mode`, unless it has them (not every file system has any)."""
    if stat.S_IMODE(file.stat().st_mode) != stat.S_IMODE(mode):
        file.chmod(stat.S_IMODE(mode))
