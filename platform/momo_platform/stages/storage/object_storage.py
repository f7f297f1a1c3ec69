"""Artifacts on object storage (`s3://…`, `gs://…`) by `pyarrow.fs`.

The guarantees are those of a local folder. A stage writes to a scratch folder on its machine; its
files are uploaded when it has ended and the manifest, one atomic PUT, last. Inputs are fetched
into a cache by content and checked against the manifest's sha256 before they are used. Whole
checkpoints are uploaded while the stage runs, by the process that writes them (`mirror.py`). A
store that does not answer is waited for (`patience.py`).
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from momo_platform.stages.checkpoints import Checkpoints, checkpoints_listed
from momo_platform.stages.errors import UserError
from momo_platform.stages.manifest import (
    FILE_NAME,
    Manifest,
    check_files,
    describe_files,
    manifest_json,
    parse_manifest,
)
from momo_platform.stages.storage.artifacts import (
    CHECKPOINTS,
    FAILURE_FILE,
    LeaseLost,
    Storage,
    Workspace,
    own,
)
from momo_platform.stages.storage.bakery import ObjectLeases, holder_of, token_of
from momo_platform.stages.storage.folders import WorkerFolders
from momo_platform.stages.storage.mirror import (
    CheckpointMirror,
    MirroredFolders,
    artifact_cache,
    scratch_folder,
    sign,
)
from momo_platform.stages.storage.object_tree import ObjectTree
from momo_platform.stages.storage.patience import patiently


def _cached(manifest: Manifest) -> Path:
    return artifact_cache() / f"{manifest.stage}-{manifest.content}"


class ObjectStorage(Storage):
    """Artifacts below a `pyarrow.fs` URI; credentials and endpoint by the usual environment.

    Raises UserError for an unknown scheme.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri.rstrip("/")
        try:
            self._fs, self._base = pafs.FileSystem.from_uri(self._uri)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise UserError(
                f"storage {uri}: {error}; give a folder, or a URI such as s3://bucket/runs"
            ) from error
        self._base = self._base.rstrip("/")
        self.tree = ObjectTree(self._fs, self._base)
        self._mirrors: dict[str, CheckpointMirror] = {}

    @property
    def uri(self) -> str:
        return self._uri

    def create(self) -> None:
        """Check that the place can be written."""
        probe = f"{self._base}/.writable-{uuid.uuid4().hex}"
        try:
            with self._fs.open_output_stream(probe) as file:  # a wrong address is told at once
                file.write(b"")
            self._delete_file(probe)
        except OSError as error:
            raise UserError(
                f"storage {self._uri}: can't be written ({error}); check the bucket's name, the "
                "credentials and, for another server than AWS, AWS_ENDPOINT_URL"
            ) from error

    def leases(self) -> Any:
        return ObjectLeases(self._fs)

    def folder(self, name: str, fingerprint: str) -> str:
        return f"{self._base}/{name}/{fingerprint}"

    # -- objects -------------------------------------------------------------------------------

    def _delete_file(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            patiently(lambda: self._fs.delete_file(path))

    def _list(self, folder: str, *, recursive: bool = True) -> list[pafs.FileInfo]:
        selector = pafs.FileSelector(folder, recursive=recursive, allow_not_found=True)
        return patiently(lambda: self._fs.get_file_info(selector))

    def upload(self, source: Path, target: str) -> None:
        """One file, streamed."""

        def send() -> None:
            with source.open("rb") as file, self._fs.open_output_stream(target) as stream:
                shutil.copyfileobj(file, stream, 2**22)

        patiently(send)

    def download_tree(self, folder: str, target: Path) -> None:
        """Every object below `folder`."""
        for info in self._list(folder):
            if info.type == pafs.FileType.File:
                self._download(info.path, target / info.path.removeprefix(folder + "/"))

    def _download(self, path: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)

        def fetch() -> None:
            with self._fs.open_input_stream(path) as stream, target.open("wb") as file:
                shutil.copyfileobj(stream, file, 2**22)

        patiently(fetch)

    def delete_tree(self, folder: str) -> None:
        """Every object below `folder`."""
        with contextlib.suppress(FileNotFoundError):
            patiently(lambda: self._fs.delete_dir(folder))

    # -- artifacts -----------------------------------------------------------------------------

    def manifest(self, name: str, fingerprint: str) -> Manifest | None:
        path = f"{name}/{fingerprint}/{FILE_NAME}"
        try:
            raw = self.tree.get(path)
        except OSError as error:
            raise UserError(f"{self._uri}/{path}: can't be read ({error})") from error
        return own(None if raw is None else parse_manifest(raw), name, fingerprint)

    def lease_holder(self, name: str, fingerprint: str) -> str | None:
        return holder_of(self._fs, self.folder(name, fingerprint), self.now())

    def _names(self, folder: str) -> list[str]:
        found = self._list(folder, recursive=False)
        return sorted(i.base_name for i in found if i.type == pafs.FileType.Directory)

    def attempt_path(self, manifest: Manifest) -> Path:
        """The artifact's files in the local cache, fetched and checked when they aren't there.

        Raises UserError for an object that is missing or does not have the manifest's checksum.
        """
        target = _cached(manifest)
        if target.is_dir() and check_files(target, manifest.files) is None:
            return target
        remote = f"{self.folder(manifest.stage, manifest.fingerprint)}/{manifest.attempt}"
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetch-") as scratch:
            sign(Path(scratch))
            folder = Path(scratch) / "files"
            folder.mkdir()
            for name in manifest.files:
                with contextlib.suppress(FileNotFoundError):  # check_files names it
                    self._download(f"{remote}/{name}", folder / name)
            if problem := check_files(folder, manifest.files, checksums=True):
                raise UserError(
                    f"{self._uri}: {manifest.stage}/{manifest.fingerprint}: {problem}; run again "
                    f"with --rerun {manifest.stage}"
                )
            self._into_cache(folder, target)
        return target

    def _into_cache(self, folder: Path, target: Path) -> None:
        """Another process may have put the same content there first, which is as good."""
        with contextlib.suppress(OSError):
            if target.is_dir():  # it was found damaged
                target.rename(target.with_name(f"fetch-old-{uuid.uuid4().hex}"))
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():
                raise

    def problem(self, manifest: Manifest, *, checksums: bool = False) -> str | None:
        folder = f"{self.folder(manifest.stage, manifest.fingerprint)}/{manifest.attempt}"
        sizes = {i.path: i.size for i in self._list(folder) if i.type == pafs.FileType.File}
        for name, facts in manifest.files.items():
            size = sizes.get(f"{folder}/{name}")
            if size is None:
                return f"output file missing: {name}"
            if size != facts["size"]:
                return f"output file {name} has {size} bytes, its manifest says {facts['size']}"
        if checksums:
            with tempfile.TemporaryDirectory() as scratch:
                for name, facts in manifest.files.items():
                    self._download(f"{folder}/{name}", Path(scratch) / "file")
                    if check_files(Path(scratch), {"file": facts}, checksums=True):
                        return (
                            f"output file {name} was altered: its checksum differs from the "
                            "manifest's"
                        )
        return None

    def checkpoints(
        self, name: str, fingerprint: str, without: Collection[int] = ()
    ) -> Checkpoints:
        place = f"{name}/{fingerprint}/{CHECKPOINTS}"
        entries = self.tree.below(place)
        return checkpoints_listed(entries, lambda f: self.tree.get(f"{place}/{f}"), without)

    def drop_checkpoints(self, name: str, fingerprint: str) -> None:
        self.delete_tree(f"{self.folder(name, fingerprint)}/{CHECKPOINTS}")

    def begin(self, name: str, fingerprint: str, lease: str | None = None) -> Workspace:
        folder = self.folder(name, fingerprint)
        self._check_lease(name, folder, lease)
        manifest = self.manifest(name, fingerprint)
        if self.damage(name, fingerprint) is None:
            for other in self._names(folder):
                if other.startswith("attempt-") and (manifest is None or other != manifest.attempt):
                    self.delete_tree(f"{folder}/{other}")
        attempt = f"attempt-{uuid.uuid4().hex[:8]}"
        scratch = scratch_folder(name)
        output, checkpoints = scratch / "output", scratch / CHECKPOINTS
        output.mkdir()
        checkpoints.mkdir()
        mirror = CheckpointMirror(self, checkpoints, f"{folder}/{CHECKPOINTS}")
        mirror.start()
        self._mirrors[attempt] = mirror
        return Workspace(name, fingerprint, attempt, output, checkpoints, lease)

    def worker_folders(self, workspace: Workspace) -> WorkerFolders:
        w = workspace
        return MirroredFolders(self._uri, w.name, w.fingerprint, w.attempt, w.output)

    def lease_token(self, folder: str) -> str | None:
        return token_of(self._fs, folder)

    def _check_lease(self, name: str, folder: str, lease: str | None) -> None:
        if lease is not None and self.lease_token(folder) != lease:
            raise LeaseLost(f"{name}: the lease went to another driver")

    def describe(self, workspace: Workspace) -> Mapping[str, Mapping[str, Any]]:
        files = describe_files(workspace.output)
        return {n: {k: v for k, v in f.items() if k != "mtime_ns"} for n, f in files.items()}

    def publish(self, workspace: Workspace, manifest: Manifest) -> None:
        folder = self.folder(workspace.name, workspace.fingerprint)
        self._mirrors.pop(workspace.attempt).stop(final=False)
        for name in manifest.files:
            self.upload(workspace.output / name, f"{folder}/{workspace.attempt}/{name}")
        self._check_lease(workspace.name, folder, workspace.lease)
        place = f"{workspace.name}/{workspace.fingerprint}"
        self.tree.put(f"{place}/{FILE_NAME}", manifest_json(manifest))
        for other in self._names(folder):
            if other not in (workspace.attempt, "lease"):
                self.delete_tree(f"{folder}/{other}")
        self._into_cache(workspace.output, _cached(manifest))
        shutil.rmtree(workspace.output.parent, ignore_errors=True)

    def abandon(self, workspace: Workspace) -> None:
        """Keep the newest checkpoint for the next attempt; drop the scratch folder."""
        mirror = self._mirrors.pop(workspace.attempt, None)
        if mirror is not None:
            with contextlib.suppress(OSError):
                mirror.stop(final=True)
        shutil.rmtree(workspace.output.parent, ignore_errors=True)

    def write_failure(self, name: str, fingerprint: str, text: str) -> str | None:
        with contextlib.suppress(OSError):
            self.tree.put(f"{name}/{fingerprint}/{FAILURE_FILE}", text)
            return f"{self._uri}/{name}/{fingerprint}/{FAILURE_FILE}"
        return None

    def clear_failure(self, name: str, fingerprint: str) -> None:
        self._delete_file(f"{self.folder(name, fingerprint)}/{FAILURE_FILE}")

    def delete(self, name: str, fingerprint: str) -> None:
        folder = self.folder(name, fingerprint)
        self._delete_file(f"{folder}/{FILE_NAME}")
        self.delete_tree(folder)
