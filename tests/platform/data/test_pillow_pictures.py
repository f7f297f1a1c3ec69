"""Pillow's own test pictures, good and broken: none ends a task, each is kept or named."""

import csv
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from momo_platform.data.artifacts import CARD
from momo_platform.data.config import Requirement
from momo_platform.data.packages import fetch

PILLOW = Requirement(
    "pillow",
    "11.3.0",
    "3828ee7586cd0b2091b6209e5ad53e20d0649bbe87164a459d0676e035e8f523",
    sdist=True,
)
TASK = """
import json, os, resource, sys
from pathlib import Path
from preparing import Folder
from momo_platform.data import contained
from momo_platform.data.config import PrepareConfig, SourceConfig
from pipelines.modalities.image import run_prepare_image
from pipelines.modalities.pair import run_prepare_pair
source, output, kind = sys.argv[1:]
out = Folder(Path(output))
run = run_prepare_image if kind == "image" else run_prepare_pair
metrics = run(PrepareConfig((SourceConfig("s", source),)), {}, out.context)
contained._process_of(os.getpid()).close()
peaks = [resource.getrusage(who).ru_maxrss >> 10 for who in (0, -1)]
quarantine = out.table("quarantine.parquet")
print(json.dumps({"metrics": metrics, "peaks": peaks, "quarantine": quarantine}))
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The folder with all of them but the tar: beside one nothing else is read."""
    folder = tmp_path_factory.mktemp("pillow")
    with tarfile.open(fetch([PILLOW])["pillow"]) as source:
        for member in source:
            _, found, name = member.name.partition("/Tests/images/")
            content = source.extractfile(member) if found and member.isfile() else None
            if content is not None and not name.endswith(".tar"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content.read())
    return folder


def prepared(source, output, kind):
    command = [sys.executable, "-c", TASK, str(source), str(output), kind]
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=800,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert sum(found["peaks"]) <= 500, found["peaks"]  # MB, of the task and of its pictures
    metrics = found["metrics"]
    assert len(found["quarantine"]) == metrics["quarantined"] < 0.4 * metrics["read"]
    assert all(len(row["reason"]) > 10 for row in found["quarantine"])
    steps = ("kept", "quarantined", "duplicates", "near_duplicates")
    assert metrics["read"] == sum(metrics[step] for step in steps)
    assert metrics["kept"] > 300
    return found


@pytest.mark.slow
def test_by_folder(pictures, tmp_path):
    files = [path for path in pictures.rglob("*") if path.is_file()]
    assert len(files) > 1000
    metrics = prepared(pictures, tmp_path / "out", "image")["metrics"]
    ignored = json.loads((tmp_path / "out" / CARD).read_text())["ignored"]["s"]
    assert metrics["read"] + sum(one["files"] for one in ignored) == len(files)


@pytest.mark.slow
def test_by_table(pictures, tmp_path):
    files = sorted(path for path in pictures.rglob("*") if path.is_file())
    with (tmp_path / "all.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("image", "caption"))
        rows.writerows((path, f"a test of {path.stem}") for path in map(Path, files))
    found = prepared(tmp_path / "all.csv", tmp_path / "out", "pair")
    assert found["metrics"]["read"] == len(files)
