"""What the endpoint is told, and its limits."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, get_args

from momo_platform.bounds import check_bounds, check_choice
from momo_platform.stages.errors import UserError

Precision = Literal["fp32", "tf32", "bf16", "int8"]
"""Of a model's products; `tf32` needs a GPU, elsewhere it is `fp32`; `int8` is for CPUs."""


@dataclass(frozen=True)
class Limits:
    """What a request may ask for; beyond it is refused, never cut silently (texts apart, which the
    model reads up to its own length)."""

    body_bytes: int = 16 * 2**20
    items: int = 2048
    """As many as OpenAI's; tokens and pixels bound what they cost."""
    text_characters: int = 100_000
    """Of a text."""
    request_characters: int = 4_000_000
    """Of all texts of a request: they are split into words, however few of them the model reads."""
    request_tokens: int = 262_144
    """Of all texts of a request, those that the model reads."""
    picture_bytes: int = 10 * 2**20
    pixels: int = 50_000_000
    """Of a picture."""
    request_pixels: int = 200_000_000
    """Of all pictures of a request. A replica decodes a quarter as many at once."""
    results: int = 100
    """Of a search."""
    queued_items: int = 4096
    """Items in work or waiting at a replica; beyond it answers 503 with Retry-After."""
    seconds: float = 30.0
    """A request that takes longer ends with 504, one whose body does with 408."""

    def __post_init__(self) -> None:
        at_least_one = {f.name: (1, None) for f in fields(self)}
        check_bounds(self, **at_least_one | {"seconds": (0.001, None)})


@dataclass(frozen=True)
class ServingConfig:
    """One deployment. `model`, `index` and `classifier` are folders; they can be
    changed while it runs."""

    model: str
    name: str = "embeddings"
    """The application's, on Serve."""
    title: str = "embeddings"
    """Of the API's document."""
    index: str = ""
    """An index made by the `index` stage; empty: no search."""
    classifier: str = ""
    """A fine-tuned classifier's folder; empty: no classes."""
    keys: tuple[str, ...] = ()
    """SHA-256 of accepted bearer keys, in hex; none: open to whoever reaches the port."""
    allowed_hosts: tuple[str, ...] = ()
    """Names of this endpoint that requests may call it by, beside loopback's and addresses; `*`:
    any. Without keys they are checked (`hosts.py` says why), with keys where there are some."""
    cors_origins: tuple[str, ...] = ()
    """Pages of these origins may ask from a browser, e.g. https://example.org."""
    min_replicas: int = 1
    max_replicas: int = 4
    cpus: float = 1.0
    gpus: float = 0.0
    """Of each replica, or a part of one; without it the model runs on CPUs and sees no GPU."""
    precision: Precision = "fp32"
    threads: int = 0
    """Of torch in a replica; 0: as many as its CPUs."""
    batch_size: int = 64
    batch_wait_ms: float = 1.0
    limits: Limits = field(default=Limits())

    def __post_init__(self) -> None:
        check_bounds(
            self,
            min_replicas=(0, None),
            max_replicas=(1, None),
            cpus=(0.0, None),
            gpus=(0.0, None),
            threads=(0, None),
            batch_size=(1, None),
            batch_wait_ms=(0.0, None),
        )
        check_choice(self, precision=get_args(Precision))
        if self.precision == "int8" and self.gpus:
            raise ValueError(
                f"precision='int8' is for CPUs, but gpus={self.gpus:g}: give bf16, or no GPU"
            )
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas={self.max_replicas}: give at least min_replicas={self.min_replicas}"
            )
        for origin in self.cors_origins:
            if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
                raise ValueError(
                    f"cors_origins={origin!r}: give origins such as https://example.org, each by "
                    "its name"
                )
        for key in self.keys:
            if len(key) != 64 or any(c not in "0123456789abcdef" for c in key):
                raise ValueError("keys: give the SHA-256 of each key in hex, not the key itself")

    def device_for(self, reserved: Sequence[object]) -> str:
        """What a replica's model runs on: `cuda` where Serve `reserved` GPUs for it (a config file
        of Serve's may say so too), else `cpu`. Raises RuntimeError where `gpus` were not reserved.
        """
        if self.gpus and not reserved:
            raise RuntimeError(
                f"gpus={self.gpus:g}, but Serve reserved none for this replica: give num_gpus "
                "below ray_actor_options in its config file"
            )
        return "cuda" if reserved else "cpu"


def hashed(key: str) -> str:
    """What is kept of a bearer key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def is_known(key: str, keys: Iterable[str]) -> bool:
    """Whether a key's hash is among `keys`, in the same time whichever it is."""
    digest = hashed(key)
    found = False
    for known in keys:
        found |= hmac.compare_digest(digest, known)
    return found


def read_keys(file: str) -> tuple[str, ...]:
    """Hashes of the keys in a file, one a line; blank lines and # comments are left out.

    Raises UserError for a file that can't be read, that others can read, or that is empty.
    """
    path = Path(file).expanduser()
    try:
        if os.stat(path).st_mode & 0o077:
            raise UserError(f"--keys {path}: others can read it; chmod 600 {path}")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UserError(f"--keys {path}: {problem}; give a file with a key a line") from error
    keys = [line.strip() for line in lines]
    found = tuple(hashed(key) for key in keys if key and not key.startswith("#"))
    if not found:
        raise UserError(f"--keys {path}: no key in it; give one a line")
    return found
