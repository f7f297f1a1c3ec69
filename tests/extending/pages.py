"""The pages of docs/extending as a reader follows them: their files, taken literally."""

import re
from pathlib import Path

PAGES = Path(__file__).parents[2] / "docs" / "extending"
_FILE = re.compile(r"^`([\w./-]+)`:\n\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def lay_out(page: str, folder: Path) -> list[Path]:
    """Write the files of a page below `folder`; returns their paths in order. Raises ValueError
    for a page without any."""
    written = []
    for name, text in _FILE.findall((PAGES / page).read_text(encoding="utf-8")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    if not written:
        raise ValueError(f"{page} names no file with a code block below it")
    return written
