"""A driver that was suspended while another one took its artifact over."""

import contextlib
import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from making import make
from test_continued_attempts import SHARDS, shards, stage
from toy_stages import Toy

from momo_platform.stages import Stage, fingerprint
from momo_platform.stages.storage.artifacts import LeaseLost


def test_the_driver_before_can_not_publish_what_another_goes_on_with(storage):
    digest = fingerprint(stage())
    folder = storage.folder("shards", digest)
    dead, living = storage.leases(), storage.leases()
    assert dead.acquire(folder) is None
    first = storage.begin("shards", digest, dead.own_token, continues=True)
    place = storage.place("shards", digest)
    (place / first.attempt).write("shards/0", b"0")
    dead.release(folder)
    assert living.acquire(folder) is None
    second = storage.begin("shards", digest, living.own_token, continues=True)
    assert second.goes_on
    (place / first.attempt).write("shards/0", b"0")  # a task of the first that did not end yet
    make(storage, Stage("other", shards, Toy(SHARDS)))
    (manifest,) = storage.others("other")
    with pytest.raises(LeaseLost):
        storage.publish(first, manifest)
    assert storage.manifest("shards", digest) is None
    second.made["shards/0"] = {"size": 1, "sha256": hashlib.sha256(b"0").hexdigest()}
    assert storage.describe(second)["shards/0"]["size"] == 1
    for leases, workspace in ((dead, first), (living, second)):
        storage.abandon(workspace)
        leases.close()


def test_the_driver_before_can_not_change_what_another_has_published(storage):
    """It was suspended; when it goes on, all is over and nobody has the lease."""
    digest = fingerprint(stage())
    folder = storage.folder("shards", digest)
    dead, living = storage.leases(), storage.leases()
    assert dead.acquire(folder) is None
    first = storage.begin("shards", digest, dead.own_token, continues=True)
    (first.output / "card.json").write_text("first")
    dead.release(folder)
    assert living.acquire(folder) is None
    second = storage.begin("shards", digest, living.own_token, continues=True)
    (second.output / "card.json").write_text("second")
    make(storage, Stage("other", shards, Toy(SHARDS)))
    (other,) = storage.others("other")
    facts = {"stage": "shards", "fingerprint": digest, "attempt": second.attempt}
    manifest = replace(other, **facts, files=storage.describe(second))
    storage.publish(second, manifest)
    living.release(folder)
    with contextlib.suppress(FileNotFoundError):
        (first.output / "card.json").write_text("late")
    with pytest.raises(LeaseLost):
        storage.publish(first, manifest)
    assert storage.problem(manifest, checksums=True) is None
    assert storage.artifact("shards", digest).place.read("card.json") == b"second"
    for leases, workspace in ((dead, first), (living, second)):
        storage.abandon(workspace)
        leases.close()


SUSPENDED = """
import sys, time
from momo_platform.stages import open_storage, task
from test_continued_attempts import stage
task.HEARTBEAT_SECONDS = 0.05
storage = open_storage(sys.argv[1])
leases = storage.leases()
folder = storage.folder("shards", "0123456789ab")
assert leases.acquire(folder) is None
whole = stage()
spec = task.StageSpec("shards", "0123456789ab", 1, whole.run, whole.config, {}, {}, (),
    storage.uri, {}, lease=leases.own_token)
with task._fenced(storage, spec):
    time.sleep(0.5)
    print("holds", flush=True)
    storage.lease_token = lambda _: None  # taken over, published and given back
    time.sleep(60)
print("not ended")
"""


def test_a_task_ends_when_nobody_has_its_lease_any_more(storage):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", SUSPENDED, storage.uri]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "holds\n"), done.stderr
