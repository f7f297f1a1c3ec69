"""The pages of docs/extending, followed literally: their code blocks become files."""

import re
from pathlib import Path

PAGES = Path(__file__).parents[2] / "docs" / "extending"
_FILE = re.compile(r"^`([^`\n]+)`:\n\n?```[a-z]*\n(.*?)^```$", re.S | re.M)


def lay_out(page: str, folder: Path) -> list[Path]:
    """Write every block that directly follows a line of a path, `` `own/file.py`: ``, to that path
    below `folder`; the paths in order. Raises ValueError for a page without any."""
    text = (PAGES / page).read_text(encoding="utf-8")
    found = []
    for name, content in _FILE.findall(text):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        found.append(path)
    if not found:
        raise ValueError(f"{page}: no block follows a line that names its file")
    return found
