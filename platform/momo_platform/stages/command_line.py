"""Look after a storage of artifacts: `PROGRAM COMMAND`.

An ARTIFACT is a stage's name (its newest artifact), name/fingerprint or the start of it, a
fingerprint, or a path in the storage or to an exported model.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.tree import Tree

from momo_platform.application import NAME
from momo_platform.exit_codes import exit_code
from momo_platform.stages.amounts import in_bytes
from momo_platform.stages.catalog import (
    Catalog,
    Key,
    compare,
    corpus_files,
    key_of,
    size_of,
    storage_at,
)
from momo_platform.stages.collection import Collection
from momo_platform.stages.errors import UserError, unreadable
from momo_platform.stages.leftovers import leftovers
from momo_platform.stages.manifest import Manifest
from momo_platform.stages.storage.open import open_storage
from momo_platform.stages.tables import (
    finished_row,
    finished_table,
    unfinished_row,
    unfinished_table,
)

app = tyro.extras.SubcommandApp()
Name = tyro.conf.Positional[str]
Names = tyro.conf.Positional[tuple[str, ...]]
StorageOption = Annotated[
    str, tyro.conf.arg(name="storage", help="Folder or URI (s3://…, gs://…) of the artifacts.")
]
JsonOption = Annotated[bool, tyro.conf.arg(name="json", help="Print JSON.")]
_SHOWN_FILES = 12


def _catalog(uri: str) -> Catalog:
    storage = open_storage(uri)
    if storage.is_local and not Path(storage.uri).is_dir():
        raise UserError(f"--storage {uri}: no such folder; give the storage that a run wrote to")
    return Catalog(storage)


def _found(uri: str, artifact: str) -> tuple[Catalog, Manifest]:
    """An artifact and the catalog of its storage: where a path says which, that one."""
    catalog = _catalog(_storage_of(uri, artifact))
    return catalog, catalog.find(artifact)


def _storage_of(uri: str, artifact: str) -> str:
    with contextlib.suppress(UserError):  # a manifest that can't be read: told by the catalog
        return str(storage_at(Path(artifact)) or uri)
    return uri


def _label(manifest: Manifest) -> str:
    return "/".join(key_of(manifest))


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=160)


@app.command(name="list")
def list_artifacts(storage: StorageOption = "runs", json_output: JsonOption = False) -> None:
    """Artifacts with size, age and who uses them; then those that are unfinished."""
    catalog = _catalog(storage)
    problems = list(catalog.problems)
    unfinished = leftovers(catalog.storage, catalog.by_key, problems)
    if json_output:
        rows = [finished_row(catalog, m) for m in catalog.manifests]
        print(json.dumps([*rows, *map(unfinished_row, unfinished)], indent=1))
        for problem in problems:
            print(f"left out: {problem}", file=sys.stderr)
        return
    _console().print(finished_table(catalog))
    total = sum(map(size_of, catalog.manifests))
    print(f"{len(catalog.manifests)} artifacts, {in_bytes(total)} in {catalog.storage.uri}")
    if unfinished:
        _console().print("", unfinished_table(unfinished), sep="\n")
        total = sum(one.size for one in unfinished)
        print(f"{len(unfinished)} unfinished, {in_bytes(total)}; gc frees what is left for days")
    for problem in problems:
        print(f"left out: {problem}")


@app.command
def show(artifact: Name, storage: StorageOption = "runs", json_output: JsonOption = False) -> None:
    """One artifact's manifest, what it was made from and what was made from it."""
    catalog, manifest = _found(storage, artifact)
    if json_output:
        print(json.dumps(dataclasses.asdict(manifest), indent=1, sort_keys=True))
        return
    console = _console()
    facts = {
        "made": f"{manifest.created} in {manifest.seconds:.1f} s",
        "commit": manifest.git_commit or "unknown",
        "packages": ", ".join(f"{n} {v}" for n, v in manifest.packages.items()),
        "resources": json.dumps(dict(manifest.resources)),
        "place": f"{catalog.storage.folder(*key_of(manifest))}/{manifest.attempt}",
    }
    console.print(f"[bold]{_label(manifest)}[/bold]")
    for title, value in facts.items():
        console.print(f"  {title:<10}{value}", highlight=False, markup=False)
    for title, value in (("config", manifest.config), ("metrics", manifest.metrics)):
        console.print(f"  {title}", highlight=False)
        console.print_json(json.dumps(value), indent=2)
    console.print(f"  {len(manifest.files)} files, {in_bytes(size_of(manifest))}", highlight=False)
    for name, file in list(manifest.files.items())[:_SHOWN_FILES]:
        console.print(
            f"    {file['sha256'][:12]}  {in_bytes(file['size']):>9}  {name}", markup=False
        )
    if len(manifest.files) > _SHOWN_FILES:
        console.print(f"    … and {len(manifest.files) - _SHOWN_FILES} more (--json)")
    console.print(_tree(catalog, manifest, "made from", down=False))
    console.print(_tree(catalog, manifest, "used by", down=True))


