"""A command line's options group by group: a parser of some five hundred fields takes longer to
build than a plan takes to make, and most commands set three.

What is not simple, and whatever is wrong, is left to the whole parser, which says what.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from momo_platform.stages import UserError
from pipelines.config import PipelineConfig

_TEXTS = "str | tuple[str, ...]"


def parse_quickly(arguments: Sequence[str], default: PipelineConfig) -> PipelineConfig | None:
    """`default` with what the arguments set; None where the whole parser is needed."""
    groups: dict[tuple[str, ...], list[str]] = {}
    current: list[str] | None = None
    for argument in arguments:
        if argument.startswith("--"):
            split = _group_of(argument, default)
            if split is None:
                return None
            group, rest = split
            current = groups.setdefault(group, [])
            current.append(rest)
        elif current is None or argument.startswith("-"):
            return None
        else:
            current.append(argument)
    changes: dict[str, Any] = {}
    named = {"training": dict(default.training), "corpora": dict(default.corpora)}
    try:
        for group, rest in groups.items():
            if len(group) == 2:
                field, name = group
                named[field][name] = _part(named[field][name], rest)
            else:
                changes[group[0]] = _part(getattr(default, group[0]), rest)
        return replace(default, **named, **changes)
    except (SystemExit, UserError, ValueError, TypeError):
        return None


def _group_of(option: str, default: PipelineConfig) -> tuple[tuple[str, ...], str] | None:
    """(`("run",)`, `--plan`) of `--run.plan`, (`("training", NAME)`, `--train.steps`) of a stage's,
    (`("corpora", NAME)`, `--source`) of a modality's; None for what is in no group."""
    name, equals, value = option.removeprefix("--").partition("=")
    head, _, path = name.partition(".")
    group: tuple[str, ...] = (head,)
    if head in ("training", "corpora"):
        below, _, path = path.partition(".")
        if below not in getattr(default, head):
            return None
        group = (head, below)
    elif not is_dataclass(getattr(default, head, None)):
        return None
    return (group, f"--{path}{equals}{value}") if path else None


def _part(default: Any, arguments: Sequence[str]) -> Any:
    """A group's dataclass with what is set."""
    plain = _plain(default, arguments)
    if plain is not None:
        return replace(default, **plain)
    import tyro

    config = (tyro.conf.AvoidSubcommands,)
    silent = io.StringIO()  # of a value that a group refuses it tells in spite of console_outputs
    with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        return tyro.cli(
            type(default), args=arguments, default=default, config=config, console_outputs=False
        )


def _plain(default: Any, arguments: Sequence[str]) -> Mapping[str, Any] | None:
    """Texts with their value, or several where they may have them, and switches that are off: each
    option once; else None."""
    kinds = {f.name: f.type for f in fields(default)}
    found: dict[str, Any] = {}
    waits = more = ""  # for its value; for others
    for argument in arguments:
        if not argument.startswith("-"):
            if waits:
                found[waits] = argument
                more = waits if kinds[waits] == _TEXTS else ""
            elif more:
                found[more] = (*_tuple(found[more]), argument)
            else:
                return None
            waits = ""
            continue
        name, equals, value = argument.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if waits or not argument.startswith("--") or name in found:
            return None
        more = ""
        if kinds.get(name) == "bool" and not equals and getattr(default, name) is False:
            found[name] = True
        elif kinds.get(name) in ("str", _TEXTS) and equals and value:
            found[name] = value
        elif kinds.get(name) in ("str", _TEXTS) and not equals:
            waits = name
        else:
            return None
    return None if waits else found


def _tuple(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value
