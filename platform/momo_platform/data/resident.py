"""A corpus that lies on the device: decoded once, at the start; its rows then bring no pictures."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from momo_platform.cores import usable_cores
from momo_platform.data.shards import ShardDataset
from momo_platform.stages.errors import UserError

if TYPE_CHECKING:
    import torch

SHARE = 0.6
"""Of the device's free memory that a resident corpus may take, at most; the rest is the model's."""
_REPORT_SECONDS = 2.0


class Picture(Protocol):
    """An encoded picture whose header was read."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    def pixels(self) -> np.ndarray: ...  # uint8 [height, width, 3]


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device; of a CPU, the machine's."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class ResidentShards:
    """Shards with a column `image`; `open_picture` reads the header of an encoded picture, `cores`
    threads decode (None: all cores that this process may use).

    `load` decodes all of them. Rows have `start`, `height` and `width` in the place of `image`:
    where among the bytes that `load` returns a picture begins.
    """

    def __init__(
        self,
        folder: Path,
        open_picture: Callable[[bytes], Picture],
        share: float = SHARE,
        cores: int | None = None,
    ) -> None:
        self._shards, self._open, self._share = ShardDataset(folder, 8), open_picture, share
        self._folder, self.row_group = folder, self._shards.row_group
        self._threads = cores or usable_cores()
        self._others = [name for name in self._shards.columns if name != "image"]
        self._place: np.ndarray | None = None  # int64 [rows, 3]

    def __len__(self) -> int:
        return len(self._shards)

    def read(self, rows: np.ndarray) -> pa.Table:
        """The given rows [B] in their order. Raises `ValueError` before `load`."""
        if self._place is None:
            raise ValueError(f"{self._folder} is resident, and not loaded yet")
        table = pa.table(dict(zip(("start", "height", "width"), self._place[rows].T, strict=True)))
        if self._others:
            kept = self._shards.read(rows, self._others)
            for name in self._others:
                table = table.append_column(name, kept.column(name))
        return table

    def load(
        self, device: torch.device, report: Callable[[str], None] = lambda _: None
    ) -> dict[str, Any]:
        """`flat` uint8 [bytes] on `device`: all pictures, RGB, rows of pixels.

        Two passes over the shards, with a thread a core: one for sizes, one that decodes. Raises
        `UserError` before anything is decoded where it would take more than the share of the
        device's free memory.
        """
        import torch

        allowed = int(self._share * free_bytes(device))
        self._check(self._shards.stored_bytes(), allowed, device, "more than ")
        groups = [
            np.arange(i, min(i + self.row_group, len(self)))
            for i in range(0, len(self), self.row_group)
        ]
        with ThreadPoolExecutor(self._threads, thread_name_prefix="resident") as pool:
            sizes = np.concatenate(list(pool.map(self._sizes, groups)))
            ends = np.cumsum(3 * sizes[:, 0] * sizes[:, 1])
            starts = np.concatenate([[0], ends[:-1]])
            self._check(int(ends[-1]), allowed, device)
            flat = torch.empty(int(ends[-1]), dtype=torch.uint8, device=device)
            shown = time.monotonic()
            coming = _few_ahead(pool, self._decode, groups, 2 * self._threads)
            for rows, decoded in zip(groups, coming, strict=True):
                begin, end = int(starts[rows[0]]), int(ends[rows[-1]])
                if len(decoded) != end - begin:
                    raise ValueError(
                        f"{self._folder}: pictures of rows {rows[0]} to {rows[-1]} are not of the "
                        "size that their headers say: prepare the corpus anew"
                    )
                flat[begin:end] = torch.from_numpy(decoded).to(device)
                if time.monotonic() - shown > _REPORT_SECONDS or rows is groups[-1]:
                    shown = time.monotonic()
                    done = int(rows[-1]) + 1
                    report(
                        f"{done:,} of {len(self):,} pictures are resident on {device}, "
                        f"{ends[done - 1] / 1e9:.1f} of {ends[-1] / 1e9:.1f} GB"
                    )
        self._place = np.column_stack([starts, sizes]).astype(np.int64)
        return {"flat": flat}

    def _check(self, needed: int, allowed: int, device: torch.device, word: str = "") -> None:
        if needed > allowed:
            raise UserError(
                f"scaling.resident: {self._folder} takes {word}{needed / 1e9:.2f} GB decoded, "
                f"{self._share:.0%} of what is free on {device} is {allowed / 1e9:.2f} GB: set "
                "scaling.resident to false, or prepare the pictures with a smaller "
                "picture.size_cap"
            )

    def _pictures(self, rows: np.ndarray) -> list[Picture]:
        table = self._shards.read(rows, ["image"])
        return [self._open(raw) for raw in table.column("image").to_pylist()]

    def _sizes(self, rows: np.ndarray) -> np.ndarray:
        return np.array([(p.height, p.width) for p in self._pictures(rows)], dtype=np.int64)

    def _decode(self, rows: np.ndarray) -> np.ndarray:
        return np.concatenate([p.pixels().reshape(-1) for p in self._pictures(rows)])


def _few_ahead(
    pool: ThreadPoolExecutor,
    make: Callable[[np.ndarray], np.ndarray],
    items: Sequence[np.ndarray],
    ahead: int,
) -> Iterator[np.ndarray]:
    """`map` in order that never holds more than `ahead` results."""
    coming = deque(pool.submit(make, item) for item in items[:ahead])
    for item in items[ahead:]:
        yield coming.popleft().result()
        coming.append(pool.submit(make, item))
    while coming:
        yield coming.popleft().result()
