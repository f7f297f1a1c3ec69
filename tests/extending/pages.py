"""The files that a page below `docs/extending/` says to write."""

import re
from pathlib import Path

PAGES = Path(__file__).resolve().parents[2] / "docs" / "extending"
_FILE = re.compile(r"^`([^`\s]+)`:\n+```[a-z]*\n(.*?)^```$", re.M | re.S)


def lay_out(page: str, folder: Path) -> list[Path]:
    """Write every fenced block that directly follows a line of the form `` `path/of/file.py`: ``
    to `folder`/path, and return the paths in order. `page`: its name below docs/extending. Raises
    ValueError if the page has none."""
    written = []
    for found in _FILE.finditer((PAGES / page).read_text(encoding="utf-8")):
        file = folder / found[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(found[2], encoding="utf-8")
        written.append(file)
    if not written:
        raise ValueError(f"docs/extending/{page} names no file to write")
    return written
