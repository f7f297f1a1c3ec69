"""The code that exported folders carry, so that they open where this package is not installed.

    AutoModel.from_pretrained(folder, trust_remote_code=True)

`transformers` follows `from .name import …` among files of one folder. So the modules behind
`MoMoModel`, `MoMoConfig` and the processors, with all that they import of `momo`, become flat files
with such imports, made from this package's sources when a folder is written. What is imported for
type checkers only is left out. What a function imports beyond `PACKAGES` is not carried: there the
copy raises ImportError, and says what to install.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

CONFIGURATION, MODELING, PROCESSING = (
    "momo.hf.configuration",
    "momo.hf.modeling",
    "momo.hf.processing",
)
MODEL_MAP = {
    "AutoConfig": "configuration_momo.MoMoConfig",
    "AutoModel": "modeling_momo.MoMoModel",
    "AutoModelForZeroShotImageClassification": "modeling_momo.MoMoModel",
}
PROCESSOR_MAP = {"AutoProcessor": "processing_momo.MoMoProcessor"}
IMAGE_PROCESSOR_MAP = {"AutoImageProcessor": "processing_momo.MoMoImageProcessor"}
"""What `auto_map` says in the configs of the model, its processor and its image processor."""
PACKAGES = frozenset({"torch", "transformers", "tokenizers", "numpy", "PIL", "safetensors"})
"""Beside Python's own modules, all that the carried code imports."""

_HEAD = (
    "# {source} of MoMo on Ray (Apache-2.0), as the export wrote it: change it there, not here.\n"
)
_ROOT = Path(__file__).resolve().parents[1]
_Edits = dict[int, tuple[int, str]]  # first line → last line and what stands in their place


def file_name(module: str) -> str:
    """The carried file of a module: `modeling_momo.py`, as is usual on the hub, `momo_block.py`."""
    package, _, last = module.rpartition(".")
    return f"{last}_momo.py" if package == "momo.hf" else f"{module.replace('.', '_')}.py"


@lru_cache(maxsize=1)
def carried_files() -> dict[str, str]:
    """File name → source, in the order in which they are found.

    Raises ValueError that names file and line for an import that the copy could not have: another
    package's where a module begins, or a form that `transformers` does not follow.
    """
    found: dict[str, str] = {}
    waiting = [CONFIGURATION, MODELING, PROCESSING]
    while waiting:
        module = waiting.pop(0)
        if file_name(module) in found:
            continue
        source, needed = _flat(module)
        found[file_name(module)] = source
        waiting += needed
    return found


def write_code(folder: str | os.PathLike[str]) -> None:
    """Into `folder`, made where it is missing; files of an earlier export are replaced."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for name, source in carried_files().items():
        (place / name).write_text(source, encoding="utf-8")


def _flat(module: str) -> tuple[str, list[str]]:
    """The carried source of a module, and the modules of `momo` that it imports."""
    file = _file_of(module)
    assert file is not None
    text = file.read_text(encoding="utf-8")
    place = file.relative_to(_ROOT.parent).as_posix()
    needed: list[str] = []
    edits: _Edits = {}
    for node, in_function in _statements(ast.parse(text).body, False):
        first, last, indent = node.lineno, node.end_lineno or node.lineno, " " * node.col_offset
        if isinstance(node, ast.If):
            if node.orelse:
                raise ValueError(f"{place}:{first}: an else of TYPE_CHECKING can't be carried")
            edits[first] = last, ""
            continue
        names = _imported(node, place)
        ours = [n for n in names if n.partition(".")[0] == "momo"]
        foreign = [n for n in names if not _allowed(n.partition(".")[0])]
        if in_function and (ours or foreign):
            lacking = "the package momo-ray" if ours else foreign[0].partition(".")[0]
            edits[first] = last, f'{indent}raise ImportError("this needs {lacking}: install it")\n'
        elif foreign and not ours:
            raise ValueError(
                f"{place}:{first}: exported folders carry this module, and nothing but "
                f"{', '.join(sorted(PACKAGES))} is there: import {foreign[0]} in a function"
            )
        elif ours:
            needed += ours
            assert isinstance(node, ast.ImportFrom)
            aim = file_name(ours[0]).removesuffix(".py")
            relative = ast.ImportFrom(module=aim, names=node.names, level=1)
            edits[first] = last, f"{indent}{ast.unparse(relative)}\n"
    return _HEAD.format(source=place) + _edited(text, edits), needed


def _statements(body: list[ast.stmt], in_function: bool) -> Iterator[tuple[ast.stmt, bool]]:
    """Imports and `if TYPE_CHECKING` blocks, with whether a function has to run first."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom) or _for_type_checkers(node):
            yield node, in_function
            continue
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for part in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(node, part, []), inside)
        for handler in getattr(node, "handlers", []):
            yield from _statements(handler.body, inside)


def _for_type_checkers(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def _imported(node: ast.stmt, place: str) -> list[str]:
    """Modules that an import names."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
        if any(n.partition(".")[0] == "momo" for n in names):
            raise ValueError(f"{place}:{node.lineno}: write `from momo.module import name`")
        return names
    assert isinstance(node, ast.ImportFrom)
    module = node.module or ""
    submodules = [a.name for a in node.names if _file_of(f"{module}.{a.name}")]
    if node.level or module == "momo" or submodules:
        raise ValueError(f"{place}:{node.lineno}: write `from momo.module import name`")
    return [module]


def _allowed(package: str) -> bool:
    return package == "momo" or package in PACKAGES or package in sys.stdlib_module_names


def _file_of(module: str) -> Path | None:
    """Where a module of `momo` stands."""
    package, *parts = module.split(".")
    place = _ROOT.joinpath(*parts)
    both = place.with_name(f"{place.name}.py"), place / "__init__.py"
    return next((f for f in both if package == "momo" and f.is_file()), None)


def _edited(text: str, edits: _Edits) -> str:
    lines = text.splitlines(keepends=True)
    for first, (last, put) in sorted(edits.items(), reverse=True):
        lines[first - 1 : last] = [put] if put else []
    return "".join(lines)
