"""What engines run: the encoder for texts and for pictures, as graphs without Python.

The text graph takes `ids` int64 [B, T], padded with 0; the image graph `pixels` uint8 [B, 3, S, S]
of the model's size. Both give `vectors`: unit vectors float32 [B, embed_dim]. B and T are free.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from momo.embeddings import normalise_pixels
from momo.masking import PAD
from momo.model import MoMo
from momo.precision import FloatPrecision, keep_linear_layers_in_bf16

GRAPHS = ("text", "image")
INPUTS = {"text": "ids", "image": "pixels"}
OUTPUT = "vectors"
_READ = {
    "text": ("text_embedding", "text_tower", "blocks", "norm", "contrastive"),
    "image": ("image_embedding", "image_tower", "blocks", "norm", "contrastive"),
}


class TextGraph(nn.Module):
    """`ids` → `vectors`."""

    def __init__(self, model: MoMo, precision: FloatPrecision) -> None:
        super().__init__()
        self.model, self.in_bf16 = model, precision == "bf16"

    def forward(self, ids: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.in_bf16):
            return self.model.embed_text(ids, ids != PAD).float()


class ImageGraph(nn.Module):
    """`pixels` → `vectors`."""

    def __init__(self, model: MoMo, precision: FloatPrecision) -> None:
        super().__init__()
        self.model, self.in_bf16 = model, precision == "bf16"

    def forward(self, pixels: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.in_bf16):
            return self.model.embed_image(normalise_pixels(pixels)).float()


def _only(model: MoMo, parts: tuple[str, ...]) -> MoMo:
    """A shallow copy without the other parts, whose weights the graph would keep."""
    found = copy.copy(model)
    found._modules = {name: part for name, part in model._modules.items() if name in parts}
    return found


def exported_graph(model: MoMo, name: str, precision: FloatPrecision = "fp32") -> ExportedProgram:
    """The graph `name` of `GRAPHS` of a model on the CPU, by torch.export.

    Traced with two rows, a padded one among them: sizes of 1 would be taken for fixed ones.
    """
    part = _only(model, _READ[name]).eval()
    if precision == "bf16":
        part = copy.deepcopy(part)
        keep_linear_layers_in_bf16(part)
    config = model.config
    shapes: dict[int, Any] = {0: Dim("batch")}
    if name == "text":
        length = min(8, config.max_text_length)
        example = torch.ones(2, length, dtype=torch.int64)
        example[1, length // 2 :] = PAD
        shapes[1] = Dim("length", max=config.max_text_length)
        graph: nn.Module = TextGraph(part, precision)
    else:
        size = config.image_size
        example = torch.zeros(2, 3, size, size, dtype=torch.uint8)
        graph = ImageGraph(part, precision)
    with torch.no_grad():
        return torch.export.export(graph, (example,), dynamic_shapes=(shapes,))
