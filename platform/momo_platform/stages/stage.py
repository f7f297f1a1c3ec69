"""What a stage is: a frozen value over files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from momo_platform.stages.errors import UserError
from momo_platform.stages.inputs import check_roles
from momo_platform.stages.storage.attempts import PARTS
from momo_platform.stages.storage.place import Place

if TYPE_CHECKING:
    from momo_platform.stages.manifest import Manifest
    from momo_platform.stages.storage.folders import WorkerFolders


@dataclass(frozen=True)
class Resources:
    """What a stage needs; never part of its fingerprint.

    `num_cpus` and `num_gpus` are what the stage's own task takes; `workers`, `worker_cpus`,
    `worker_gpus` are what the training workers that it starts take. `early_start` lets the executor
    start the stage's processes while its inputs are still being made: the stage then waits for them
    inside. `data_cpus` is what the Ray Data tasks that it starts need at least. `training_cpus` is
    how many processors a training keeps busy with the most workers that it may have, whatever it
    asks for; 0 for one on GPUs, and for all that trains nothing. A stage that `gives_way` waits for
    trainings where it would take one of those: nothing that is waited for needs it.
    """

    num_cpus: float = 0.0
    num_gpus: float = 0.0
    workers: int = 0
    worker_cpus: float = 0.0
    worker_gpus: float = 0.0
    early_start: bool = False
    data_cpus: float = 0.0
    training_cpus: float = 0.0
    gives_way: bool = False

    @property
    def total(self) -> dict[str, float]:
        """Ray resource name → amount that must be free at once."""
        needed = {
            "CPU": self.num_cpus + self.workers * self.worker_cpus,
            "GPU": self.num_gpus + self.workers * self.worker_gpus,
        }
        return {name: amount for name, amount in needed.items() if amount}

    @property
    def least(self) -> dict[str, float]:
        """`total` with what its Ray Data tasks need: without so much in all it never ends."""
        cpus = self.total.get("CPU", 0.0) + self.data_cpus
        return {**self.total, "CPU": cpus} if cpus else self.total


@dataclass(frozen=True)
class Stage:
    """A node of the graph.

    `run(config, inputs, context)` is a module-level function that reads the inputs' files, writes
    files below `context.output` and returns JSON-able metrics. `inputs` maps a role to the stage
    that fills it; raises TypeError where those are not the roles that `run` takes. `code`
    names modules whose source the manifest records (not the fingerprint). Raise `version` when the
    meaning of the output changes. With `continues`, an attempt that was interrupted is gone on
    with: what lies in `context.output_place` and `context.parts` is still there.
    """

    name: str
    run: Callable[[Any, Mapping[str, Artifact], Context], Mapping[str, Any] | None]
    config: Any
    inputs: Mapping[str, Stage] = field(default_factory=dict)
    version: int = 1
    resources: Resources = Resources()
    code: tuple[str, ...] = ()
    continues: bool = False

    def __post_init__(self) -> None:
        check_roles(self.name, self.run, self.inputs)

    @property
    def sources(self) -> tuple[str, ...]:
        """The modules of `code`, and the one that `run` stands in."""
        own = getattr(self.run, "__module__", "")
        return tuple(dict.fromkeys((*self.code, own))) if own not in ("", "__main__") else self.code


@dataclass(frozen=True)
class Artifact:
    """A finished stage's files: `place`, which may be given as a Path, is the folder of the attempt
    that its manifest names."""

    name: str
    fingerprint: str
    place: Place
    manifest: Manifest

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", Place.of(self.place))

    @property
    def path(self) -> Path:
        """`place` as a folder on this machine: from object storage all its files are fetched when
        this is asked for. Raises UserError where they are not what the manifest says."""
        if (folder := self.place.folder) is not None:
            return folder
        from momo_platform.stages.storage.copies import Copies
        from momo_platform.stages.storage.objects import ObjectFiles

        return Copies(ObjectFiles(self.place.root)).path(self.manifest)

    def read(self, name: str) -> bytes:
        """One file, checked against the manifest. Raises KeyError for one that it does not name,
        UserError for one that is not what it says."""
        content = self.place.read(name)
        if hashlib.sha256(content).hexdigest() != self.manifest.files[name]["sha256"]:
            raise UserError(
                f"{self.place}: output file {name} was altered: its checksum differs from the "
                f"manifest's; run again with --rerun {self.name}"
            )
        return content

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What `run` returned."""
        return self.manifest.metrics


def ignore_progress(_: dict[str, Any]) -> None:
    """The progress callable of a stage that nobody watches."""


@dataclass
class Context:
    """Where a running stage writes.

    `output` is fresh for each attempt; `checkpoints` survives attempts of the same fingerprint
    and goes when the stage is done. Both are on this machine: `folders` gives processes on other
    machines theirs. `progress` takes any of the keys step, total, metrics, samples_per_second,
    eta_seconds, message and note (a line that a person is shown for good). `resolve_inputs` waits
    for the inputs of a stage that was started early and returns role → Artifact. `place` is the
    artifact's folder in the storage; `made_files` is what `made` was told.
    """

    output: Path
    checkpoints: Path
    name: str
    fingerprint: str
    attempt: str
    progress: Callable[[dict[str, Any]], None] = ignore_progress
    resolve_inputs: Callable[[], Mapping[str, Artifact]] = dict
    folders: WorkerFolders | None = None
    place: Place | None = None
    made_files: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def output_place(self) -> Place:
        """Where the output lies in the end: tasks on any machine write files here, whole, and the
        stage tells of each by `made`."""
        return Place.of(self.output) if self.place is None else self.place / self.attempt

    @property
    def parts(self) -> Place:
        """Where tasks on any machine leave what attempts of the same fingerprint go on with; it
        goes when the stage is done."""
        return (self.place or Place.of(self.checkpoints)) / PARTS

    def made(self, name: str, *, size: int, sha256: str) -> None:
        """A file that a task wrote to `output_place`, with its bytes and their checksum in hex: the
        manifest takes it so, and the file is not read again."""
        self.made_files[name] = {"size": size, "sha256": sha256}


def all_stages(targets: list[Stage] | tuple[Stage, ...]) -> list[Stage]:
    """Every stage that the targets need, inputs first; two stages of one name are refused."""
    ordered: dict[str, Stage] = {}
    waiting = list(reversed(targets))  # a stack: chains may be longer than Python's recursion
    opened: set[int] = set()
    while waiting:
        stage = waiting[-1]
        missing = [s for s in stage.inputs.values() if s.name not in ordered]
        if missing and id(stage) not in opened:
            opened.add(id(stage))
            waiting += reversed(missing)
            continue
        if missing:
            raise ValueError(f"stage {stage.name!r} is among its own inputs")
        waiting.pop()
        ordered.setdefault(stage.name, stage)
        for one in (stage, *stage.inputs.values()):
            if not _is_same(ordered[one.name], one):
                raise ValueError(f"two different stages are named {one.name!r}")
    return list(ordered.values())


def _is_same(one: Stage, other: Stage) -> bool:
    """Equal, where inputs of equal names are taken as equal: they are compared on their own."""

    def own(stage: Stage) -> tuple[Any, ...]:
        inputs = {role: s.name for role, s in stage.inputs.items()}
        facts = stage.version, stage.resources, stage.continues
        return stage.name, stage.run, stage.config, facts, inputs

    return one is other or own(one) == own(other)
