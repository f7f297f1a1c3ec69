"""Programs of torch.export: torch alone runs them, without this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from momo.engines.files import graph_file
from momo.engines.graphs import GRAPHS, exported_graph
from momo.model import MoMo
from momo.precision import Precision

if TYPE_CHECKING:
    from momo.engines.folder import Run


def write(model: MoMo, folder: Path, precision: Precision) -> None:
    """`text.pt2` and `image.pt2`."""
    for name in GRAPHS:
        program = exported_graph(model, name, "bf16" if precision == "bf16" else "fp32")
        torch.export.save(program, folder / f"{name}.pt2")


def open_(folder: Path, precision: Precision, threads: int) -> Mapping[str, Run]:
    """Functions by graph. They use torch's threads."""
    return {name: _run(graph_file(folder, f"{name}.pt2")) for name in GRAPHS}


def _run(file: Path) -> Run:
    module = torch.export.load(file).module()

    def run(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(batch)).numpy()

    return run
