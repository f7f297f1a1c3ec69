"""Semantic fingerprints: equal for equal meaning, on every machine and in every process."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import math
from typing import Any

from momo_platform.stages.errors import UserError
from momo_platform.stages.stage import Stage

LENGTH = 12


class NotCanonical(UserError, TypeError):
    """A config value that has no canonical form (a callable, a set, a NaN, a path …)."""


def is_fingerprint(text: str) -> bool:
    """Whether a name could be a fingerprint."""
    return len(text) == LENGTH and set(text) <= set("0123456789abcdef")


def canonical(value: Any, path: str = "config") -> Any:
    """`value` as JSON data. Of a dataclass's fields these are left out, by their metadata:

    - `semantic=False`, or a function of the dataclass that gives False: it changes no result;
    - `absent_at=X` while the value's form is that of X: a new field whose default is what was done
      before it came leaves the fingerprints of earlier configs as they were.

    Raises NotCanonical with the value's place in the config, e.g. `config.optimizer.schedule`.
    """
    if value is None or isinstance(value, bool | str | int):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, enum.Enum):
        return canonical(value.value, path)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotCanonical(f"{path} is {value}; give a finite number")
        return value + 0.0  # -0.0 is 0.0
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: canonical(getattr(value, f.name), f"{path}.{f.name}")
            for f in dataclasses.fields(value)
            if _counts(f, value, path)
        }
    if isinstance(value, list | tuple):
        return [canonical(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise NotCanonical(f"{path} has the key {key!r}; only text keys are canonical")
        return {key: canonical(value[key], f"{path}[{key!r}]") for key in value}
    raise NotCanonical(
        f"{path} is a {type(value).__name__}, which has no canonical form; use numbers, text, "
        "booleans, tuples, dictionaries or frozen dataclasses of them"
    )


def _counts(field: dataclasses.Field[Any], owner: Any, path: str) -> bool:
    """Whether a field is part of its dataclass's canonical form."""
    semantic = field.metadata.get("semantic", True)
    if callable(semantic):
        semantic = semantic(owner)
    if not semantic or "absent_at" not in field.metadata:
        return bool(semantic)
    forms = getattr(owner, field.name), field.metadata["absent_at"]
    now, before = (canonical(form, f"{path}.{field.name}") for form in forms)
    return now != before


def fingerprint(stage: Stage, known: dict[str, str] | None = None) -> str:
    """12 hex digits over name, version, config and the inputs' fingerprints.

    `known` memoises by stage name within one graph.
    """
    known = {} if known is None else known
    waiting = [stage]  # a stack: chains may be longer than Python's recursion
    while waiting:
        one = waiting[-1]
        missing = [s for s in one.inputs.values() if s.name not in known]
        if missing:
            waiting += missing
            continue
        waiting.pop()
        if one.name not in known:
            known[one.name] = _digest(one, known)
    return known[stage.name]


def _digest(stage: Stage, known: dict[str, str]) -> str:
    document = {
        "name": stage.name,
        "version": stage.version,
        "config": canonical(stage.config),
        "inputs": {role: known[s.name] for role, s in stage.inputs.items()},
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]
