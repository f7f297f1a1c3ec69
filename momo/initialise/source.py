"""Where initial weights are: a folder, a file, or a name on the hub. Reads no weights, only what
stands around them: configs, the headers of safetensors files, licences."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from momo.initialise.origin import NOT_STATED

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_HUB = re.compile(r"(?:hf://)?(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_FILES = (".safetensors", ".pth", ".pt", ".bin")
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class Source:
    """`name` as it was given, of the hub's models `hf://…`. `files` hold the weights; `config` is
    the folder's `config.json`, empty for a file alone."""

    name: str
    folder: Path | None
    files: tuple[Path, ...]
    config: Mapping[str, Any] = field(default_factory=dict)

    def shapes(self) -> dict[str, tuple[int, ...]] | None:
        """The shape of each tensor by name; None where only torch could say (.pth, .bin)."""
        if not all(file.suffix == ".safetensors" for file in self.files):
            return None
        found: dict[str, tuple[int, ...]] = {}
        for file in self.files:
            found |= header(file)
        return found

    def sha256(self) -> str:
        """Of the weights' files, one after another."""
        return _sha256(tuple((file, file.stat().st_mtime_ns) for file in self.files))

    def text(self, name: str) -> str | None:
        """A file of the folder; None where there is none."""
        file = None if self.folder is None else self.folder / name
        return file.read_text(encoding="utf-8") if file is not None and file.is_file() else None

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder, empty where there is none. Raises ValueError naming it."""
        text = self.text(name)
        if text is None:
            return {}
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(f"{self.name}: {name} is not JSON ({error})") from error

    def licence(self) -> str:
        """From the front matter of README.md, else from `config.json`."""
        for values in (_front_matter(self.text("README.md") or ""), self.config):
            found = values.get("license") or values.get("licence")
            if found == "other" and values.get("license_name"):
                found = values["license_name"]
            if isinstance(found, list):
                found = ", ".join(map(str, found))
            if isinstance(found, str) and found.strip():
                return found.strip()
        return NOT_STATED


def find_source(source: str | os.PathLike[str]) -> Source:
    """The source of that name: an exported folder (or an artifact with `model/` in it), a folder of
    `save_pretrained` or of timm, a file of weights, or `org/name` on the hub (`hf://org/name`,
    `@revision` behind), which is downloaded into the hub's cache.

    Raises FileNotFoundError and ValueError that name what is missing.
    """
    given = os.fspath(source)
    path = Path(given).expanduser()
    if path.is_file():
        if path.suffix not in _FILES:
            raise ValueError(
                f"{given}: weights are {', '.join(_FILES)} files; give one, or a folder"
            )
        return Source(given, None, (path,))
    if not path.is_dir():
        path = _from_hub(given)
        given = f"hf://{given.removeprefix('hf://')}"
    if not (path / "config.json").is_file() and (path / "model" / "config.json").is_file():
        path = path / "model"
    files = _weights_in(path)
    if not files:
        raise FileNotFoundError(
            f"{given} holds none of {', '.join(WEIGHTS)}: give an exported model's folder, e.g. "
            "runs/latest/model, a folder of save_pretrained, or a file of weights"
        )
    bare = Source(given, path, files)
    return Source(given, path, files, bare.json("config.json"))


def _weights_in(folder: Path) -> tuple[Path, ...]:
    for name in WEIGHTS:
        file = folder / name
        if not file.is_file():
            continue
        if file.suffix != ".json":
            return (file,)
        parts = sorted(set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values()))
        if absent := [part for part in parts if not (folder / part).is_file()]:
            raise FileNotFoundError(f"{folder / absent[0]} is missing, which {name} names")
        return tuple(folder / part for part in parts)
    return ()


def _from_hub(given: str) -> Path:
    """The folder of a model in the hub's cache, downloaded if need be."""
    match = _HUB.fullmatch(given)
    if match is None:
        raise FileNotFoundError(
            f"{given}: no such folder or file; give an exported model's folder, a folder of "
            "save_pretrained, a file of weights, or a name on the hub such as org/name"
        )
    from huggingface_hub import snapshot_download

    wanted: dict[str, Any] = {
        "repo_id": match["name"],
        "revision": match["revision"],
        "ignore_patterns": ["*/*"],
    }
    try:
        texts = ["*.json", "*.txt", "README.md"]
        folder = Path(snapshot_download(**wanted, allow_patterns=[*texts, "*.safetensors"]))
        if not _weights_in(folder):
            folder = Path(snapshot_download(**wanted, allow_patterns=[*texts, WEIGHTS[-1]]))
    except Exception as error:  # the library raises many kinds, some of them of the network's
        raise FileNotFoundError(
            f"{given}: no folder or file here, and the hub did not give a model of that name "
            f"({_first_line(error)}). Check the name and the network; offline, models must be in "
            "the hub's cache already (HF_HOME says where)"
        ) from error
    return folder


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def header(file: Path) -> dict[str, tuple[int, ...]]:
    """The shapes that a safetensors file says it holds. Raises ValueError for a torn file."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 2 <= length <= _LONGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            entries = json.loads(opened.read(length))
        end = max(
            (e["data_offsets"][1] for n, e in entries.items() if n != "__metadata__"), default=0
        )
        if file.stat().st_size != 8 + length + end:
            raise ValueError(f"{file.stat().st_size} bytes, its header says {8 + length + end}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is no readable safetensors file ({error})") from error
    return {n: tuple(e["shape"]) for n, e in entries.items() if n != "__metadata__"}


@lru_cache(maxsize=32)
def _sha256(files: tuple[tuple[Path, int], ...]) -> str:
    digest = hashlib.sha256()
    for file, _ in files:
        for block in _blocks(file):
            digest.update(block)
    return digest.hexdigest()


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while block := opened.read(1 << 22):
            yield block


def _front_matter(text: str) -> Mapping[str, Any]:
    """What stands between the first two lines of `---`, as YAML; empty where it is none."""
    parts = re.split(r"^---\s*$", text, maxsplit=2, flags=re.MULTILINE)
    if len(parts) < 3 or parts[0].strip():
        return {}
    import yaml

    try:
        found = yaml.safe_load(parts[1])
    except yaml.YAMLError:  # a card of another kind: it states nothing that can be read
        return {}
    return found if isinstance(found, Mapping) else {}


def side_of(positions: int) -> int | None:
    """The side of the square that so many patches make, None where they make none."""
    side = math.isqrt(positions)
    return side if positions > 0 and side * side == positions else None
