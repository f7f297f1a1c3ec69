"""Pages in docs/ that are written by programs: write one, or check that it is up to date."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from momo_platform.files import write_whole


def write_or_check(
    file: Path, page: Callable[[], str], doc: str | None, arguments: Sequence[str] | None = None
) -> int:
    """Writes `page()` to `file`; with `--check` writes nothing and returns 1 where they differ."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 if stale")
    options = parser.parse_args(arguments)
    text = page()
    name = f"{file.parent.name}/{file.name}"
    if not options.check:
        write_whole(file, text)
        print(f"written: {name}")
        return 0
    if file.is_file() and file.read_text(encoding="utf-8") == text:
        return 0
    print(f"{name} is stale: run the same command without --check", file=sys.stderr)
    return 1
