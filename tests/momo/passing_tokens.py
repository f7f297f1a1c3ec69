"""How many tokens a model computes, and what it computes of texts in their own order."""

import numpy as np
import torch


class Passed:
    """Counts the tokens that go through a module."""

    def __init__(self, module):
        self.tokens = 0
        module.register_forward_hook(self.add)

    def add(self, module, inputs, output):
        self.tokens += output.shape[:-1].numel()


def unsorted(function, *arrays, size=256):
    """`function` of batches as they come, as long as they come."""
    starts = range(0, len(arrays[0]), size)
    parts = [[torch.as_tensor(a[i : i + size]) for a in arrays] for i in starts]
    with torch.inference_mode():
        return np.concatenate([function(*part).numpy() for part in parts])
