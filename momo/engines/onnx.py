"""ONNX, and ONNX Runtime on the CPU."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from momo.engines.files import graph_file
from momo.engines.graphs import GRAPHS, INPUTS, OUTPUT, exported_graph
from momo.model import MoMo
from momo.precision import Precision

if TYPE_CHECKING:
    from momo.engines.folder import Run

_MOST_INSIDE = 1_500_000_000
"""Bytes of weights that lie in the file itself, which may have 2 GB; more lie beside it."""


def write(model: MoMo, folder: Path, precision: Precision) -> None:
    """`text.onnx` and `image.onnx`. At `int8` matrices of constant weights are 8-bit integers, one
    scale a column; what they are multiplied with is quantised as it comes."""
    for name in GRAPHS:
        file = folder / f"{name}.onnx"
        if precision != "int8":
            write_graph(model, name, file)
            continue
        tools: Any = importlib.import_module("onnxruntime.quantization")  # of an extra
        with TemporaryDirectory() as place, _quiet():
            whole = Path(place) / file.name
            write_graph(model, name, whole)
            tools.quantize_dynamic(
                *(whole, file),
                per_channel=True,
                weight_type=tools.QuantType.QInt8,
                op_types_to_quantize=["MatMul", "Gemm"],
                use_external_data_format=_bytes(model) > 4 * _MOST_INSIDE,
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters say of their steps and their tools."""
    told = [logging.getLogger(), logging.getLogger("torch.onnx")]
    levels = [one.level for one in told]
    try:
        for one in told:
            one.setLevel(logging.ERROR)
        yield
    finally:
        for one, level in zip(told, levels, strict=True):
            one.setLevel(level)


def _bytes(model: MoMo) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())


def write_graph(model: MoMo, name: str, file: Path) -> None:
    """A graph in fp32."""
    program = exported_graph(model, name)
    with _quiet():
        torch.onnx.export(
            program,
            (),
            str(file),
            input_names=[INPUTS[name]],
            output_names=[OUTPUT],
            external_data=_bytes(model) > _MOST_INSIDE,
            verbose=False,
        )


def open_(folder: Path, precision: Precision, threads: int) -> Mapping[str, Run]:
    """Functions by graph, on `threads` threads."""
    return {n: _run(graph_file(folder, f"{n}.onnx"), INPUTS[n], threads) for n in GRAPHS}


def _run(file: Path, given: str, threads: int) -> Run:
    onnxruntime: Any = importlib.import_module("onnxruntime")  # of an extra
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def run(batch: np.ndarray) -> np.ndarray:
        return session.run([OUTPUT], {given: batch})[0]

    return run
