"""A Ray of this process's own on this machine: its folder, its token, its signals."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from momo_platform.cores import usable_cores
from momo_platform.machine import ensure_home
from momo_platform.ray_internals import token_loader
from momo_platform.ray_watch import watch_ray
from momo_platform.stages.errors import UserError

_STARTS = 2  # Ray gives a start 30 s: on a busy machine the second finds its files in memory
_LEAST_ROOM_MB = 16  # for its logs and sockets
_TOKEN = "RAY_AUTH_TOKEN"
_given = [""]  # the token that this process made


def ray_folder() -> tuple[Path, str]:
    """Where Ray keeps its sessions on this machine, as an absolute path, and the variable that
    chooses it. An empty variable counts as none: Ray itself would start below the current folder,
    and then wait for itself."""
    for variable in ("RAY_TMPDIR", "TMPDIR"):
        if given := os.environ.get(variable):
            return Path(given).absolute() / "ray", variable
    return Path("/tmp/ray"), "RAY_TMPDIR"


def start_private(*, num_cpus: int | None, **options: Any) -> str:
    """Start it and connect; returns its dashboard's address, or ''. `options` are `ray.init`'s.
    Raises UserError where this machine has no place or no time for it."""
    import ray

    folder, variable = ray_folder()
    _check_room(folder, variable)
    ensure_home()
    give_token()
    for left in reversed(range(_STARTS)):
        try:
            with keep_signals():
                context = ray.init(
                    "local",
                    num_cpus=usable_cores() if num_cpus is None else num_cpus,
                    _temp_dir=str(folder),
                    **options,
                )
            watch_ray()
            return str(getattr(context, "dashboard_url", "") or "")
        except OSError as error:
            ray.shutdown()
            raise _unusable(folder, variable, error) from error
        except Exception as error:
            if "timed out during startup" not in str(error):  # Ray raises a bare Exception
                raise
            ray.shutdown()
            if not left:
                raise UserError(
                    "Ray did not start in time on this machine: too much else runs on it; try "
                    "again later, or give --cluster the address of a running one"
                ) from error
    raise AssertionError("unreachable")


def _check_room(folder: Path, variable: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        room = shutil.disk_usage(folder).free // 2**20
    except OSError as error:
        raise _unusable(folder, variable, error) from error
    if room < _LEAST_ROOM_MB:
        raise UserError(
            f"Ray's folder {folder} has {room} MB left: make room there, or set {variable} to "
            "another folder"
        )


def _unusable(folder: Path, variable: str, error: OSError) -> UserError:
    if "AF_UNIX" in str(error):
        return UserError(
            f"{variable}: Ray's sockets lie below {folder}, which makes their paths longer than a "
            "socket's may be (107 bytes): set RAY_TMPDIR to a shorter folder, such as /tmp"
        )
    return UserError(
        f"Ray can't use its folder {folder} ({error.strerror or error}): set {variable} to a "
        "folder that this user may write to"
    )


def give_token() -> None:
    """Without a token Ray writes a new one into the home, which may be read-only or none: this
    process's environment holds one then, for its own Ray, until `take_token`."""
    from ray.exceptions import AuthenticationError

    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    loader = token_loader()
    loader.reset_cache()  # what an earlier look found may have changed since
    try:
        found = loader.has_token(ignore_auth_mode=True)
    except AuthenticationError as error:
        if os.environ.get("RAY_AUTH_TOKEN_PATH"):
            raise UserError(
                f"RAY_AUTH_TOKEN_PATH={os.environ['RAY_AUTH_TOKEN_PATH']}: no token can be read "
                "there; name a file that holds one, or unset it"
            ) from error
        found = False
    if not found:
        os.environ[_TOKEN] = _given[0] = secrets.token_hex(32)
    loader.reset_cache()  # Ray keeps the first that it finds, and may be given another later


def take_token() -> None:
    """Forget a token that was given here: it is none of another cluster's."""
    token, _given[0] = _given[0], ""
    if token and os.environ.get(_TOKEN) == token:
        del os.environ[_TOKEN]
        token_loader().reset_cache()


@contextlib.contextmanager
def keep_signals() -> Iterator[None]:
    """`ray.init` takes SIGTERM over, ends what it started and exits without a word. A handler of
    the caller's own comes back after it, and a SIGTERM during it counts as one for that handler."""
    before = signal.getsignal(signal.SIGTERM)
    on_main = threading.current_thread() is threading.main_thread()
    if not on_main or not callable(before):
        yield
        return
    try:
        yield
    except SystemExit:  # Ray's handler
        signal.signal(signal.SIGTERM, before)
        signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
