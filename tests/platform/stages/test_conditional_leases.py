"""Leases by conditional writes, against a real S3 server process: racing processes, one wins."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from experiments.benchmarks.object_store import running
from momo_platform.stages import open_storage
from momo_platform.stages.liveness import HEARTBEAT_SECONDS, SILENT_SECONDS
from momo_platform.stages.storage import conditional_objects as writing
from momo_platform.stages.storage import leases as shared
from momo_platform.stages.storage.bakery import BakeryLeases
from momo_platform.stages.storage.claims import read_claims, token_of
from momo_platform.stages.storage.conditional import HELD, ConditionalLeases

DRIVER = Path(__file__).with_name("race_driver.py")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("s3"), "leases") as server:
        yield server


@pytest.fixture
def storage(server, request):
    return open_storage(f"s3://leases/{request.node.name[:40].strip('[]')}")


@pytest.fixture
def drivers(storage):
    made = [storage.leases(), storage.leases()]
    yield made
    for leases in made:
        leases.close()


@contextlib.contextmanager
def racers(storage, *kinds):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(DRIVER), storage.uri, *kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for kind in kinds
    ]
    try:
        said = [p.stdout.readline().strip() for p in processes]
        assert said == ["BakeryLeases" if kind else "ConditionalLeases" for kind in kinds]
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def race(processes, name):
    """What each said, all asked at once."""
    for process in processes:
        process.stdin.write(f"{name}\n")
        process.stdin.flush()
    return [p.stdout.readline().strip() for p in processes]


def test_of_racing_processes_exactly_one_wins(storage):
    with racers(storage, *[()] * 4) as processes:
        for turn in range(15):
            said = race(processes, turn)
            assert said.count("held") == 1, said
            winner = processes[said.index("held")]
            others = {f"{socket.gethostname()}, process {winner.pid}", "another driver"}
            assert set(said) - {"held"} <= others
            again = race(processes, turn)
            assert again.count("held") == 1
            assert processes[again.index("held")] is winner


def test_of_racing_takers_of_a_killed_processs_lease_exactly_one_wins(storage):
    with racers(storage, *[()] * 4) as processes:
        for turn in range(3):
            with racers(storage, ()) as [holder]:
                assert race([holder], turn) == ["held"]
                told = f"{socket.gethostname()}, process {holder.pid}"
                assert set(race(processes, turn)) == {told}
            assert race(processes, turn).count("held") == 1


def test_beside_drivers_with_the_bakery_never_two_win(storage):
    with racers(storage, (), (), ("bakery",), ("bakery",)) as processes:
        won = 0
        for turn in range(10):
            for _ in range(20):  # each may have stepped back for the other
                held = race(processes, turn).count("held")
                assert held <= 1
                if held:
                    won += 1
                    break
                time.sleep(0.05)
        assert won == 10
        for turn in range(10):  # who holds it stays the one
            assert race(processes, turn).count("held") == 1


def test_a_lease_is_one_object_that_is_given_back(storage, drivers):
    one, two = drivers
    fs, folder = storage.files.fs, storage.folder("one", "0" * 12)
    assert isinstance(one, ConditionalLeases)
    assert one.acquire(folder) is None
    assert one.acquire(folder) is None  # its own
    assert two.acquire(folder) == f"{socket.gethostname()}, process {os.getpid()}"
    assert [c.path.rpartition("/")[2] for c in read_claims(fs, folder)] == [HELD]
    assert token_of(fs, folder) == one.own_token
    assert one.holds(folder)
    assert not two.holds(folder)
    assert storage.lease_holder("one", "0" * 12) == two.acquire(folder)
    one.release(folder)
    assert read_claims(fs, folder) == []
    assert two.acquire(folder) is None


def write(storage, name, token="other", beat=0):
    """Another driver's lease, of a machine that can't be seen from here."""
    content = {"host": "elsewhere", "pid": 17, "token": token, "number": -1, "beat": beat}
    storage.files.put(f"{name}/{'0' * 12}/lease/{HELD}", json.dumps(content))


def test_a_silent_driver_holds_for_thirty_seconds_of_looks(storage, looks):
    leases, folder = storage.leases(), storage.folder("silent", "0" * 12)
    write(storage, "silent")
    asked = 1
    while (other := leases.acquire(folder)) is not None:
        assert other == "elsewhere, process 17"
        asked += 1
        assert asked < 20
    assert asked >= SILENT_SECONDS / HEARTBEAT_SECONDS
    leases.close()


def test_a_lease_that_is_beaten_is_never_taken(storage, looks):
    leases, folder = storage.leases(), storage.folder("beaten", "0" * 12)
    for beat in range(12):
        write(storage, "beaten", beat=beat)
        assert leases.acquire(folder) == "elsewhere, process 17"
    leases.close()


def test_a_lease_that_went_to_another_is_lost_and_not_deleted(storage, monkeypatch):
    monkeypatch.setattr(shared, "HEARTBEAT_SECONDS", 0.05)
    leases, folder = storage.leases(), storage.folder("lost", "0" * 12)
    assert leases.acquire(folder) is None
    first = read_claims(storage.files.fs, folder)
    deadline = time.monotonic() + 10
    while read_claims(storage.files.fs, folder)[0].sign == first[0].sign:
        assert time.monotonic() < deadline
    assert not leases.is_lost(folder)
    write(storage, "lost")
    while not leases.is_lost(folder):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not leases.holds(folder)
    leases.release(folder)
    leases.close()
    assert token_of(storage.files.fs, folder) == "other"


@pytest.mark.parametrize("lacks", ["IfNoneMatch", "IfMatch", "botocore"])
def test_where_conditions_are_not_kept_the_bakery_is_used(storage, monkeypatch, lacks):
    client = writing._client(storage.files)

    class Ignoring:
        """A store that does not know one of the conditions."""

        def __getattr__(self, name):
            return getattr(client, name)

        def put_object(self, **given):
            given.pop(lacks, None)
            return client.put_object(**given)

    monkeypatch.setattr(writing, "_client", lambda _: Ignoring())
    if lacks == "botocore":
        monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    leases = storage.leases()
    assert isinstance(leases, BakeryLeases)
    assert [e.name for e in storage.files.entries("") if e.name.startswith(".cond")] == []
    leases.close()


@pytest.mark.parametrize(("call", "status"), [("put_object", 501), ("delete_object", 405)])
def test_a_store_that_refuses_conditions_is_not_waited_for(storage, monkeypatch, call, status):
    client = writing._client(storage.files)

    class Refusing:
        def __getattr__(self, name):
            return self._refuse if name == call else getattr(client, name)

        def _refuse(self, **given):
            told = {"Error": {}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(told, call)

    monkeypatch.setattr(writing, "_client", lambda _: Refusing())
    monkeypatch.setattr(writing, "patiently", lambda ask: pytest.fail("waited"))
    leases = storage.leases()
    assert isinstance(leases, BakeryLeases)
    leases.close()


def test_an_endpoint_may_lack_its_scheme(storage, monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "127.0.0.1:9")
    assert writing._client(storage.files).meta.endpoint_url == "https://127.0.0.1:9"


def test_a_heartbeat_goes_on_after_an_error_of_any_kind(storage, monkeypatch):
    monkeypatch.setattr(shared, "HEARTBEAT_SECONDS", 0.05)
    leases, folder = storage.leases(), storage.folder("beats", "0" * 12)
    renew, failed = leases._renew, []

    def sometimes(folder):
        if len(failed) < 2:
            failed.append(folder)
            raise RuntimeError("expired credentials")
        return renew(folder)

    monkeypatch.setattr(leases, "_renew", sometimes)
    assert leases.acquire(folder) is None
    first, deadline = leases._tags[folder], time.monotonic() + 30
    while leases._tags[folder] == first:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert leases.holds(folder)
    leases.close()


def test_a_writing_whose_answer_was_lost_counts(storage, monkeypatch):
    leases, folder = storage.leases(), storage.folder("answer", "0" * 12)
    put = leases._objects.put

    def unheard(*given):
        put(*given)
        return None if put(*given) is None else pytest.fail("written twice")

    monkeypatch.setattr(leases._objects, "put", unheard)
    assert leases.acquire(folder) is None
    assert leases._renew(folder)
    assert leases.holds(folder)
    leases.close()
