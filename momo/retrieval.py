"""How well pictures and texts find each other among the pairs of a set."""

from __future__ import annotations

import torch
from torch import Tensor

from momo.losses import same_meaning


def retrieval(image: Tensor, text: Tensor, keys: Tensor) -> dict[str, float]:
    """`image`, `text` unit vectors [N, E] in the same order, `keys` [N, K] as `pair_keys` gives.

    Both ways the share of first places (`…_r1`) and the mean of 1 / place (`…_mrr`). Other pairs of
    the same meaning are left out of a row's ranking; where several are as near as the right one, it
    has the middle place among them, and its share of the first one.
    """
    others = ~torch.eye(len(keys), dtype=torch.bool, device=keys.device)
    near = (image.float() @ text.float().T).masked_fill(
        same_meaning(keys, keys) & others, float("-inf")
    )
    found = {}
    for name, scores in (("image_to_text", near), ("text_to_image", near.T)):
        right = scores.diagonal()[:, None]
        above = (scores > right).sum(dim=1)
        level = ((scores == right) & others).sum(dim=1)
        first = (above == 0) / (1.0 + level)
        place = 1.0 + above + level / 2.0
        found[f"{name}_r1"] = first.mean().item()
        found[f"{name}_mrr"] = (1.0 / place).mean().item()
    return found
