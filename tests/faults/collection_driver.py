"""A driver of toy stages: `collection_driver.py URI make VALUE` or `… URI run FOLDER`.

`make` makes artifacts `first` and `second` of a value. `run` runs a plan on Ray of which they are
cached inputs, of value 1: `long` reads `first`, writes a checkpoint, makes the file `started` in
FOLDER and waits for `go` there; then `late` reads `second`.
"""

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from momo_platform.stages import Stage, canonical, fingerprint, make_plan, open_storage
from momo_platform.stages.task import StageSpec, run_stage


@dataclass(frozen=True)
class Value:
    value: int = 1
    folder: str = field(default="", metadata={"semantic": False})


def write(config, inputs, context):
    total = config.value + sum(
        json.loads((a.path / "sum.json").read_text()) for a in inputs.values()
    )
    (context.output / "sum.json").write_text(json.dumps(total))
    return {"sum": total}


def wait(config, inputs, context):
    folder = context.checkpoints / "step-00000400"
    if not folder.exists():
        folder.mkdir()
        (folder / "state.json").write_text("x" * 1000)
        (folder / "manifest.json").write_text('{"step": 400, "files": {"state.json": 1000}}')
    (Path(config.folder) / "started").touch()
    while not (Path(config.folder) / "go").exists():
        time.sleep(0.05)
    return write(config, inputs, context)


def end(folder):
    first, second = (Stage(name, write, Value(1)) for name in ("first", "second"))
    long = Stage("long", wait, Value(1, folder), {"first": first})
    return Stage("late", write, Value(1), {"long": long, "second": second})


def make(storage, stage):
    """Without Ray."""
    run_stage(
        StageSpec(
            stage.name,
            fingerprint(stage),
            stage.version,
            stage.run,
            stage.config,
            canonical(stage.config),
            {},
            stage.code,
            storage.uri,
            {},
        ),
        lambda _: None,
        dict,
    )


def main(uri, command, argument):
    storage = open_storage(uri)
    if command == "make":
        for name in ("first", "second"):
            make(storage, Stage(name, write, Value(int(argument))))
        return
    from momo_platform.cluster import start_ray
    from momo_platform.stages.executor import execute

    with start_ray("local", num_cpus=2, object_store_mb=100):
        artifacts = execute(make_plan([end(argument)], storage), storage)
        print("sum", artifacts["late"].metrics["sum"], flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
