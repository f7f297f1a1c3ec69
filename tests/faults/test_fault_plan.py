"""What a plan says after the code, or somebody else's runs, have changed; and what it loads."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from experiments.benchmarks.object_store import S3Server
from momo_platform.stages import Stage, canonical, make_plan, open_storage
from momo_platform.stages.task import StageSpec, run_stage

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Settings:
    width: int = 64
    depth: int = 4
    rate: float = 0.1
    names: tuple[str, ...] = ("a", "b")
    note: str = ""


def nothing(config, inputs, context):
    (context.output / "x").write_text("x")


def make(storage, stage):
    """Without Ray; its inputs are there. Returns its manifest."""
    plan = make_plan([stage], storage)
    digest, config = plan[stage.name].fingerprint, canonical(stage.config)
    inputs = {role: (s.name, plan[s.name].fingerprint) for role, s in stage.inputs.items()}
    spec = StageSpec(
        *(stage.name, digest, stage.version, stage.run, stage.config, config),
        *(inputs, getattr(stage, "sources", stage.code), storage.uri, {}),
    )
    run_stage(spec, lambda _: None, dict)
    return storage.folder(stage.name, digest) / "manifest.json"


def dated(manifest, created):
    text = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(text | {"created": created}))


def test_a_plan_compares_with_the_artifact_that_is_most_alike_not_with_the_newest(tmp_path):
    storage = open_storage(tmp_path / "runs")
    mine = Settings()
    dated(make(storage, Stage("s", nothing, mine)), "2026-01-01T00:00:00+00:00")
    smoke = Settings(width=8, depth=1, names=("a",), note="smoke")
    dated(make(storage, Stage("s", nothing, smoke)), "2026-01-02T00:00:00+00:00")
    changed = make_plan([Stage("s", nothing, replace(mine, rate=0.2))], storage)["s"]
    assert (changed.action, changed.reason) == ("run", "config.rate 0.1 → 0.2")
    # as like as the first one, and newer
    dated(make(storage, Stage("s", nothing, replace(mine, rate=0.3))), "2026-01-03T00:00:00+00:00")
    changed = make_plan([Stage("s", nothing, replace(mine, rate=0.2))], storage)["s"]
    assert changed.reason == "config.rate 0.3 → 0.2"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """The URI of a real S3 server's bucket."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        server.start()
        try:
            server.make_bucket("interrupted")
            yield "s3://interrupted/runs"
        finally:
            server.kill()


INTERRUPTED = """
import sys, time
from pathlib import Path
from test_fault_plan import Settings, until_killed, make
from momo_platform.stages import Stage, open_storage
make(open_storage(sys.argv[1]), Stage("long", until_killed, Settings(), code=("toy_source",)))
"""


def until_killed(config, inputs, context):
    done = sorted(context.checkpoints.glob("step-*"))
    step = 400 + 200 * len(done)
    folder = context.checkpoints / f"step-{step:08d}"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"step": step, "files": {}}))
    while True:
        time.sleep(0.1)


def run_and_kill(uri, stage, step):
    """A process that is killed once its checkpoint of `step` is in the storage."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *(p for p in sys.path if p)])}
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED, str(uri)], env=env)
    try:
        deadline = time.monotonic() + 60
        while f"step {step}" not in make_plan([stage], open_storage(uri))["long"].reason:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("place", ["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def test_an_interrupted_stage_says_that_its_code_has_changed(place, tmp_path, request, monkeypatch):
    uri = tmp_path / "runs" if place == "folder" else request.getfixturevalue("bucket")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    code = tmp_path / "code"
    code.mkdir()
    monkeypatch.syspath_prepend(code)
    (code / "toy_source.py").write_text("x = 1\n")
    stage = Stage("long", until_killed, Settings(), code=("toy_source",))

    def reason():
        entry = make_plan([stage], open_storage(uri))["long"]
        assert entry.action == "resume"
        return entry.reason

    run_and_kill(uri, stage, 400)
    assert reason() == "checkpoint at step 400"
    (code / "toy_source.py").write_text("x = 2\n")
    changed = "code changed since: toy_source.py (--rerun long to begin anew)"
    assert reason() == f"checkpoint at step 400; {changed}"
    run_and_kill(uri, stage, 600)  # gone on with the new code, which made this checkpoint
    assert reason() == "checkpoint at step 600"
    (code / "toy_source.py").write_text("x = 1\n")
    assert reason() == f"checkpoint at step 600; {changed}"


def test_a_plan_of_the_demo_loads_no_arrays_pictures_or_parsers(tmp_path):
    code = (
        "import sys, pipelines.full\n"
        "code = pipelines.full.main(['--plan', '--preset', 'demo', '--run.storage', sys.argv[1]])\n"
        "slow = {'numpy', 'pyarrow', 'PIL', 'tyro', 'typeguard', 'jinja2', 'asyncio', 'torch',\n"
        "        'ray', 'importlib.metadata', 'xml.etree.ElementTree'}\n"
        "print('loaded', sorted(slow & set(sys.modules)), file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    paths = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "runs")],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "stage3-pair" in done.stdout
    assert "loaded []" in done.stderr


COMMANDS = [
    ["--plan"],
    ["--run.storage=/x y", "--plan", "--verbose"],
    ["--every.train.seed", "3", "--image.source", "/x", "--image.weight", "2.5"],
    ["--stage1.train.optimizer.learning-rate", "1e-5", "--tasks", "mnist/probe"],
    ["--run.mfu", "7"],
    ["--stroage", "x"],
    ["--plan", "True"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_options_read_group_by_group_mean_what_the_whole_parser_makes_of_them(
    arguments, monkeypatch, capsys
):
    options = pytest.importorskip("pipelines.options")

    def outcome():
        try:
            config = options.parse(["--preset", "smoke", *arguments])
        except SystemExit as error:
            captured = capsys.readouterr()
            return error.code, captured.out + captured.err
        return config

    quickly = outcome()
    monkeypatch.setattr(options, "parse_quickly", lambda *_: None)
    assert outcome() == quickly
