"""A worker of the preparation that is killed in the middle: the same bytes all the same."""

import contextlib
import io
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image
from preparing import Folder

from momo_platform.data.config import PrepareConfig, SourceConfig
from pipelines.modalities.image import run_prepare_image

PICTURES = 3000


def workers_of(step):
    """Process ids of Ray workers that are at this step right now."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if (
                folder.name.isdigit()
                and f"MapBatches({step})".encode() in (folder / "cmdline").read_bytes()
            ):
                found.append(int(folder.name))
    return found


def test_a_killed_worker_changes_nothing(ray_local, tmp_path):
    corpus = tmp_path / "pictures"
    corpus.mkdir()
    generator = np.random.default_rng(0)
    for number in range(PICTURES):
        buffer = io.BytesIO()
        pixels = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((160, 120)).save(buffer, "JPEG")
        (corpus / f"{number:05d}.jpg").write_bytes(buffer.getvalue())
    source = (SourceConfig("own", str(corpus)),)
    config = PrepareConfig(source, held_out=0.1, bucket_bytes=50_000)
    undisturbed = Folder(tmp_path / "undisturbed")
    metrics = run_prepare_image(config, {}, undisturbed.context)

    killed, done = [], threading.Event()

    def kill_some():
        waiting = ["prepare_rows", "prepare_rows", "reduce_rows"]
        while not done.is_set() and waiting:
            for pid in workers_of(waiting[0])[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(waiting.pop(0))
                time.sleep(0.3)
            time.sleep(0.01)

    killer = threading.Thread(target=kill_some)
    killer.start()
    disturbed = Folder(tmp_path / "disturbed")
    again = run_prepare_image(config, {}, disturbed.context)
    done.set()
    killer.join()
    assert killed, "no worker was caught at work"
    assert again == metrics
    assert undisturbed.files() == disturbed.files()
