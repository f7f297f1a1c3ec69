"""What an index holds, for people who don't know it: its size, and examples that find something."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from momo_platform.serving.answers import ERRORS, replica_of
from momo_platform.serving.index import Index
from momo_platform.serving.items import sent_items
from momo_platform.serving.replica import Replica
from momo_platform.serving.state import State

CAPTIONS, PICTURES = 5, 6
"""Examples of each kind, at most."""
_TRIED, _AT_ONCE = 96, 16
_NEAR = 4
"""A caption is an example if a picture of its own is among so many nearest, of a small index among
the nearest tenth."""
_CHARACTERS = range(3, 41)
"""Of a caption that is an example."""
router = APIRouter()


class IndexedPicture(BaseModel):
    caption: str
    thumbnail: str = Field(description="A data URI.")


class IndexCard(BaseModel):
    """An index at a glance."""

    object: Literal["index"] = "index"
    model: str
    entries: int = Field(description="0 where no index is served.")
    captions: list[str] = Field(
        default_factory=list, description="Captions by which their own pictures are found."
    )
    pictures: list[IndexedPicture] = Field(
        default_factory=list, description="Some of its pictures."
    )


@router.get("/v1/index", response_model=IndexCard, responses=ERRORS)
async def index(http: Request) -> Any:
    """The index's size, and captions and pictures of it to begin with."""
    replica = replica_of(http)
    state = replica.state
    known = getattr(http.app.state, "index_card", None)
    if known is None or known[0]() is not state:  # found once for a model and its index
        # Weakly: a model that was replaced must go.
        known = http.app.state.index_card = (weakref.ref(state), await _card(replica, state))
    return known[1]


async def _card(replica: Replica, state: State) -> IndexCard:
    found, name = state.index, state.encoder.name
    if found is None:
        return IndexCard(model=name, entries=0)
    pictures = [
        IndexedPicture(caption=str(entry.get("caption", "")), thumbnail=entry["thumbnail"])
        for entry in _spread(found.entries, PICTURES)
        if str(entry.get("thumbnail", "")).startswith("data:image/")
    ]
    captions = await _findable(replica, state, found)
    return IndexCard(model=name, entries=len(found.entries), captions=captions, pictures=pictures)


async def _findable(replica: Replica, state: State, found: Index) -> list[str]:
    """Captions by which the model finds a picture of theirs, the surest first. A few of the index
    are tried, in small batches, so that requests beside it hardly wait."""
    candidates: dict[str, str] = {}
    for entry in _spread(found.entries, _TRIED):
        caption = str(entry.get("caption", "")).strip()
        if len(caption) in _CHARACTERS:
            candidates.setdefault(caption.casefold(), caption)
    captions, near = list(candidates.values()), max(1, min(_NEAR, len(found.entries) // 10))
    at_once = min(_AT_ONCE, replica.config.limits.items)
    ranked: list[tuple[int, int, str]] = []
    for start in range(0, len(captions), at_once):
        part = captions[start : start + at_once]
        nearest = await replica.in_time(_nearest(replica, state, found, part, near), len(part))
        for place, (caption, names) in enumerate(zip(part, nearest, strict=True), start):
            if caption.casefold() in names:
                ranked.append((names.index(caption.casefold()), place, caption))
        if sum(rank == 0 for rank, _, _ in ranked) >= CAPTIONS:
            break
    return [caption for _, _, caption in sorted(ranked)[:CAPTIONS]]


async def _nearest(
    replica: Replica, state: State, found: Index, texts: list[str], near: int
) -> list[list[str]]:
    """Of each text the captions of its nearest entries, as they are compared."""
    sent = sent_items(texts, replica.config.limits)
    _, vectors = await replica.embedded(state, sent)
    rows = [await replica.threaded(found.search, vector, near) for vector in vectors]
    return [[str(entry.get("caption", "")).strip().casefold() for _, entry in r] for r in rows]


def _spread(entries: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """`count` of them, or all, evenly over the whole."""
    taken = min(count, len(entries))
    return [entries[i * len(entries) // taken] for i in range(taken)]
