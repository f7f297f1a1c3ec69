"""Where `momo export` may write, what it writes there, and the card that is there already."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from momo_platform.stages import UserError
from momo_platform.stages.manifest import FILE_NAME as MANIFEST

CARD, CONFIG = "README.md", "config.json"
TRANSFORMERS = "transformers"
NOT_STATED = "other"
"""The licence in a card's metadata where nobody gave one."""
_GRAPHS: Mapping[str, tuple[str, ...]] = {
    "onnx": ("*.onnx", "*.onnx.data", "*.onnx_data"),
    "openvino": ("*.xml", "*.bin"),
    "torch": ("*.pt2",),
}
_CODE = ("momo_*.py", "*_momo.py", "momo.py")
_WRITTEN: Mapping[str, tuple[str, ...]] = {
    TRANSFORMERS: (
        *(CARD, CONFIG, *_CODE, "model.safetensors", "model-*-of-*.safetensors"),
        *("model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"),
        *("special_tokens_map.json", "preprocessor_config.json", "processor_config.json"),
        *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
    ),
    **{
        format_: (
            *(CARD, CONFIG, "tokenizer.json"),
            *(f"{name}{graph[1:]}" for name in ("text", "image") for graph in graphs),
        )
        for format_, graphs in _GRAPHS.items()
    },
}
"""Format → the names, or patterns of names, of what an export has."""
_ATTEMPT = re.compile(r"attempt-[0-9a-f]{8}")


def check_output(model: Path, output: Path, format_: str) -> None:
    """Raise UserError, before anything is loaded, where an export would write over something else:
    the model, an artifact of a storage, other files or another format."""
    place = output.resolve()
    if place == model.resolve():
        raise UserError(f"--output {output} is the model itself: give another folder")
    if (artifact := _artifact_around(place)) is not None:
        raise UserError(
            f"--output {output} lies in {artifact}, an artifact of a storage, which nothing may "
            "change: give a folder outside the storage"
        )
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file: give a folder")
    others = sorted(name for name in _visible(place) if name != CARD)
    try:
        found = format_of(place)
    except UserError:  # perhaps one that a full disk cut off
        found, others = None, [name for name in others if name != CONFIG] or others
    if not others or found == format_ or _is_begun(others, format_):
        return
    raise UserError(
        f"--output {output}: there are other files ({others[0]} …): give a new folder, or that of "
        f"an earlier export with --format {format_}"
    )


def _visible(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return [p.name for p in folder.iterdir() if not p.name.startswith((".", "__pycache__"))]


def _artifact_around(place: Path) -> Path | None:
    """The folder of an artifact, finished or not, that `place` is or lies in."""
    for folder in (place, *place.parents):
        if _ATTEMPT.fullmatch(folder.name):
            return folder
        try:
            told = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(told, dict) and {"stage", "fingerprint"} <= set(told):
            return folder
    return None


def _is_begun(names: list[str], format_: str) -> bool:
    """Whether files are those of an export that was interrupted before its `config.json`."""
    first = _CODE if format_ == TRANSFORMERS else _GRAPHS[format_]
    names = [name for name in names if name != "tokenizer.json"]
    return bool(names) and all(any(fnmatch(n, pattern) for pattern in first) for n in names)


def format_of(folder: Path) -> str | None:
    """The format of an export in `folder`, None of what is none. Raises UserError that names a
    broken `config.json`."""
    file = folder / CONFIG
    if not file.is_file():
        return None
    document = _read_json(file)
    if "engine" in document:
        engine = document["engine"]
        return str(engine.get("format")) if isinstance(engine, dict) else None
    return TRANSFORMERS if document.get("model_type") == "momo" else None


def _read_json(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} is not JSON ({error}): remove it and export the model again"
        ) from error
    if not isinstance(document, dict):
        raise UserError(f"{file} holds no JSON object: remove it and export the model again")
    return document


def is_written(name: str, format_: str) -> bool:
    """Whether an export of this format has a file of this name."""
    return any(fnmatch(name, pattern) for pattern in _WRITTEN.get(format_, ()))


def stated_licence(card: Path) -> str:
    """`license` in a card's metadata; empty without a card, without one and for `other`. Raises
    UserError that names a card whose metadata can't be read."""
    if not card.is_file():
        return ""
    import yaml
    from huggingface_hub.repocard import metadata_load

    try:
        found = str((metadata_load(card) or {}).get("license") or "")
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{card}: its metadata, between the two lines ---, is no YAML mapping ({reason}): "
            "mend it there"
        ) from error
    return "" if found == NOT_STATED else found


def write_card(output: Path, card: str) -> bool:
    """The model card, where there is none: one that is there may have been edited, and is kept.
    Whether it was written."""
    file = output / CARD
    if file.exists():
        print(f"{file} was there and is kept: remove it for a new card")
        return False
    file.write_text(card, encoding="utf-8")
    return True
