"""A corpus that lies on the device: decoded once, at the start; its rows then bring no pictures."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from momo_platform.cores import usable_cores
from momo_platform.data.dataset import ShardDataset
from momo_platform.data.row_groups import SourceRows
from momo_platform.stages.errors import UserError

if TYPE_CHECKING:
    import torch

SHARE = 0.6
"""Of the device's free memory that a resident corpus may take, at most; the rest is the model's."""
_REPORT_SECONDS = 2.0
_TOGETHER = 64  # pictures that a thread decodes at a time


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
        shards: ShardDataset,
        open_picture: Callable[[bytes], Picture],
        share: float = SHARE,
        cores: int | None = None,
    ) -> None:
        self._shards, self._open, self._share = shards, open_picture, share
        self.sources: tuple[SourceRows, ...] = shards.sources
        self._threads = cores or usable_cores()
        self._others = [name for name in self._shards.columns if name != "image"]
        self._place: np.ndarray | None = None  # int64 [rows, 3]
        self._expected: tuple[int, int, int] | None = None

    def __len__(self) -> int:
        return len(self._shards)

    def expect(self, lanes: int, rows_ahead: int, processes: int = 1) -> None:
        """Of the columns beside the picture, after `load`, which reads row by row."""
        self._expected = lanes, rows_ahead, processes

    def ahead(self, rows: np.ndarray) -> None:
        """Nothing is fetched ahead: what is read by step is small."""

    def close(self) -> None:
        """Of the shards; what is resident stays."""
        self._shards.close()

    def read(self, rows: np.ndarray) -> pa.Table:
        """The given rows [B] in their order. Raises `ValueError` before `load`."""
        if self._place is None:
            raise ValueError(f"{self._shards.place} is resident, and not loaded yet")
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
        rows = np.concatenate(
            [one.numbers(np.arange(one.rows)) for one in self.sources if one.weight > 0]
        )
        groups = np.split(rows, range(_TOGETHER, len(rows), _TOGETHER))
        with ThreadPoolExecutor(self._threads, thread_name_prefix="resident") as pool:
            sizes = np.concatenate(list(pool.map(self._sizes, groups)))
            ends = np.cumsum(3 * sizes[:, 0] * sizes[:, 1])
            starts = np.concatenate([[0], ends[:-1]])
            self._check(int(ends[-1]), allowed, device)
            flat = torch.empty(int(ends[-1]), dtype=torch.uint8, device=device)
            shown, done = time.monotonic(), 0
            coming = _few_ahead(pool, self._decode, groups, 2 * self._threads)
            for group, decoded in zip(groups, coming, strict=True):
                begin, done = int(starts[done]), done + len(group)
                end = int(ends[done - 1])
                if len(decoded) != end - begin:
                    raise ValueError(
                        f"{self._shards.place}: pictures of rows {group[0]} to {group[-1]} are not "
                        "of the size that their headers say: prepare the corpus anew"
                    )
                flat[begin:end] = torch.from_numpy(decoded).to(device)
                if time.monotonic() - shown > _REPORT_SECONDS or done == len(rows):
                    shown = time.monotonic()
                    report(
                        f"{done:,} of {len(rows):,} pictures are resident on {device}, "
                        f"{end / 1e9:.1f} of {ends[-1] / 1e9:.1f} GB"
                    )
        self._place = np.zeros((len(self), 3), dtype=np.int64)
        self._place[rows] = np.column_stack([starts, sizes])
        self._shards.close()  # holds no pictures any more
        if self._others and self._expected is not None:
            self._shards.expect(*self._expected)
        return {"flat": flat}

    def _check(self, needed: int, allowed: int, device: torch.device, word: str = "") -> None:
        if needed > allowed:
            raise UserError(
                f"scaling.resident: {self._shards.place} takes {word}{needed / 1e9:.2f} GB "
                f"decoded, {self._share:.0%} of what is free on {device} is {allowed / 1e9:.2f} GB:"
                " set scaling.resident to false, or prepare the pictures with a smaller "
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
