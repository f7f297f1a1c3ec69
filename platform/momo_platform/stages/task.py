"""What runs inside a stage's Ray task: a fresh attempt, the stage's function, the manifest last."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from momo_platform.stages.begun import note_begin
from momo_platform.stages.board import MACHINE
from momo_platform.stages.errors import UserError, is_disk_full
from momo_platform.stages.liveness import HEARTBEAT_SECONDS
from momo_platform.stages.manifest import Manifest, package_versions, source_hashes
from momo_platform.stages.stage import Artifact, Context
from momo_platform.stages.storage.artifacts import Storage
from momo_platform.stages.storage.attempts import Workspace
from momo_platform.stages.storage.open import open_storage


@dataclass(frozen=True)
class StageSpec:
    """One stage as its task gets it: `inputs` maps role → (stage name, fingerprint)."""

    name: str
    fingerprint: str
    version: int
    run: Callable[..., Mapping[str, Any] | None]
    config: Any
    canonical_config: Any
    inputs: Mapping[str, tuple[str, str]]
    code: tuple[str, ...]
    storage: str
    resources: Mapping[str, float]
    git_commit: str = ""
    lease: str | None = None
    continues: bool = False


class LazyArtifacts(Mapping[str, Artifact]):
    """Role or name → Artifact, looked up and checked when it is asked for; nothing is fetched.
    `keys` maps to (stage name, fingerprint)."""

    def __init__(self, keys: Mapping[str, tuple[str, str]], storage: Storage) -> None:
        self._keys, self._storage = keys, storage

    def manifest(self, role: str) -> Manifest:
        """A manifest, without a look at its files."""
        name, fingerprint = self._keys[role]
        manifest = self._storage.manifest(name, fingerprint)
        if manifest is None:
            raise RuntimeError(f"input {role} ({name}/{fingerprint}) does not exist")
        return manifest

    def __getitem__(self, role: str) -> Artifact:
        name, fingerprint = self._keys[role]
        manifest = self.manifest(role)
        if problem := self._storage.problem(manifest):
            place = self._storage.folder(name, fingerprint)
            raise UserError(f"{place}: {problem}; run again with --rerun {name}")
        return self._storage.artifact_of(manifest)

    def __contains__(self, role: object) -> bool:
        return role in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


class InputResolver:
    """`context.resolve_inputs`: with `wait`, until the driver has announced the stage's inputs."""

    def __init__(self, board: Any, spec: StageSpec, *, wait: bool) -> None:
        self._board, self._spec, self._wait = board, spec, wait

    def __call__(self) -> Mapping[str, Artifact]:
        import ray

        if self._wait:
            ray.get(self._board.announced.remote(self._spec.name))
        return LazyArtifacts(self._spec.inputs, open_storage(self._spec.storage))


@contextlib.contextmanager
def _fenced(storage: Storage, spec: StageSpec) -> Iterator[None]:
    """Ends this process, and what it started on Ray, when the stage's lease goes to another driver:
    the driver that this task is of may be stopped, and two must not write the same checkpoints. So
    it does where nobody has the lease at two looks: that other driver is done with it. (Our own
    driver gives it back after it has cancelled this task, which has ended by the second look.)"""
    if spec.lease is None:
        yield
        return
    folder, end = storage.folder(spec.name, spec.fingerprint), threading.Event()

    def look() -> None:
        free = 0
        while not end.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):
                token = storage.lease_token(folder)
                free = free + 1 if token is None else 0
                if (token not in (spec.lease, None) or free == 2) and not end.is_set():
                    os._exit(1)

    threading.Thread(target=look, daemon=True, name="lease-fence").start()
    try:
        yield
    finally:
        end.set()


def _recorded(manifest: Manifest) -> dict[str, str]:
    """What an artifact's manifest says of one that it was made from."""
    facts = {"name": manifest.stage, "fingerprint": manifest.fingerprint}
    return facts | {"content": manifest.content}


def run_stage(
    spec: StageSpec,
    progress: Callable[[dict[str, Any]], None],
    resolve_inputs: Callable[[], Mapping[str, Artifact]],
) -> None:
    """Make one artifact. An attempt that fails leaves its folder behind, without a manifest."""
    storage = open_storage(spec.storage)
    workspace: Workspace | None = None
    progress({MACHINE: socket.gethostname()})
    try:
        workspace = storage.begin(spec.name, spec.fingerprint, spec.lease, continues=spec.continues)
        code = source_hashes(spec.code)  # of now: what is changed meanwhile did not make it
        goes_on = workspace.goes_on
        note_begin(storage, spec.name, spec.fingerprint, spec.inputs, code, goes_on=goes_on)
        context = Context(
            workspace.output,
            workspace.checkpoints,
            spec.name,
            spec.fingerprint,
            workspace.attempt,
            progress,
            resolve_inputs,
            storage.worker_folders(workspace),
            storage.place(spec.name, spec.fingerprint),
            workspace.made,
        )
        started = time.monotonic()
        inputs = LazyArtifacts(spec.inputs, storage)
        with _fenced(storage, spec):
            metrics = spec.run(spec.config, inputs, context) or {}
        manifest = Manifest(
            stage=spec.name,
            fingerprint=spec.fingerprint,
            version=spec.version,
            attempt=workspace.attempt,
            files=storage.describe(workspace),
            metrics=json.loads(json.dumps(metrics)),
            config=spec.canonical_config,
            inputs={role: _recorded(inputs.manifest(role)) for role in spec.inputs},
            git_commit=spec.git_commit,
            packages=package_versions(),
            code=code,
            seconds=time.monotonic() - started,
            resources=spec.resources,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        storage.publish(workspace, manifest)
        workspace = None
    except Exception as error:
        if is_disk_full(error):
            raise UserError(
                f"disk full while stage {spec.name} wrote to {storage.uri}: make room there or "
                "choose another folder with --storage; finished stages are kept"
            ) from error
        raise
    finally:
        if workspace is not None:
            storage.abandon(workspace)
