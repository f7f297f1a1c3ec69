"""Image-text matching (ALBEF, arXiv 2107.07651, section 3.2): true pairs and false ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from momo.objectives.base import Objective
from momo.passes import Joint

if TYPE_CHECKING:
    from torch import Tensor

    from momo.losses import Loss
    from momo.micro_batches import Part
    from momo.views import PairViews


class Matching(Objective):
    name = "matching"
    modality = "pair"
    title = "does the caption fit? (matching)"
    reads = (Joint(false_pairs=True),)
    parts = ("matching",)
    group_field = "matching_group"

    def loss(self, views: PairViews) -> Loss:
        import torch

        from momo.losses import matching_loss

        joint = views.joint(self)
        true, false = joint.layout.pictures[:, 0], joint.layout.others
        cls = torch.cat([true, false])
        logits = views.model.matching(joint.read(cls))
        matches = torch.arange(len(cls), device=cls.device) < len(true)
        valid = torch.cat([matches[: len(true)], views.negatives.valid_pairs()])
        return matching_loss(logits, matches, valid)

    def leave(self, views: PairViews, part: Part) -> None:
        part.drawn.negatives = views.negatives

    def whole_count(self, loss: Loss, part: Part, rows: int) -> Tensor:
        assert part.drawn.negatives is not None
        return part.drawn.negatives.valid.sum() + part.rows


OBJECTIVE = Matching()