def _tree(catalog: Catalog, manifest: Manifest, title: str, *, down: bool) -> Tree:
    """Lineage; an artifact that was shown before is not opened again."""
    tree, seen = Tree(title), set()

    def grow(parent: Tree, one: Manifest) -> None:
        users: list[tuple[str, Key, Manifest | None]]
        users = [("", key_of(u), u) for u in catalog.users(one)] if down else []
        near = users if down else catalog.inputs(one)
        for role, key, other in near:
            text = "/".join(key) + (f" ({role})" if role and role != key[0] else "")
            if other is None:
                text += f" ({catalog.troubled.get(key, 'no longer there')})"
            branch = parent.add(text + (" …" if key in seen and other and other.inputs else ""))
            if other is not None and key not in seen:
                seen.add(key)
                grow(branch, other)

    grow(tree, manifest)
    return tree


@app.command
def lineage(
    artifact: Name, storage: StorageOption = "runs", json_output: JsonOption = False
) -> None:
    """From an artifact or an exported model's folder back to every corpus file's checksum."""
    catalog, manifest = _found(storage, artifact)
    ancestors = catalog.upstream(manifest)
    files = list(corpus_files(catalog.storage, ancestors))
    if json_output:
        artifacts = [
            {"artifact": _label(m), "commit": m.git_commit, "content": m.content} for m in ancestors
        ]
        corpus = [{"sha256": digest, "path": path} for digest, path in files]
        print(json.dumps({"artifacts": artifacts, "files": corpus}, indent=1))
        return
    _console().print(_tree(catalog, manifest, _label(manifest), down=False))
    print(f"{len(files)} corpus files:")
    for digest, path in files:
        print(f"{digest}  {path}")
    missing = {k for m in ancestors for _, k, other in catalog.inputs(m) if other is None}
    gone = {"/".join(k) for k in missing - catalog.troubled.keys()}
    for key in sorted(missing & catalog.troubled.keys()):
        print(f"and those behind {'/'.join(key)}: {catalog.troubled[key]}")
    if gone:
        print(f"and those behind {', '.join(sorted(gone))}: no longer in {catalog.storage.uri}")


@app.command
def diff(
    a: Name, b: Name, storage: StorageOption = "runs", json_output: JsonOption = False
) -> None:
    """Which config fields, inputs, package versions, code, metrics and files differ."""
    found = compare(_found(storage, a)[1], _found(storage, b)[1])
    if json_output:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    for kind, lines in found.items():
        print(kind)
        for line in lines:
            print(f"  {line}")
    if not found:
        print("no difference")


