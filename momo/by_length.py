"""Texts of unequal length in batches of nearly equal length, so that little padding is computed.

Their lengths are known on the host: nothing here asks a GPU. For inference, of any model.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

MOST_PADDING_CPU, MOST_PADDING_GPU = 32, 2048
"""Tokens of padding in a batch, about as many as another batch costs: on a GPU, starting its
kernels takes as long as some thousand tokens."""


def text_lengths(present: np.ndarray) -> np.ndarray:
    """bool [N, T], True for tokens → places up to the last token of each row, int64 [N], 1 or more:
    padding on the left and in between stays."""
    last = present.shape[1] - present[:, ::-1].argmax(axis=1)
    return np.where(present.any(axis=1), last, 1)


def batches_by_length(lengths: np.ndarray, batch_size: int, most_padding: int) -> list[np.ndarray]:
    """Rows of each batch, int64 [B], `batch_size` at most, the longest first: `most_padding` tokens
    are missing at most to make all as long as the first."""
    order = np.argsort(-lengths, kind="stable")
    batches: list[np.ndarray] = []
    start = 0
    while start < len(order):  # the longest need most memory: where it lacks, that shows at once
        rows = order[start : start + batch_size]
        missing = np.cumsum(lengths[rows[0]] - lengths[rows])
        rows = rows[: int(np.searchsorted(missing, most_padding, side="right"))]
        batches.append(rows)
        start += len(rows)
    return batches


def encode_by_length(
    encode: Callable[[np.ndarray, int], np.ndarray],
    lengths: np.ndarray,
    batch_size: int,
    device: torch.device,
) -> np.ndarray:
    """`encode` takes the rows of a batch, int64 [B], and the length of its longest, and gives
    [B, ...] → [N, ...] in the order of `lengths` [N]. Raises ValueError for no texts."""
    if not len(lengths):
        raise ValueError("there are no texts to encode")
    most = MOST_PADDING_CPU if device.type == "cpu" else MOST_PADDING_GPU
    batches = batches_by_length(lengths, batch_size, most)
    parts = np.concatenate([encode(rows, int(lengths[rows[0]])) for rows in batches])
    found = np.empty_like(parts)
    found[np.concatenate(batches)] = parts
    return found
