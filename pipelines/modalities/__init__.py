"""The modalities, one a file: what is particular to one on its way from a source to a batch. The
graph, the loaders, options, plans and the report go over them. What the model does with each is in
`momo/modalities/`. How to add one: docs/extending/modality.md."""

from __future__ import annotations

from importlib import import_module

from pipelines.modalities.base import ModalityData, Reading

__all__ = ["IMAGE", "MODALITIES", "PAIR", "TEXT", "ModalityData", "Reading"]

_FILES = (  # in the order in which plans and reports show them
    "image",
    "text",
    "pair",
)
MODALITIES: dict[str, ModalityData] = {
    name: import_module(f"{__name__}.{name}").MODALITY for name in _FILES
}
"""By name, which is that of the file."""
IMAGE, TEXT, PAIR = (MODALITIES[name] for name in ("image", "text", "pair"))
