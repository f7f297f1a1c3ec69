"""OpenVINO on the CPU, from the graphs of ONNX."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from momo.engines import onnx
from momo.engines.files import graph_file
from momo.engines.graphs import GRAPHS
from momo.model import MoMo
from momo.precision import Precision

if TYPE_CHECKING:
    from momo.engines.folder import Run

_HINTS: Mapping[Precision, str] = {"fp32": "f32", "bf16": "bf16"}
"""What the plug-in computes in. Told nothing, it takes bf16 where the processor has it."""


def write(model: MoMo, folder: Path, precision: Precision) -> None:
    """`text.xml`, `image.xml` and their weights, `.bin`, in fp32; for bf16 they are cast when the
    engine is opened."""
    openvino: Any = importlib.import_module("openvino")  # of an extra
    with TemporaryDirectory() as place:
        onnx.write(model, Path(place), "fp32")
        for name in GRAPHS:
            converted = openvino.convert_model(str(Path(place) / f"{name}.onnx"))
            file = folder / f"{name}.xml"
            openvino.save_model(converted, str(file), compress_to_fp16=False)


def open_(folder: Path, precision: Precision, threads: int) -> Mapping[str, Run]:
    """Functions by graph, on `threads` threads."""
    core = importlib.import_module("openvino").Core()
    options = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    return {n: _run(core, graph_file(folder, f"{n}.xml"), options) for n in GRAPHS}


def _run(core: Any, file: Path, options: Mapping[str, Any]) -> Run:
    compiled = core.compile_model(str(file), "CPU", dict(options))
    request = compiled.create_infer_request()

    def run(batch: np.ndarray) -> np.ndarray:
        return request.infer([batch])[0].copy()

    return run
