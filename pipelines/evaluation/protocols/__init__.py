"""The protocols, a file each. A file `<name>.py` here holds the class with that `name`, and is
found by it: there is no other list."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from pipelines.evaluation.protocol import Protocol


def protocols() -> tuple[Protocol, ...]:
    """All of them, by name."""
    return tuple(map(protocol_named, _names()))


@cache
def protocol_named(name: str) -> Protocol:
    """Raises ValueError for a name that no file has, and for a file without its class."""
    if name not in _names():
        raise ValueError(f"no protocol {name!r}; {__path__[0]} has {', '.join(_names())}")
    module = import_module(f"{__name__}.{name}")
    for found in vars(module).values():
        if isinstance(found, type) and issubclass(found, Protocol) and _name(found) == name:
            return found()
    raise ValueError(f"{module.__file__}: no subclass of Protocol in it has the name {name!r}")


def _names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def _name(found: type[Protocol]) -> str:
    return vars(found).get("name", "")
