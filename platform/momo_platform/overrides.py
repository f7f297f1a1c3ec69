"""Frozen dataclasses changed by dotted paths: `training.stage3-pair.task.matching` → 0.0."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from momo_platform.stages.errors import UserError

T = TypeVar("T")


def with_settings(config: T, settings: Mapping[str, Any]) -> T:
    """`config` with each path's value replaced; the config's own checks run again.

    A mapping of single values has whatever follows as a key, dots included (`NAME.OPTION`). Raises
    UserError for a path that leads nowhere, with the nearest name, and for a value that the config
    refuses. All paths below one field are changed before that field is checked.
    """
    return cast("T", _changed(config, [(path.split("."), v) for path, v in settings.items()], ""))


def _changed(value: Any, changes: list[tuple[list[str], Any]], place: str) -> Any:
    if changes and not changes[-1][0]:
        return changes[-1][1]
    if isinstance(value, Mapping) and not any(map(_has_parts, value.values())):
        return {**value, **{".".join(path): new for path, new in changes}}
    below: dict[str, list[tuple[list[str], Any]]] = {}
    for path, new in changes:
        below.setdefault(path[0], []).append((path[1:], new))
    if isinstance(value, Mapping):
        names = list(value)

        def get(name: str) -> Any:
            return value[name]

    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value)]

        def get(name: str) -> Any:
            return getattr(value, name)
    else:
        raise UserError(f"{place} is a single value, it has no {next(iter(below))}")
    parts = {}
    for name, inner in below.items():
        whole = f"{place}.{name}" if place else name
        if name not in names and not (isinstance(value, Mapping) and inner == [([], inner[0][1])]):
            near = difflib.get_close_matches(name, names, n=1)
            hint = f", did you mean {near[0]}?" if near else f"; there are {', '.join(names)}"
            raise UserError(f"{whole}: no such field{hint}")
        parts[name] = _changed(get(name) if name in names else None, inner, whole)
    if isinstance(value, Mapping):
        return {**value, **parts}
    try:
        return dataclasses.replace(value, **parts)
    except (ValueError, TypeError) as error:
        raise UserError(f"{place or type(value).__name__}: {error}") from error


def _has_parts(value: Any) -> bool:
    return isinstance(value, Mapping) or dataclasses.is_dataclass(value)


def differences(config: Any, base: Any, prefix: str = "") -> dict[str, Any]:
    """The settings that make `config` of `base`: path → value of every leaf that differs. A mapping
    that is empty in `base` is a leaf."""
    if isinstance(config, Mapping) and isinstance(base, Mapping) and base:
        pairs = {str(k): (v, base.get(k)) for k, v in config.items()}
    elif dataclasses.is_dataclass(config) and type(config) is type(base):
        names = [f.name for f in dataclasses.fields(config)]
        pairs = {name: (getattr(config, name), getattr(base, name)) for name in names}
    else:
        return {prefix.rstrip("."): config} if config != base else {}
    found: dict[str, Any] = {}
    for name, (own, other) in pairs.items():
        found |= differences(own, other, f"{prefix}{name}.")
    return found


def as_options(settings: Mapping[str, Any]) -> list[str]:
    """The same changes as options: `--training.stage3-pair.task.matching 0.0`; of a mapping its
    keys and values by turns."""
    options: list[str] = []
    for path, value in settings.items():
        name = path.replace("_", "-")
        if isinstance(value, bool):
            head, _, last = name.rpartition(".")
            options.append(f"--{head}.{'' if value else 'no-'}{last}")
        elif isinstance(value, Mapping):
            options += [f"--{name}", *(str(part) for item in value.items() for part in item)]
        elif isinstance(value, tuple | list):
            options += [f"--{name}", *map(str, value)]
        else:
            options += [f"--{name}", str(value)]
    return options