@app.command
def verify(artifacts: Names = (), storage: StorageOption = "runs") -> None:
    """Check every file's checksum. Exit code 1 and a line for each artifact that is damaged."""
    chosen: list[tuple[Catalog, Manifest]] = []
    bad: list[str] = []
    if not artifacts:
        catalog = _catalog(storage)
        chosen = [(catalog, manifest) for manifest in catalog.manifests]
        bad = [f"{'/'.join(key)}: {why}" for key, why in catalog.troubled.items()]
        bad += [p for p in catalog.problems if p not in catalog.troubled.values()]
    for artifact in artifacts:
        catalog = _catalog(_storage_of(storage, artifact))
        found = [f"{'/'.join(key)}: {why}" for key, why in catalog.troubled_by(artifact).items()]
        try:
            chosen.append((catalog, catalog.find(artifact)))
        except UserError:
            if not found:
                raise
        bad += found
    total = len(chosen) + len(bad)
    damaged = len(bad)
    for line in bad:
        print(line)
    for catalog, manifest in chosen:
        if problem := _problem(catalog, manifest):
            damaged += 1
            print(f"{_label(manifest)}: {problem}")
    print(f"{total - damaged} of {total} artifacts are whole")
    if damaged:
        raise SystemExit(1)


def _problem(catalog: Catalog, manifest: Manifest) -> str | None:
    try:
        problem = catalog.storage.problem(manifest, checksums=True)
    except (UserError, OSError) as error:  # the others are to be looked at, too
        return unreadable(error, str(catalog.storage.folder(*key_of(manifest))))
    return f"{problem}; --rerun {manifest.stage} makes it again" if problem else None


@app.command
def gc(
    keep_last: int = 3,
    unfinished_days: float = 7.0,
    dry_run: bool = False,
    storage: StorageOption = "runs",
) -> None:
    """Delete all but the newest artifacts of each name, never what a kept one was made from nor
    what a running job uses; and what was left unfinished.

    Args:
        keep_last: How many of each name to keep at least.
        unfinished_days: Free checkpoints and files of unfinished artifacts, and scratch in this
            machine's cache, that nothing has changed for so many days.
        dry_run: Only say what would go.
        storage: Folder or URI of the artifacts.
    """
    if keep_last < 1:
        raise UserError(f"--keep-last {keep_last}: give 1 or more")
    if not unfinished_days >= 0:
        raise UserError(f"--unfinished-days {unfinished_days}: give 0 or more")
    verb = "would delete" if dry_run else "deleted"

    def say(what: str, size: int, goes: bool, note: str) -> None:
        print(f"{verb} {what} ({in_bytes(size)}, {note} old)" if goes else f"kept {what}: {note}")

    freed = Collection(_catalog(storage), keep_last, unfinished_days, dry_run, say).run()
    print(f"{in_bytes(freed)} {'would be ' if dry_run else ''}freed")


@app.command
def graph(
    artifact: Annotated[Name, tyro.conf.arg(help="Default: everything in the storage.")] = "",
    form: Literal["mermaid", "svg"] = "mermaid",
    storage: StorageOption = "runs",
) -> None:
    """The artifacts and what they were made from, as Mermaid or SVG on standard output."""
    from momo_platform.stages import drawing

    if artifact:
        catalog, manifest = _found(storage, artifact)
        chosen = catalog.upstream(manifest)
    else:
        catalog = _catalog(storage)
        chosen = catalog.manifests
    labels = {_label(m): f"{m.stage}\n{m.fingerprint}" for m in chosen}
    edges = [
        ("/".join(key), _label(m))
        for m in chosen
        for _, key, _ in catalog.inputs(m)
        if "/".join(key) in labels
    ]
    draw = drawing.svg if form == "svg" else drawing.mermaid
    print(draw(labels, list(dict.fromkeys(edges))))


def main(arguments: Sequence[str] | None = None) -> Any:
    """Exit code 0: done; 1: something is damaged; 2: bad input."""

    def work() -> int:
        program = f"{NAME} artifacts"
        told = (__doc__ or "").replace("PROGRAM", program)
        app.cli(args=arguments, prog=program, description=told)
        return 0

    return exit_code(work, "the same command goes on where it was")
