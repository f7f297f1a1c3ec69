"""The modalities, one a file: how the model takes each in. No torch on import: plans ask them, too.
How to add one: docs/extending/modality.md."""

from __future__ import annotations

from importlib import import_module

from momo.modalities.base import ExtraModality, Modality

_FILES = (
    "image",
    "text",
    "pair",
)
MODALITIES: dict[str, Modality] = {
    name: import_module(f"{__name__}.{name}").MODALITY for name in _FILES
}
"""By name, which is that of the file."""


def extras() -> dict[str, ExtraModality]:
    """Those that bring an embedding of their own."""
    return {name: one for name, one in MODALITIES.items() if isinstance(one, ExtraModality)}
