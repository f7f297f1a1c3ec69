"""Sizes and ages as a person reads them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from momo_platform.stages.manifest import Manifest


def in_bytes(size: float) -> str:
    """1234 → '1.2 kB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def age_of(manifest: Manifest) -> str:
    """How long ago an artifact was made."""
    created = datetime.fromisoformat(manifest.created).astimezone(UTC).timestamp()
    return in_days(time.time() - created)


def in_days(seconds: float) -> str:
    """90000 → '1 d'."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
