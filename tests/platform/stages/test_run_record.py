"""A run's record: written while it runs, true about its end, and about one that was killed."""

import json
import subprocess

import pytest
from toy_stages import chain

from momo_platform.stages import make_plan, open_storage
from momo_platform.stages.run_record import RunRecord, read_record, run_records
from momo_platform.stages.status import StageStatus


@pytest.fixture
def statuses(tmp_path):
    plan = make_plan(chain(1, 2), open_storage(tmp_path / "runs"))
    first, second = (StageStatus(e) for e in plan.entries)
    first.state, first.machine, first.progress = "running", "node7", {"step": 3}
    return [first, second]


def test_a_run_is_recorded_while_it_goes_on_and_as_it_ended(tmp_path, statuses):
    file = tmp_path / "logs" / "demo.json"
    with RunRecord(file, "full.py --preset demo") as record:
        assert read_record(file)["state"] == "running"
        record(statuses, "1 of 2 stages done")
        document = read_record(file)
        assert document["job"] == "1 of 2 stages done"
        stage = document["stages"][0]
        assert (stage["name"], stage["state"], stage["machine"]) == ("s0", "running", "node7")
        statuses[0].state = "done"
        record(statuses, "2 of 2 stages done")
    document = read_record(file)
    assert document["state"] == "ended"
    assert document["stages"][0]["state"] == "done"  # the last word is kept


@pytest.mark.parametrize(
    "error, state", [(KeyboardInterrupt, "interrupted"), (ValueError, "failed")]
)
def test_an_error_is_how_it_ended(tmp_path, error, state):
    file = tmp_path / "x.json"
    with pytest.raises(error), RunRecord(file, "x"):
        raise error
    assert read_record(file)["state"] == state


def test_a_killed_run_is_told_and_other_files_are_passed_over(tmp_path):
    process = subprocess.Popen(["true"])
    process.wait()
    file = tmp_path / "x.json"
    with RunRecord(file, "x"):
        document = json.loads(file.read_text())
    file.write_text(json.dumps(document | {"pid": process.pid}))
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "half.json").write_text('{"kind": "run"')
    with RunRecord(tmp_path / "now.json", "y"):
        found = run_records(tmp_path)
    assert [(r["name"], r["state"]) for r in found] == [("now", "running"), ("x", "killed")]
    elsewhere = document | {"host": "far", "boot": "another", "state": "running"}
    file.write_text(json.dumps(elsewhere))
    assert read_record(file)["state"] == "running"
    file.write_text(json.dumps(elsewhere | {"pid": 1, "updated": 0}))
    assert read_record(file)["state"] == "killed"
    file.write_text(json.dumps(elsewhere | {"pid": 1, "updated": 2}))  # its clock is far behind
    assert read_record(file)["state"] == "running"
