"""Names that people's tables have their columns by; of several that are there the first counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from momo_platform.data.config import Kind
from momo_platform.stages.errors import UserError

IMAGE_NAMES = (
    *("image", "path", "file", "file_name", "filename", "image_path", "img", "jpg", "png"),
    *("jpeg", "webp"),
)
TEXT_NAMES = ("text", "content", "document", "sentence", "txt")
CAPTION_NAMES = ("caption", "captions", "text", "sentence", "sentences", "title", "alt", "txt")


JSON_NAME = "json"
"""A column of objects, as webdataset's members of that name: what they hold counts where the row
has no column of that name."""


class DamagedTable(UserError):
    """A table that can't be read, or not to its end."""


_WEB = {"url", "urls", "image_url", "img_url", "image_link", "link"}
PICTURE = re.compile(r"[^/]\.(?:png|jpe?g|webp|gif|bmp|svg|tiff?)$", re.IGNORECASE)


def wrong_separator(names: Sequence[str]) -> str:
    """What to do about a CSV whose only column is all of them, or whose first line names none, with
    a comma in front; else ""."""
    for mark, word in ((";", "semicolons"), ("|", "bars")):
        if len(names) == 1 and mark in names[0]:
            return (
                f", separate its columns by commas, not by {word} (or put a first line sep={mark})"
            )
    if len(names) == 1 and "\t" in names[0]:
        return ", separate its columns by commas, or call the file .tsv"
    if any(PICTURE.search(name) for name in names):
        return (
            f", write a first line with the columns' names: {IMAGE_NAMES[0]}, {CAPTION_NAMES[0]} …"
        )
    return ""


def check_columns(what: str, names: Iterable[str], kind: Kind, *, embedded: bool = False) -> None:
    """Raise UserError for a table that lacks what its kind needs; `what` names option and file."""
    names = [str(n) for n in names]
    missing = [
        (word, known)
        for word, known in kind.columns
        if not set(names) & {*known, *([JSON_NAME] if word != "picture" else ())}
        and not (embedded and word == "picture")
    ]
    if not missing:
        return
    lacks = ", ".join(f"no column with the {word}" for word, _ in missing)
    remedy = "rename one to " + " and one to ".join(
        f"{known[0]} (or {', '.join(known[1:4])})" for _, known in missing
    )
    if any(word == "picture" for word, _ in missing) and _WEB & {n.lower() for n in names}:
        remedy = "pictures are not fetched from the web here: img2dataset makes a folder of them"
    remedy = wrong_separator(names) or f", {remedy}"
    raise UserError(f"{what}: {lacks}; it has {', '.join(names)!r}{remedy}")
