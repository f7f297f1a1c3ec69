"""A Python that has the installed packages, and this repository not."""

import os
import site
import subprocess
import sys

_START = """
import sys
sys.path += {paths!r}
try:
    import momo
except ModuleNotFoundError:
    pass
else:
    raise AssertionError(f"momo can be imported: {{momo.__file__}}")
"""


def run_without_momo(code, folder, *paths, **environment):
    """What `code` prints. `folder`: where it runs, and where transformers keeps copies of code.

    Without `site` no .pth file is read, by which an editable install would be found.
    """
    start = _START.format(paths=[*map(str, paths), *site.getsitepackages()])
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", start + code],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "HF_HOME": str(folder / "hf-home"),
            "HF_MODULES_CACHE": str(folder / "hf-modules"),
            "OMP_NUM_THREADS": "1",
            **offline,
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
