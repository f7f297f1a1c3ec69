"""What runs inside a stage's Ray task: a fresh attempt, the stage's function, the manifest last."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momo_platform.stages.errors import UserError, is_disk_full
from momo_platform.stages.manifest import Manifest, package_versions, source_hashes
from momo_platform.stages.stage import Artifact, Context
from momo_platform.stages.storage import Storage, Workspace, open_storage


@dataclass(frozen=True)
class TaskSpec:
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


class LazyInputs(Mapping[str, Artifact]):
    """Role → Artifact, looked up when first asked for: an early starter asks when they exist."""

    def __init__(self, spec: TaskSpec, storage: Storage) -> None:
        self._spec, self._storage = spec, storage

    def manifest(self, role: str) -> Manifest:
        """An input's manifest, without a look at its files."""
        name, fingerprint = self._spec.inputs[role]
        manifest = self._storage.manifest(name, fingerprint)
        if manifest is None:
            raise RuntimeError(f"input {role} ({name}/{fingerprint}) does not exist")
        return manifest

    def __getitem__(self, role: str) -> Artifact:
        name, fingerprint = self._spec.inputs[role]
        artifact = self._storage.artifact(name, fingerprint)
        if artifact is None:
            raise RuntimeError(f"input {role} ({name}/{fingerprint}) does not exist")
        if problem := self._storage.problem(artifact.manifest):
            place = self._storage.folder(name, fingerprint)
            raise UserError(f"{place}: {problem}; run again with --rerun {name}")
        return artifact

    def __iter__(self):
        return iter(self._spec.inputs)

    def __len__(self) -> int:
        return len(self._spec.inputs)


def run_stage(
    spec: TaskSpec,
    progress: Callable[[dict[str, Any]], None],
    resolve_inputs: Callable[[], Mapping[str, Path]],
) -> None:
    """Make one artifact. An attempt that fails leaves its folder behind, without a manifest."""
    storage = open_storage(spec.storage)
    workspace: Workspace | None = None
    try:
        workspace = storage.begin(spec.name, spec.fingerprint, spec.lease)
        context = Context(
            workspace.output,
            workspace.checkpoints,
            spec.name,
            spec.fingerprint,
            workspace.attempt,
            progress,
            resolve_inputs,
        )
        started = time.time()
        inputs = LazyInputs(spec, storage)
        metrics = spec.run(spec.config, inputs, context) or {}
        manifest = Manifest(
            stage=spec.name,
            fingerprint=spec.fingerprint,
            version=spec.version,
            attempt=workspace.attempt,
            files=storage.describe(workspace),
            metrics=json.loads(json.dumps(metrics)),
            config=spec.canonical_config,
            inputs={
                role: {
                    "name": name,
                    "fingerprint": digest,
                    "content": inputs.manifest(role).content,
                }
                for role, (name, digest) in spec.inputs.items()
            },
            git_commit=spec.git_commit,
            packages=package_versions(),
            code=source_hashes(spec.code),
            seconds=time.time() - started,
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
