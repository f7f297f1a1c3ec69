"""Write requirements-serve.txt: the packages that the endpoint's image holds.

    python pipelines/serve_packages.py

They are what serving imports and what these packages need, on CPUs, with the versions of
requirements.lock. Read from the installed packages' own metadata: run it where the lock's packages
are installed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from momo_platform.exit_codes import exit_code
from momo_platform.stages import UserError

ROOT = Path(__file__).parents[1]
FILE, LOCK = ROOT / "requirements-serve.txt", ROOT / "requirements.lock"
ROOTS = (
    *("torch", "tokenizers", "safetensors", "numpy", "pillow"),
    *("ray[serve]", "python-multipart", "tyro", "pyyaml"),
)
"""What our own modules import when they serve; `tests/test_serve_image.py` holds it."""
_WITHOUT = re.compile(r"(nvidia|cuda)-.*|cuda-bindings|triton|setuptools")
"""A CPU's torch asks for none of them; torch needs setuptools only to compile."""
_HEAD = """\
# Written by `python pipelines/serve_packages.py` from requirements.lock; change those, not this.
"""


def normalised(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(text: str) -> dict[str, str]:
    """{normalised name: version} of a lock file."""
    lines = (line.partition(";")[0].strip() for line in text.splitlines())
    pairs = (line.split("==") for line in lines if "==" in line)
    return {normalised(name): version for name, version in pairs}


def closure(roots: Sequence[str]) -> set[str]:
    """Normalised names of `roots` (with extras in brackets) and of all that they need here. Raises
    UserError for a package that is not installed."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(root) for root in roots]
    while waiting:
        wanted = waiting.pop()
        name, extras = normalised(wanted.name), frozenset(wanted.extras)
        if (name, extras) in seen or _WITHOUT.fullmatch(name):
            continue
        seen.add((name, extras))
        found.add(name)
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError as error:
            raise UserError(f"{name} is not installed: `make setup` first") from error
        for text in needs:
            need = Requirement(text)
            marker = need.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in (*extras, "")):
                waiting.append(need)
    return found


def requirements(versions: Mapping[str, str]) -> str:
    """The file's text. Raises UserError for a package that the lock lacks."""
    names = sorted(closure(ROOTS))
    if missing := [name for name in names if name not in versions]:
        raise UserError(f"requirements.lock has no {', '.join(missing)}: lock them too")
    return _HEAD + "".join(f"{name}=={versions[name]}\n" for name in names)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for a package that is not there."""

    def work() -> int:
        FILE.write_text(requirements(locked(LOCK.read_text(encoding="utf-8"))), encoding="utf-8")
        print(f"wrote {FILE.name}")
        return 0

    return exit_code(work, "nothing is written")


if __name__ == "__main__":
    sys.exit(main())
