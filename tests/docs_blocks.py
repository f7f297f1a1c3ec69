"""The code blocks of a page, and what its comments say of them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/how-to.md")
_BLOCK = re.compile(r"((?:<!-- [a-z]+: [^>]* -->\n)*)```(sh|python)\n(.*?)```", re.S)


@dataclass(frozen=True)
class Block:
    """`mode`: run, plan, syntax or endpoint; `needs`: packages that are installed for it."""

    page: str
    line: int
    language: str
    code: str
    mode: str
    needs: tuple[str, ...]

    @property
    def name(self):
        return f"{self.page}:{self.line}"

    @property
    def commands(self):
        """Its shell commands, one a line, without comments."""
        lines = self.code.replace("\\\n", " ").splitlines()
        bare = (re.sub(r"\s+#.*", "", line).strip() for line in lines)
        return [line for line in bare if line and not line.startswith("#")]


def blocks():
    """Of all pages, in order."""
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for found in _BLOCK.finditer(text):
            told = dict(re.findall(r"<!-- ([a-z]+): ([^>]*) -->", found[1]))
            line = text[: found.start(3)].count("\n") + 1
            mode, needs = told.get("test", "run"), tuple(told.get("needs", "").split())
            yield Block(page, line, found[2], found[3], mode, needs)
