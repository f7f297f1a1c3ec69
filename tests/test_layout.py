"""Facts about the tree that break everything when they change."""

import ast
import subprocess
import sys
from pathlib import Path

from pipelines.modalities import MODALITIES

ROOT = Path(__file__).resolve().parent.parent


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
    names = {*MODALITIES, *(f"{name}s" for name in MODALITIES)}
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
