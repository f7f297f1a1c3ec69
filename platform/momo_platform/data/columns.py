"""Names that people's tables have their columns by; of several that are there the first counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from momo_platform.data.config import Kind
from momo_platform.stages.errors import UserError

IMAGE_NAMES = ("image", "path", "file", "file_name", "filename", "image_path", "img", "jpg", "png")
TEXT_NAMES = ("text", "content", "document", "sentence")
CAPTION_NAMES = ("caption", "captions", "text", "sentence", "sentences", "title", "alt")


def wrong_separator(names: Sequence[str]) -> str:
    """What to do about a CSV whose only column is all of them, with a comma in front; else ""."""
    if len(names) == 1 and ";" in names[0]:
        return ", separate its columns by commas, not by semicolons"
    if len(names) == 1 and "\t" in names[0]:
        return ", separate its columns by commas, or call the file .tsv"
    return ""


def check_columns(what: str, names: Iterable[str], kind: Kind, *, embedded: bool = False) -> None:
    """Raise UserError for a table that lacks what its kind needs; `what` names option and file."""
    names = [str(n) for n in names]
    missing = [
        (word, known)
        for word, known in kind.columns
        if not set(names) & set(known) and not (embedded and word == "picture")
    ]
    if not missing:
        return
    lacks = ", ".join(f"no column with the {word}" for word, _ in missing)
    remedy = "rename one to " + " and one to ".join(
        f"{known[0]} (or {', '.join(known[1:4])})" for _, known in missing
    )
    remedy = wrong_separator(names) or f", {remedy}"
    raise UserError(f"{what}: {lacks}; it has {', '.join(names)!r}{remedy}")
