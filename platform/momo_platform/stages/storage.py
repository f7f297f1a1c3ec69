"""Where artifacts lie: `<storage>/<name>/<12 hex digits>/`.

An artifact's folder holds `manifest.json`, which names the attempt that made it, the attempt
folders, `checkpoints/` while it is being made, and `lease.json` while somebody works on it.
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from momo_platform.stages.errors import UserError
from momo_platform.stages.manifest import Manifest, read_manifest
from momo_platform.stages.stage import Artifact


class Storage:
    """A local folder of artifacts.

    Raises UserError for a URI with another scheme, or a folder that can't be made.
    """

    def __init__(self, uri: str | os.PathLike[str]) -> None:
        text = os.fspath(uri).removeprefix("file://")
        if "://" in text:
            raise UserError(
                f"storage {text}: this version keeps its artifacts in a local or shared folder; "
                "give a path such as runs or /mnt/shared/runs"
            )
        self.root = Path(text).expanduser().resolve()

    def create(self) -> None:
        """Make the root folder."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"storage {self.root}: {error.strerror}; choose another folder with --storage"
            ) from error

    def folder(self, name: str, fingerprint: str) -> Path:
        """The folder of an artifact, existing or not."""
        return self.root / name / fingerprint

    def manifest(self, name: str, fingerprint: str) -> Manifest | None:
        """The artifact's manifest, or None when the artifact does not exist."""
        manifest = read_manifest(self.folder(name, fingerprint))
        return manifest if manifest and manifest.fingerprint == fingerprint else None

    def artifact(self, name: str, fingerprint: str) -> Artifact | None:
        """The finished artifact, or None."""
        manifest = self.manifest(name, fingerprint)
        if manifest is None:
            return None
        path = self.folder(name, fingerprint) / manifest.attempt
        return Artifact(name, fingerprint, path, manifest)

    def others(self, name: str) -> list[Manifest]:
        """All manifests of a stage's name, newest first."""
        folder = self.root / name
        if not folder.is_dir():
            return []
        manifests = [m for p in folder.iterdir() if (m := read_manifest(p)) is not None]
        return sorted(manifests, key=lambda m: m.created, reverse=True)

    def new_attempt(self, name: str, fingerprint: str) -> Path:
        """A fresh, empty folder for one attempt."""
        path = self.folder(name, fingerprint) / f"attempt-{uuid.uuid4().hex[:8]}"
        path.mkdir(parents=True)
        return path

    def remove_dead_attempts(self, name: str, fingerprint: str) -> None:
        """Delete the attempts that failed or were killed; only a lease's holder may do so."""
        manifest = self.manifest(name, fingerprint)
        for path in self.folder(name, fingerprint).glob("attempt-*"):
            if manifest is None or path.name != manifest.attempt:
                shutil.rmtree(path, ignore_errors=True)

    def remove_leftovers(self, name: str, fingerprint: str, keep: str) -> None:
        """Delete checkpoints and every attempt but `keep`, after the manifest was written."""
        for path in self.folder(name, fingerprint).iterdir():
            if path.is_dir() and path.name != keep:
                shutil.rmtree(path, ignore_errors=True)
