"""The command `momo`. Without the platform's packages it says how to get them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

NEEDED = ("ray", "tyro", "rich", "pyarrow")
"""Packages of the extra `platform` that no command does without."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 a stage failed, 2 bad input or no platform, 130 interrupted."""
    if absent := [name for name in NEEDED if find_spec(name) is None]:
        print(
            f"error: momo needs the platform's packages ({', '.join(absent)} not found): "
            "pip install 'momo-ray[platform]'",
            file=sys.stderr,
        )
        return 2
    from pipelines.commands import main as run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
