"""What a storage holds and how it hangs together: users, lineage, differences, what may go."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from momo_platform.stages.errors import UserError, unreadable
from momo_platform.stages.fingerprint import is_fingerprint
from momo_platform.stages.manifest import FILE_NAME, Manifest
from momo_platform.stages.plan import differences
from momo_platform.stages.storage.artifacts import Storage, read_manifest
from momo_platform.stages.storage.local import LocalFiles

Key = tuple[str, str]
_NAMES_TOLD = 12


def key_of(manifest: Manifest) -> Key:
    """(stage, fingerprint)."""
    return manifest.stage, manifest.fingerprint


class Catalog:
    """Every finished artifact of a storage, read once. `problems`: what could not be read."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.problems: list[str] = []
        self.manifests = storage.all_manifests(self.problems)
        self.by_key = {key_of(m): m for m in self.manifests}
        self._users: dict[Key, dict[Key, Manifest]] = {}
        for manifest in self.manifests:
            for _, key, _ in self.inputs(manifest):
                self._users.setdefault(key, {})[key_of(manifest)] = manifest

    @cached_property
    def troubled(self) -> dict[Key, str]:
        """Artifacts that are there, but whose manifest is damaged or can't be read; and why."""
        found: dict[Key, str] = {}
        for name in self.storage.names():
            try:
                digests = [e.name for e in self.storage.entries_of(name) if e.size is None]
            except UserError:  # it is among the problems
                continue
            for key in ((name, d) for d in digests if is_fingerprint(d)):
                if key not in self.by_key and (why := self._trouble(key)):
                    found[key] = why
        return found

    def _trouble(self, key: Key) -> str | None:
        try:
            damaged = self.storage.damage(*key)
        except (UserError, OSError) as error:
            return unreadable(error, "/".join((self.storage.uri, *key)))
        return f"{damaged}; --rerun {key[0]} makes it again" if damaged else None

    def troubled_by(self, text: str) -> dict[Key, str]:
        """Those of `troubled` that a person means, in the words of `find`."""
        name, _, digest = text.strip("/").partition("/")
        root = Path(self.storage.uri)
        if os.path.exists(text) and (place := Path(text).resolve()).is_relative_to(root):
            name, digest = (*place.relative_to(root).parts[:2], "", "")[:2]
        return {
            key: why
            for key, why in self.troubled.items()
            if (key[0] == name and key[1].startswith(digest))
            or (name and not digest and key[1].startswith(name))
        }

    def find(self, text: str) -> Manifest:
        """The artifact that a person means: `name` (its newest), `name/fingerprint` or a start of
        it, a fingerprint, or a path inside an artifact or an exported model.

        Raises UserError that names what there is.
        """
        if found := self._at_path(Path(text)):
            return found
        name, _, digest = text.strip("/").partition("/")
        matching = [m for m in self.manifests if m.stage == name and _starts(m, digest)]
        if not digest:
            matching = matching[:1] or [m for m in self.manifests if _starts(m, name)]
        if len(matching) == 1:
            return matching[0]
        if matching:
            names = ", ".join("/".join(key_of(m)) for m in matching[:6])
            raise UserError(f"{text} is ambiguous: {names}")
        for key, why in self.troubled_by(text).items():
            raise UserError(f"{'/'.join(key)}: {why}")
        names = list(dict.fromkeys(m.stage for m in self.manifests))
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}? It" if near else "it"
        has = ", ".join(names[:_NAMES_TOLD]) or "no artifacts at all"
        more = len(names) - _NAMES_TOLD
        has += f" and {more} more" if more > 0 else ""
        raise UserError(f"{self.storage.uri} has no artifact {text}; {hint} has {has}")

    def _at_path(self, path: Path) -> Manifest | None:
        if not path.exists():
            return None
        if (found := manifest_at(path)) is None:
            return self._of_model(path / "config.json")
        folder, manifest = found
        if key_of(manifest) not in self.by_key:
            # Its inputs would all be missing here: a lineage would end at it.
            root = storage_at(path)
            place = f"it is of the storage {root}" if root else "give its storage"
            raise UserError(
                f"{folder} is {'/'.join(key_of(manifest))}, which {self.storage.uri} does not "
                f"have; {place} (--storage)"
            )
        return self.by_key[key_of(manifest)]

    def _of_model(self, config: Path) -> Manifest | None:
        """The training stage that an exported model, wherever it was copied, says it is from."""
        if not config.is_file():
            return None
        try:
            name, _, digest = str(
                json.loads(config.read_text(encoding="utf-8"))["artifact"]
            ).partition("/")
        except (json.JSONDecodeError, KeyError, TypeError):
            return None
        if (name, digest) not in self.by_key:
            raise UserError(
                f"{config} says that it was made by {name}/{digest}, which {self.storage.uri} "
                "does not have; give its storage with --storage"
            )
        return self.by_key[name, digest]

    def inputs(self, manifest: Manifest) -> list[tuple[str, Key, Manifest | None]]:
        """(role, key, manifest); None for an artifact that is no longer there."""
        keys = [(role, (i["name"], i["fingerprint"])) for role, i in manifest.inputs.items()]
        return [(role, key, self.by_key.get(key)) for role, key in keys]

    def users(self, manifest: Manifest) -> list[Manifest]:
        """Artifacts that have this one as an input."""
        return list(self._users.get(key_of(manifest), {}).values())

    def upstream(self, manifest: Manifest) -> list[Manifest]:
        """All that an artifact was made from, itself included, inputs first, each once."""
        ordered: dict[Key, Manifest] = {}
        waiting = [manifest]  # a stack: chains may be longer than Python's recursion
        while waiting:
            one = waiting[-1]
            inputs = [m for _, _, m in self.inputs(one) if m is not None]
            missing = [m for m in inputs if key_of(m) not in ordered]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            ordered[key_of(one)] = one
        return list(ordered.values())

    def to_delete(self, keep_last: int, in_use: Iterable[Key] = ()) -> list[Manifest]:
        """Artifacts older than the newest `keep_last` of their name that nothing kept was made
        from. What is `in_use` and what `latest` points to is kept."""
        kept: dict[Key, Manifest] = {}
        count: dict[str, int] = {}
        needed = [self.by_key[key] for key in in_use if key in self.by_key]
        for manifest in self.manifests:  # newest first within a name
            count[manifest.stage] = count.get(manifest.stage, 0) + 1
            if count[manifest.stage] <= keep_last:
                needed.append(manifest)
        for one in (*needed, *self._pinned()):
            if key_of(one) not in kept:
                kept |= {key_of(m): m for m in self.upstream(one)}
        return [m for m in self.manifests if key_of(m) not in kept]

    def _pinned(self) -> Iterator[Manifest]:
        root = Path(self.storage.uri)
        if self.storage.is_local and root.is_dir():
            for path in root.iterdir():
                if path.is_symlink() and (found := self._at_path(path)) is not None:
                    yield found


