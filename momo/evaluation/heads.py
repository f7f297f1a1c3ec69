"""What the pretraining heads reach on held-out data: masked words, matching."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from momo.by_length import encode_by_length, text_lengths
from momo.device import to_device
from momo.evaluation.encoder import BATCH, Encoder
from momo.masking import PAD, mask_tokens
from momo.precision import at_precision


@dataclass(frozen=True)
class WordPredictions:
    """`right` bool [M], whether a masked word was found; `row` int64 [M], the text it is in."""

    right: np.ndarray
    row: np.ndarray

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())


def masked_words(
    encoder: Encoder, ids: np.ndarray, *, ratio: float = 0.15, seed: int = 0
) -> WordPredictions:
    """Hide `ratio` of the words of each text (`ids` int64 [N, T], padding 0), as in training, and
    let the model name them. Raises ValueError where there is nothing to hide."""
    noise = np.random.Generator(np.random.Philox(seed)).random((*ids.shape, 3), dtype=np.float32)

    def outcome(rows: np.ndarray, longest: int) -> np.ndarray:
        """int8 [B, T]: 1 a word that was found, 0 one that was not, -1 not hidden."""
        batch = to_device(ids[rows, :longest], encoder.device)
        present = batch != PAD
        masked = mask_tokens(
            batch,
            present,
            to_device(noise[rows, :longest], encoder.device),
            vocab_size=encoder.vocab_size,
            ratio=ratio,
        )
        result = np.full((len(rows), ids.shape[1]), -1, dtype=np.int8)
        words = encoder.predict_words(masked.ids, present, masked.selected)
        found = words == batch[masked.selected]
        result[:, :longest][masked.selected.cpu().numpy()] = found.cpu().numpy()
        return result

    with torch.inference_mode(), at_precision(encoder.precision, encoder.device):
        outcomes = encode_by_length(outcome, text_lengths(ids != PAD), BATCH, encoder.device)
    hidden = outcomes >= 0
    if not hidden.any():
        raise ValueError("masked words: the texts hold no word to hide")
    return WordPredictions(outcomes[hidden] == 1, hidden.nonzero()[0])


def mismatched(groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """For each row another row of another group, int64 [N]: false pairs.

    Every row is drawn once where the groups allow it. Raises ValueError for fewer than two groups.
    """
    groups = np.asarray(groups)
    if len(np.unique(groups)) < 2:
        raise ValueError("matching: false pairs need at least two groups")
    generator = np.random.Generator(np.random.Philox(seed))
    count = len(groups)
    others = generator.permutation(count)
    for _ in range(100):
        wrong = np.flatnonzero(groups[others] == groups)
        if not len(wrong):
            return others
        swap = generator.integers(count, size=len(wrong))
        for row, other in zip(wrong, swap, strict=True):
            others[row], others[other] = others[other], others[row]
    for row in np.flatnonzero(groups[others] == groups):  # one group has most of the rows
        others[row] = generator.choice(np.flatnonzero(groups != groups[row]))
    return others


def matching_scores(
    encoder: Encoder, pixels: np.ndarray, ids: np.ndarray, groups: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of all true pairs (row by row) and of as many false ones: [2N] and truth bool [2N]."""
    others = mismatched(groups, seed)
    both, picture = np.concatenate([ids, ids[others]]), np.tile(np.arange(len(ids)), 2)
    truth = np.repeat([True, False], len(ids))
    return encoder.match(pixels, both, picture=picture), truth
