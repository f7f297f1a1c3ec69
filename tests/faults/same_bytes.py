"""Compares the artifacts of two storages, file by file; what records time, without the times."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What differs between any two runs, and why.
TIMES: dict[str, str] = {
    r"(^|/)tensorboard/": "event files carry the moment and the host in name and content; they are "
    "written from metrics.jsonl, which is compared",
    r"(^|/)report/index\.html$": "shows moment, command, seconds and samples/s; what it shows of "
    "the model is in metrics.json, which is compared",
}
# Keys of JSON files that measure the machine, or say how often a run was interrupted.
MEASURED = re.compile(
    r"^seconds|_seconds$|^(samples|tokens|model_flops)_per_second|^peak_memory|^created$"
    r"|^resumed_at_step$|^mtime"
)


def artifacts(storage: Path) -> dict[str, tuple[str, Path, dict[str, Any]]]:
    """Stage → fingerprint, folder of its files, manifest: of all finished artifacts."""
    found = {}
    for path in sorted(storage.glob("*/*/manifest.json")):
        manifest = json.loads(path.read_text())
        folder = path.parent
        found[folder.parent.name] = (folder.name, folder / manifest["attempt"], manifest)
    return found


def differences(left: Path, right: Path) -> list[str]:
    """Every artifact or file that one storage lacks, or that differs."""
    ours, theirs = artifacts(left), artifacts(right)
    found = [f"{stage}: in one of the two alone" for stage in sorted(ours.keys() ^ theirs.keys())]
    for stage in sorted(ours.keys() & theirs.keys()):
        (print_1, folder_1, manifest_1), (print_2, folder_2, manifest_2) = (
            ours[stage],
            theirs[stage],
        )
        if print_1 != print_2:
            found.append(f"{stage}: fingerprints {print_1} and {print_2}")
            continue
        files_1, files_2 = manifest_1["files"], manifest_2["files"]
        for name in sorted(files_1.keys() | files_2.keys()):
            if any(re.search(pattern, name) for pattern in TIMES):
                continue
            if name not in files_1 or name not in files_2:
                found.append(f"{stage}/{name}: in one of the two alone")
            elif files_1[name]["sha256"] != files_2[name]["sha256"]:
                found += [f"{stage}/{name}{d}" for d in _within(folder_1 / name, folder_2 / name)]
    return found


def _within(left: Path, right: Path) -> list[str]:
    """Where two files differ; JSON is compared without what measures the machine."""
    if left.suffix not in (".json", ".jsonl"):
        return [": other bytes"]
    ours, theirs = (dict(_leaves("", _parsed(path))) for path in (left, right))
    return [
        f" at {key}: {ours.get(key)!r} and {theirs.get(key)!r}"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    ][:3]


def _parsed(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return (
        [json.loads(x) for x in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
    )


def _leaves(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Each value below with its place, those left out that measure the machine."""
    if isinstance(value, dict):
        for key, below in value.items():
            if not MEASURED.search(key):
                yield from _leaves(f"{place}/{key}", below)
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _leaves(f"{place}/{index}", below)
    else:
        yield place, value
