"""A corpus is the same to the byte on Ray with one CPU, two and four."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from preparing import picture

ROOT = Path(__file__).resolve().parents[3]


def write_sources(folder):
    (folder / "tars").mkdir(parents=True)
    for shard in range(6):
        with tarfile.open(folder / "tars" / f"{shard}.tar", "w") as tar:
            for number in range(100 * shard, 100 * shard + 100):
                members = {"png": picture(number), "txt": f"picture {number % 550}".encode()}
                for ending, raw in members.items():
                    info = tarfile.TarInfo(f"{number}.{ending}")
                    info.size = len(raw)
                    tar.addfile(info, io.BytesIO(raw))
    lines = [
        f"The {n // 3}th house of the old street has {n % 3} windows, {n // 3 % 7} doors and a roof"
        if n % 5
        else f"Das {n}. Haus der alten Straße hat {n % 3} Fenster, {n % 7} Türen und ein Dach"
        for n in range(3000)
    ]
    (folder / "lines.txt").write_text("\n".join(lines))


@pytest.mark.slow
def test_one_two_and_four_cpus_give_the_same_bytes(tmp_path):
    write_sources(tmp_path / "in")
    places = (ROOT, ROOT / "platform", ROOT / "tests", ROOT / "tests" / "platform" / "data")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
    found = {}
    for cpus in (1, 2, 4):
        output = tmp_path / f"out-{cpus}"
        done = subprocess.run(
            [sys.executable, "-m", "preparing_process", tmp_path / "in", str(cpus), output],
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found[cpus] = json.loads(done.stdout.strip().splitlines()[-1])
        assert found[cpus]["cpus"] == cpus
    assert len(found[1]["files"]) > 20
    assert found[1]["files"] == found[2]["files"] == found[4]["files"]
