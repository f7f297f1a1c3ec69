"""Records of what running plans use, and a `gc` that starts at the same moment as a plan."""

import json
import os
import threading
import time

import pytest
from making import make
from toy_stages import chain

from momo_platform.stages import UserError, make_plan, open_storage
from momo_platform.stages.in_use import (
    InUse,
    collecting,
    keys_in_use,
    read_records,
    using,
)
from momo_platform.stages.liveness import OLD_SECONDS, ProcessIdentity


@pytest.fixture
def storage(tmp_path):
    storage = open_storage(tmp_path / "runs")
    make(storage, chain(1)[0])
    return storage


def test_a_plan_that_starts_beside_a_gc_waits_for_its_end(storage):
    plan = make_plan(chain(1, 2), storage)
    entered = threading.Event()

    def run():
        with using(plan, storage):
            entered.set()

    with collecting(storage):
        thread = threading.Thread(target=run)
        thread.start()
        deadline = time.monotonic() + 30
        while len(read_records(storage)) < 2:  # it has said what it uses
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not entered.is_set()
    thread.join(30)
    assert entered.is_set()
    assert read_records(storage) == []


def test_an_input_that_was_collected_after_planning_is_told_before_anything_starts(storage):
    plan = make_plan(chain(1, 2), storage)
    storage.delete("s0", plan["s0"].fingerprint)
    with (
        pytest.raises(UserError, match=r"s0/.* was collected .*run it again"),
        using(plan, storage),
    ):
        pass
    assert read_records(storage) == []


def test_a_record_of_a_process_out_of_sight_holds_while_it_is_renewed(storage):
    record = InUse(storage)
    record.add([("s0", "0" * 12)])
    [file] = (storage.local_root / ".in-use").iterdir()
    document = json.loads(file.read_text())
    document["process"] |= {"boot": "another machine's"}
    file.write_text(json.dumps(document))
    assert [r.lives for r in read_records(storage)] == [True]
    past = file.stat().st_mtime - OLD_SECONDS - 1
    os.utime(file, (past, past))
    assert [r.lives for r in read_records(storage)] == [False]
    document["process"] |= {
        "boot": ProcessIdentity.own().boot,
        "start_ticks": "1",
    }  # the number was given again
    file.write_text(json.dumps(document))
    assert [r.lives for r in read_records(storage)] == [False]
    record.close()
    assert read_records(storage) == []


def test_a_fresh_record_that_is_not_understood_stops_gc(storage):
    folder = storage.local_root / ".in-use"
    folder.mkdir()
    (folder / "x.json").write_text('{"of": "a newer version"}')
    with pytest.raises(UserError, match="can't be understood"):
        keys_in_use(storage)
    with using(make_plan(chain(1), storage), storage):
        pass  # a run does not mind
