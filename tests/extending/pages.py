"""The files that a page below docs/extending gives, written as it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

PAGES = Path(__file__).resolve().parents[2] / "docs" / "extending"
ROOT = PAGES.parents[1]
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


def register(file: Path, lines: str) -> None:
    """Puts a page's lines at the end of a registry's `_FILES`."""
    before, bracket, after = file.read_text(encoding="utf-8").partition("\n)\n")
    assert bracket, f"{file} has no list of files"
    file.write_text("\n".join([before, lines.rstrip()]) + bracket + after, encoding="utf-8")


def run(folder: Path, *arguments: object, **environment: str) -> str:
    """What Python prints with a copy of packages in `folder` before the repository."""
    paths = [folder, ROOT, *(ROOT / name for name in ("platform", "tests", "tests/momo"))]
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
