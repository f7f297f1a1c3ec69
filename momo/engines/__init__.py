"""Exports for other engines: ONNX Runtime, OpenVINO, and torch without this package.

A folder has `config.json` (that of the model, and `engine`: format and precision), `tokenizer.json`
and a graph each for texts and for pictures. `write_engine` makes it, `momo.load` opens it.
"""

from __future__ import annotations

from momo.engines.folder import FORMATS, Format, check_engine, load_engine, write_engine

__all__ = ["FORMATS", "Format", "check_engine", "load_engine", "write_engine"]