def manifest_at(path: Path) -> tuple[Path, Manifest] | None:
    """The artifact that a path lies in: its folder and its manifest."""
    for folder in (path.resolve(), *path.resolve().parents):
        if (folder / FILE_NAME).is_file():
            manifest = read_manifest(LocalFiles(folder), FILE_NAME)
            if manifest is not None:
                return folder, manifest
    return None


def storage_at(path: Path) -> Path | None:
    """The storage that holds the artifact which a path lies in; None for a copy elsewhere."""
    if not path.exists() or (found := manifest_at(path)) is None:
        return None
    folder, manifest = found
    return folder.parents[1] if key_of(manifest) == (folder.parent.name, folder.name) else None


def _starts(manifest: Manifest, digest: str) -> bool:
    return manifest.fingerprint.startswith(digest)


def size_of(manifest: Manifest) -> int:
    """Bytes of an artifact's files."""
    return sum(int(facts["size"]) for facts in manifest.files.values())


def compare(a: Manifest, b: Manifest) -> dict[str, list[str]]:
    """What differs between two artifacts, by kind; kinds without a difference are left out."""
    found = {
        "stage": [] if a.stage == b.stage else [f"{a.stage} → {b.stage}"],
        "version": [] if a.version == b.version else [f"{a.version} → {b.version}"],
        "config": list(differences(a.config, b.config, "config")),
        "inputs": _inputs_that_differ(a.inputs, b.inputs),
        "packages": _values_that_differ(a.packages, b.packages),
        "code": [f"{n}" for n in sorted({*a.code, *b.code}) if a.code.get(n) != b.code.get(n)],
        "commit": [] if a.git_commit == b.git_commit else [f"{a.git_commit} → {b.git_commit}"],
        "metrics": list(differences(a.metrics, b.metrics, "metrics")),
        "files": [
            n
            for n in sorted({*a.files, *b.files})
            if a.files.get(n, {}).get("sha256") != b.files.get(n, {}).get("sha256")
        ],
    }
    return {kind: lines for kind, lines in found.items() if lines}


def _values_that_differ(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    names = sorted({*a, *b})
    return [f"{n} {a.get(n, 'none')} → {b.get(n, 'none')}" for n in names if a.get(n) != b.get(n)]


def _inputs_that_differ(
    a: Mapping[str, Mapping[str, str]], b: Mapping[str, Mapping[str, str]]
) -> list[str]:
    def shown(inputs: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
        return {r: f"{i['name']}/{i['fingerprint']} ({i['content']})" for r, i in inputs.items()}

    return _values_that_differ(shown(a), shown(b))


def corpus_files(storage: Storage, lineage: Sequence[Manifest]) -> Iterator[tuple[str, str]]:
    """(sha256, path) of every file that a lineage goes back to: the outputs of stages without
    inputs, and the files that preparing stages read (`sources.parquet`)."""
    for manifest in lineage:
        if not manifest.inputs:
            for name, facts in sorted(manifest.files.items()):
                yield facts["sha256"], f"{manifest.stage}/{manifest.fingerprint}/{name}"
        if "sources.parquet" in manifest.files:
            import pyarrow as pa
            import pyarrow.parquet as pq

            if problem := storage.problem(manifest):
                raise UserError(
                    f"{'/'.join(key_of(manifest))}: {problem}; run again with --rerun "
                    f"{manifest.stage}"
                )
            content = storage.artifact_of(manifest).read("sources.parquet")
            for row in pq.read_table(pa.BufferReader(content)).to_pylist():
                yield row["sha256"], f"{row['source']}:{row['path']}"
