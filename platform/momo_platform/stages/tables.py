"""A storage's artifacts, finished and unfinished, as tables and as rows of JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from momo_platform.stages.amounts import age_of, in_bytes, in_days
from momo_platform.stages.catalog import Catalog, key_of, size_of
from momo_platform.stages.leftovers import Leftover
from momo_platform.stages.manifest import Manifest

_NUMBERS = ("size", "files", "age", "took")


def _label(manifest: Manifest) -> str:
    return "/".join(key_of(manifest))


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, justify="right" if title in _NUMBERS else "left")
    return table


def _printable(text: str) -> Text:
    """A folder's name may hold what is no text, and what rich takes for markup."""
    return Text(text.encode(errors="backslashreplace").decode())


def finished_table(catalog: Catalog) -> Table:
    """With size, age and users."""
    table = _table("artifact", *_NUMBERS, "used by")
    for m in catalog.manifests:
        users = dict.fromkeys(u.stage for u in catalog.users(m))
        facts = (in_bytes(size_of(m)), str(len(m.files)), age_of(m), f"{m.seconds:.0f} s")
        table.add_row(*map(_printable, (_label(m), *facts, ", ".join(users) or "–")))
    return table


def finished_row(catalog: Catalog, m: Manifest) -> dict[str, Any]:
    """For JSON."""
    return {
        "name": m.stage,
        "fingerprint": m.fingerprint,
        "state": "finished",
        "bytes": size_of(m),
        "files": len(m.files),
        "created": m.created,
        "seconds": round(m.seconds, 1),
        "used_by": [_label(u) for u in catalog.users(m)],
    }


def unfinished_table(unfinished: Sequence[Leftover]) -> Table:
    """With what there is of each, and who works on it."""
    table = _table("unfinished", "size", "age", "what", "held by")
    for one in unfinished:
        facts = (in_bytes(one.size), in_days(one.age), one.what, one.held_by or "–")
        table.add_row(*map(_printable, (one.label, *facts)))
    return table


def unfinished_row(one: Leftover) -> dict[str, Any]:
    """For JSON. `state` is 'rerun' beside a finished artifact, 'damaged' where its manifest is."""
    state = "rerun" if one.is_finished else "unfinished"
    return {
        "name": one.name,
        "fingerprint": one.fingerprint,
        "state": "damaged" if one.is_damaged else state,
        "bytes": one.size,
        "step": one.step,
        "age_seconds": round(one.age),
        "held_by": one.held_by,
        "used_by": [],
    }
