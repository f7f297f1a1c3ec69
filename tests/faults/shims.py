"""Preloads `shim.c` into processes: `environment(*faults, clock=...)` for their `env`.

A fault is data in the environment, so that all processes of a run share it, Ray's workers too. It
asks first whether its `while_exists` is there: creating and deleting that file starts and ends the
fault in processes that run.
"""

import errno
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("shim.c")


@dataclass(frozen=True)
class Fault:
    """`operations` (names in `shim.c`) on paths that contain `path` fail with the errno `error`.

    With `times` and `markers`, a path that no file has yet, it strikes so often over all processes.
    """

    operations: tuple[str, ...]
    error: str
    path: str = ""
    times: int = 0
    markers: Path | None = None
    while_exists: Path | None = None

    def line(self) -> str:
        if bool(self.times) != bool(self.markers):
            raise ValueError("times and markers go together")
        fields = [",".join(self.operations), str(getattr(errno, self.error)), self.path]
        fields += [str(self.times), str(self.markers or ""), str(self.while_exists or "")]
        if any(mark in field for field in fields for mark in "|\n"):
            raise ValueError(f"{fields}: neither | nor line breaks")
        return "|".join(fields)


def no_links(path: str = "", error: str = "EPERM", while_exists: Path | None = None) -> Fault:
    """A file system without hard links: exFAT, some network and FUSE mounts."""
    return Fault(("link",), error, path, while_exists=while_exists)


def no_symlinks(path: str = "", error: str = "EPERM", while_exists: Path | None = None) -> Fault:
    return Fault(("symlink",), error, path, while_exists=while_exists)


def no_locks(path: str = "", error: str = "ENOLCK", while_exists: Path | None = None) -> Fault:
    """A file server without locks: NFS whose lock daemon is gone, some FUSE mounts."""
    return Fault(("lock",), error, path, while_exists=while_exists)


def full_disk(path: str, while_exists: Path | None = None) -> Fault:
    """Nothing more fits: names can be read and removed, and nothing written or made."""
    return Fault(("write", "mkdir", "symlink"), "ENOSPC", path, while_exists=while_exists)


def read_only(path: str, while_exists: Path | None = None) -> Fault:
    changes = ("create", "link", "symlink", "rename", "remove", "mkdir", "change")
    return Fault(changes, "EROFS", path, while_exists=while_exists)


def times(count: int, operations: tuple[str, ...], error: str, path: str, markers: Path) -> Fault:
    """`count` of the operations fail, whichever processes do them, and all later ones go on."""
    return Fault(operations, error, path, count, markers)


def struck(fault: Fault) -> int:
    """How often a fault with `times` has struck."""
    assert fault.markers is not None
    return len(list(fault.markers.parent.glob(f"{fault.markers.name}.*")))


@cache
def library() -> Path:
    """The built shim. Raises `RuntimeError` where there is no compiler, or it can't build it."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise RuntimeError("no C compiler (gcc or cc), which the preloaded faults need")
    built = Path(tempfile.mkdtemp(prefix="shim-")) / "shim.so"
    flags = ["-shared", "-fPIC", "-O2", "-std=gnu11", "-fvisibility=hidden"]
    done = subprocess.run(
        [compiler, *flags, "-o", str(built), str(SOURCE), "-ldl", "-lpthread"],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{compiler} can't build {SOURCE.name}: {done.stderr[-500:]}")
    return built


def environment(*faults: Fault, clock: Path | None = None) -> dict[str, str]:
    """What a subprocess's environment needs beside the present one. Skips without a compiler."""
    try:
        preloaded = str(library())
    except RuntimeError as error:
        pytest.skip(str(error))
    found = {
        "LD_PRELOAD": " ".join(filter(None, [preloaded, os.environ.get("LD_PRELOAD")])),
        "RAY_LD_PRELOAD_ON_WORKERS": "1",  # Ray takes it from them otherwise
        "SHIM_FAULTS": "\n".join(fault.line() for fault in faults),
    }
    if clock is not None:
        found["SHIM_CLOCK"] = str(clock)
    return found


def step_clock(file: Path, seconds: float) -> None:
    """From now on, processes with `clock=file` see a wall clock so far ahead of the true one."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(f"{seconds:.6f}")
    new.replace(file)
