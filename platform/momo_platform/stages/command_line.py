"""Look after a storage of artifacts: `momo artifacts COMMAND`.

An ARTIFACT is a stage's name (its newest artifact), name/fingerprint or the start of it, a
fingerprint, or a path in the storage or to an exported model.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from momo_platform.exit_codes import exit_code
from momo_platform.stages.catalog import Catalog, Key, compare, corpus_files, key_of, size_of
from momo_platform.stages.errors import UserError
from momo_platform.stages.manifest import Manifest
from momo_platform.stages.storage import open_storage

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
    if "://" not in storage.uri and not Path(storage.uri).is_dir():
        raise UserError(f"--storage {uri}: no such folder; give the storage that a run wrote to")
    return Catalog(storage)


def _label(manifest: Manifest) -> str:
    return "/".join(key_of(manifest))


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _age(manifest: Manifest) -> str:
    seconds = time.time() - datetime.fromisoformat(manifest.created).astimezone(UTC).timestamp()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=160)


@app.command(name="list")
def list_artifacts(storage: StorageOption = "runs", json_output: JsonOption = False) -> None:
    """Artifacts with size, age and who uses them."""
    catalog = _catalog(storage)
    rows = [
        {
            "name": m.stage,
            "fingerprint": m.fingerprint,
            "bytes": size_of(m),
            "files": len(m.files),
            "created": m.created,
            "seconds": round(m.seconds, 1),
            "used_by": [_label(u) for u in catalog.users(m)],
        }
        for m in catalog.manifests
    ]
    if json_output:
        print(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False)
    numbers = ("size", "files", "age", "took")
    for title in ("artifact", *numbers, "used by"):
        table.add_column(title, justify="right" if title in numbers else "left")
    for m, row in zip(catalog.manifests, rows, strict=True):
        table.add_row(
            _label(m),
            _bytes(row["bytes"]),
            str(row["files"]),
            _age(m),
            f"{m.seconds:.0f} s",
            ", ".join(dict.fromkeys(u.partition("/")[0] for u in row["used_by"])) or "–",
        )
    _console().print(table)
    total = sum(map(size_of, catalog.manifests))
    print(f"{len(rows)} artifacts, {_bytes(total)} in {catalog.storage.uri}")


@app.command
def show(artifact: Name, storage: StorageOption = "runs", json_output: JsonOption = False) -> None:
    """One artifact's manifest, what it was made from and what was made from it."""
    catalog = _catalog(storage)
    manifest = catalog.find(artifact)
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
    console.print(f"  {len(manifest.files)} files, {_bytes(size_of(manifest))}", highlight=False)
    for name, file in list(manifest.files.items())[:_SHOWN_FILES]:
        console.print(f"    {file['sha256'][:12]}  {_bytes(file['size']):>9}  {name}", markup=False)
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
            text += "" if other is not None else " (no longer there)"
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
    catalog = _catalog(storage)
    manifest = catalog.find(artifact)
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


@app.command
def diff(
    a: Name, b: Name, storage: StorageOption = "runs", json_output: JsonOption = False
) -> None:
    """Which config fields, inputs, package versions, code, metrics and files differ."""
    catalog = _catalog(storage)
    found = compare(catalog.find(a), catalog.find(b))
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
    catalog = _catalog(storage)
    chosen = [catalog.find(a) for a in artifacts] or catalog.manifests
    damaged = 0
    for manifest in chosen:
        if problem := catalog.storage.problem(manifest, checksums=True):
            damaged += 1
            print(f"{_label(manifest)}: {problem}; --rerun {manifest.stage} makes it again")
    print(f"{len(chosen) - damaged} of {len(chosen)} artifacts are whole")
    if damaged:
        raise SystemExit(1)


@app.command
def gc(
    keep_last: int = 3,
    dry_run: bool = False,
    storage: StorageOption = "runs",
) -> None:
    """Delete all but the newest artifacts of each name, never what a kept one was made from.

    Args:
        keep_last: How many of each name to keep at least.
        dry_run: Only say what would go.
        storage: Folder or URI of the artifacts.
    """
    if keep_last < 1:
        raise UserError(f"--keep-last {keep_last}: give 1 or more")
    catalog = _catalog(storage)
    leases = catalog.storage.leases()
    freed = 0
    try:
        for manifest in catalog.to_delete(keep_last):
            folder = catalog.storage.folder(*key_of(manifest))
            if not dry_run:
                if other := leases.acquire(folder):
                    print(f"kept {_label(manifest)}: {other} works on it")
                    continue
                catalog.storage.delete(*key_of(manifest))
                leases.release(folder)
            freed += size_of(manifest)
            verb = "would delete" if dry_run else "deleted"
            print(f"{verb} {_label(manifest)} ({_bytes(size_of(manifest))}, {_age(manifest)} old)")
    finally:
        leases.close()
    print(f"{_bytes(freed)} {'would be' if dry_run else ''} freed".replace("  ", " "))


@app.command
def graph(
    artifact: Annotated[Name, tyro.conf.arg(help="Default: everything in the storage.")] = "",
    form: Literal["mermaid", "svg"] = "mermaid",
    storage: StorageOption = "runs",
) -> None:
    """The artifacts and what they were made from, as Mermaid or SVG on standard output."""
    from momo_platform.stages import drawing

    catalog = _catalog(storage)
    chosen = catalog.upstream(catalog.find(artifact)) if artifact else catalog.manifests
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
        app.cli(args=arguments, prog="momo artifacts", description=__doc__)
        return 0

    return exit_code(work, "the same command goes on where it was")
