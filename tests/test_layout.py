"""Facts about the tree that break everything when they change."""

import ast
import subprocess
import sys
from pathlib import Path

from momo_platform import application
from pipelines.modalities import MODALITIES

ROOT = Path(__file__).resolve().parent.parent


def _sources() -> list[Path]:
    """All Python files but those of tests."""
    folders = ("momo", "platform", "pipelines", "experiments")
    return [file for name in folders for file in sorted((ROOT / name).rglob("*.py"))]


def test_platform_folder_does_not_hide_the_standard_library():
    """With the root on sys.path, a platform/__init__.py would replace the standard `platform`."""
    assert not (ROOT / "platform" / "__init__.py").exists()
    code = "import platform, uuid, ray, torch; assert platform.system(); print('whole')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "whole", done.stderr


def test_the_driver_imports_neither_torch_nor_ray():
    code = (
        "import sys; import momo, momo_platform.stages, pipelines.full, pipelines.graph;"
        "assert not {'torch', 'ray'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_platform_names_no_modality():
    """What is particular to one is in `pipelines/modalities/`. Columns of rows and a request's
    fields are called as people call them, in `data/` and `serving/`."""
    names = {*MODALITIES, "images", "pairs"}
    columns = {"image", "text", "pair"}
    found = []
    for file in sorted((ROOT / "platform" / "momo_platform").rglob("*.py")):
        part = file.relative_to(ROOT / "platform" / "momo_platform").parts[0]
        if part == "serving":
            continue
        refused = names - columns if part == "data" else names
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in refused:
                found.append(f"{file.relative_to(ROOT)}:{node.lineno}: {node.value!r}")
    assert not found


def test_the_platform_names_no_momo():
    """What users see of its name comes from `momo_platform/application.py`; the package's own
    stays: every import has it."""
    folder = ROOT / "platform" / "momo_platform"
    files = [f for f in folder.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in sorted(files)
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if "momo" in line.lower().replace("momo_platform", "")
    ]
    assert files
    assert not found
    assert application.NAME == "momo"
    assert application.variable("API_KEY") == "MOMO_API_KEY"


def test_no_class_name_is_defined_twice():
    """A name has one meaning: whoever looks for a class finds one."""
    places: dict[str, list[str]] = {}
    for file in _sources():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


_LONGER: dict[str, str] = {}
"""File, or file:function → why it stays above the limit."""


def test_files_and_functions_are_short():
    """At most 350 lines a file and 60 a function, so that each has one reason to change."""
    found = {}
    for file in _sources():
        text, place = file.read_text(encoding="utf-8"), str(file.relative_to(ROOT))
        if (lines := len(text.splitlines())) > 350:
            found[place] = lines
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > 60:
                    found[f"{place}:{node.name}"] = lines
    assert {place: lines for place, lines in found.items() if place not in _LONGER} == {}
    assert not _LONGER.keys() - found.keys()
