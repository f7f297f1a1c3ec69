"""What a replica's process holds once: counters, and how it gives memory back."""

from __future__ import annotations

import contextlib
import ctypes

from prometheus_client import Counter, Gauge, Histogram

from momo_platform.application import NAME

REQUESTS = Counter(f"{NAME}_requests_total", "Answers by path and status", ["path", "status"])
SECONDS = Histogram(f"{NAME}_request_seconds", "Seconds until the answer began", ["path"])
ITEMS = Counter(f"{NAME}_items_total", "Texts and pictures encoded", ["kind"])
BATCH = Histogram(
    f"{NAME}_batch_size", "Items of a batch", ["kind"], buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
MODEL_BYTES = Gauge(f"{NAME}_model_resident_bytes", "Memory of the models' own processes")
DEVICE_BYTES = Gauge(
    f"{NAME}_model_device_bytes", "Memory that the models' processes hold on GPUs; 0 without one"
)
QUEUED = Gauge(f"{NAME}_queued_items", "Items in work or waiting at this replica")

_MMAP_THRESHOLD = -3  # of mallopt


def give_large_memory_back() -> None:
    """Have the C library return every block above 1 MB to the system when it is freed. It would
    keep them for the next time: a replica that once decoded large pictures stayed at 3.6 GB."""
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").mallopt(_MMAP_THRESHOLD, 1 << 20)
