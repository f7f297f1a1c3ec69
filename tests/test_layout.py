"""Facts about the tree that break everything when they change."""

import subprocess
import sys
from pathlib import Path

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
