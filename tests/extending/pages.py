"""The files that a page below docs/extending gives, written as it says."""

import re
from pathlib import Path

PAGES = Path(__file__).resolve().parents[2] / "docs" / "extending"
_FILE = re.compile(r"^`([^`\n]+)`:\n\n?```[a-z]*\n(.*?)^```$", re.M | re.S)


def lay_out(page: str, folder: Path) -> list[Path]:
    """Each fenced block that directly follows a line `` `path/of/file.py`: `` is written to
    `folder`/path; the paths in order. Raises ValueError for a page (its name below docs/extending)
    that has none."""
    text = (PAGES / page).read_text(encoding="utf-8")
    written = []
    for path, code in _FILE.findall(text):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code, encoding="utf-8")
        written.append(file)
    if not written:
        raise ValueError(f"docs/extending/{page} gives no files")
    return written
