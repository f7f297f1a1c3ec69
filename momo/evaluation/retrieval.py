"""Zero-shot retrieval between pictures and captions, several captions a picture included.

Similarities are computed in blocks, so memory grows with the number of vectors, not its square.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BLOCK = 1024  # a block of similarities fits the caches
Rerank = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Rows of pictures and of texts, [P] each → matching scores [P]."""


@dataclass(frozen=True)
class RetrievalResult:
    """`recalls` by `image_to_text_r@k` and `text_to_image_r@k`. The ranks, int64 [N] and [M]: how
    many candidates stand before a query's best own one; -1 for queries without any."""

    recalls: dict[str, float]
    image_ranks: np.ndarray
    text_ranks: np.ndarray


def recall(ranks: np.ndarray, k: int) -> float:
    """Share of queries whose own candidate is among the `k` nearest; those without one miss."""
    return float(((ranks >= 0) & (ranks < k)).mean()) if len(ranks) else 0.0


def reciprocal_ranks(ranks: np.ndarray) -> np.ndarray:
    """float64 [N]: 1 / the place of a query's best own candidate, 0 for a query without any."""
    return np.where(ranks >= 0, 1.0 / (np.maximum(ranks, 0) + 1.0), 0.0)


def places(ranks: np.ndarray, candidates: int) -> np.ndarray:
    """float64 [N]: the place from 1 of a query's best own candidate; behind all `candidates` for a
    query without any."""
    return np.where(ranks >= 0, ranks + 1.0, candidates + 1.0)


def _codes(image_groups: Sequence[object] | np.ndarray, text_groups: object) -> list[np.ndarray]:
    both = np.concatenate([np.asarray(image_groups), np.asarray(text_groups)])
    codes = np.unique(both, return_inverse=True)[1].reshape(-1)
    return [codes[: len(image_groups)], codes[len(image_groups) :]]


def _own_pairs(image_codes: np.ndarray, text_codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (image, text) of all pairs of one group."""
    order = np.argsort(text_codes, kind="stable")
    sorted_codes = text_codes[order]
    first = np.searchsorted(sorted_codes, image_codes, side="left")
    counts = np.searchsorted(sorted_codes, image_codes, side="right") - first
    images = np.repeat(np.arange(len(image_codes)), counts)
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return images, order[np.repeat(first, counts) + offsets]


def _own_scores(images: Tensor, texts: Tensor, pairs: tuple[np.ndarray, np.ndarray]) -> Tensor:
    """The same products that the blocks give, but for rounding: [pairs]."""
    parts = []
    for start in range(0, len(pairs[0]), 64 * BLOCK):
        rows, others = (torch.from_numpy(p[start : start + 64 * BLOCK]) for p in pairs)
        parts.append((images[rows] * texts[others]).sum(dim=1))
    return torch.cat(parts) if parts else torch.zeros(0)


def _best(scores: Tensor, rows: np.ndarray, count: int) -> Tensor:
    best = torch.full((count,), -torch.inf)
    return best.scatter_reduce(0, torch.from_numpy(rows), scores, "amax")


@torch.inference_mode()
def zero_shot_retrieval(
    images: np.ndarray,
    texts: np.ndarray,
    image_groups: np.ndarray,
    text_groups: np.ndarray,
    ks: tuple[int, ...] = (1, 5, 10),
    *,
    rerank: Rerank | None = None,
    rerank_top: int = 128,
) -> RetrievalResult:
    """R@k both ways; `images` [N, E] and `texts` [M, E] of one group belong together.

    A query's rank counts the strangers that are at least as near as its best own candidate: a tie
    is no success. With `rerank`, the `rerank_top` nearest of a query are ordered by its scores
    (matching on top of the contrastive ranking, as in ALBEF, arXiv 2107.07651); the rest stays
    behind them.

    Raises ValueError for empty or non-finite vectors and for groups of other lengths.
    """
    for name, vectors, groups in (
        ("images", images, image_groups),
        ("texts", texts, text_groups),
    ):
        if not len(vectors):
            raise ValueError(f"retrieval: no {name}")
        if len(vectors) != len(groups):
            raise ValueError(f"retrieval: {len(vectors)} {name}, but {len(groups)} of their groups")
        if not np.isfinite(vectors).all():
            raise ValueError(f"retrieval: {name} hold values that are not finite")
    image_codes, text_codes = _codes(image_groups, text_groups)
    pairs = _own_pairs(image_codes, text_codes)
    x, y = (torch.from_numpy(np.ascontiguousarray(v, dtype=np.float32)) for v in (images, texts))
    if rerank is None:
        image_ranks, text_ranks = _ranks(x, y, image_codes, text_codes, pairs)
    else:
        image_ranks = _reranked(x, y, image_codes, text_codes, rerank, rerank_top)
        text_ranks = _reranked(
            y, x, text_codes, image_codes, lambda rows, others: rerank(others, rows), rerank_top
        )
    recalls = {f"image_to_text_r@{k}": recall(image_ranks, k) for k in ks}
    recalls |= {f"text_to_image_r@{k}": recall(text_ranks, k) for k in ks}
    return RetrievalResult(recalls, image_ranks, text_ranks)


def _ranks(
    images: Tensor,
    texts: Tensor,
    image_codes: np.ndarray,
    text_codes: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Both directions from one product a block."""
    own = _own_scores(images, texts, pairs)
    best_of_image = _best(own, pairs[0], len(images))
    best_of_text = _best(own, pairs[1], len(texts))
    # A block's product and a pair's own sum round differently; below this they are a tie.
    tie = 1e-6 * float(images.norm(dim=1).max() * texts.norm(dim=1).max())
    before_image = torch.zeros(len(images), dtype=torch.int64)
    before_text = torch.zeros(len(texts), dtype=torch.int64)
    by_block = _by_block(pairs, len(texts))
    for i in range(0, len(images), BLOCK):
        for j in range(0, len(texts), BLOCK):
            similarity = images[i : i + BLOCK] @ texts[j : j + BLOCK].T
            if (i, j) in by_block:
                similarity[by_block[i, j]] = -torch.inf  # their own are no strangers
            image_part, text_part = best_of_image[i : i + BLOCK], best_of_text[j : j + BLOCK]
            # As floats: adding booleans up is ten times as slow.
            near = torch.empty_like(similarity)
            torch.ge(similarity, (image_part - tie)[:, None], out=near)
            before_image[i : i + BLOCK] += near.sum(dim=1).long()
            torch.ge(similarity, (text_part - tie)[None, :], out=near)
            before_text[j : j + BLOCK] += near.sum(dim=0).long()
    before_image[best_of_image == -torch.inf] = -1
    before_text[best_of_text == -torch.inf] = -1
    return before_image.numpy(), before_text.numpy()


def _by_block(
    pairs: tuple[np.ndarray, np.ndarray], texts: int
) -> dict[tuple[int, int], tuple[Tensor, Tensor]]:
    """Own pairs by the block they lie in, as rows and columns there."""
    rows, columns = pairs
    wide = -(-texts // BLOCK)
    block = (rows // BLOCK) * wide + columns // BLOCK
    order = np.argsort(block, kind="stable")
    found: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    for part in np.split(order, np.flatnonzero(np.diff(block[order])) + 1):
        if len(part):
            i, j = (int(n) * BLOCK for n in divmod(int(block[part[0]]), wide))
            found[i, j] = torch.from_numpy(rows[part] - i), torch.from_numpy(columns[part] - j)
    return found


def _reranked(
    queries: Tensor,
    candidates: Tensor,
    query_codes: np.ndarray,
    candidate_codes: np.ndarray,
    rerank: Rerank,
    top: int,
) -> np.ndarray:
    """Ranks of each query's best own candidate where the `top` nearest are in `rerank`'s order."""
    top = min(top, len(candidates))
    ranks = np.full(len(queries), -1, dtype=np.int64)
    known = np.unique(candidate_codes)
    for start in range(0, len(queries), 256):
        similarity = queries[start : start + 256] @ candidates.T
        codes = query_codes[start : start + 256]
        nearest = similarity.topk(top, dim=1).indices.numpy()
        rows = np.repeat(np.arange(start, start + len(codes)), top)
        scores = np.asarray(rerank(rows, nearest.reshape(-1))).reshape(len(codes), top)
        own = candidate_codes[nearest] == codes[:, None]
        best = np.where(own, scores, -np.inf).max(axis=1)
        place = ((scores >= best[:, None]) & ~own).sum(axis=1)
        # Behind the reranked ones, the contrastive order holds.
        for row in np.flatnonzero(~own.any(axis=1) & np.isin(codes, known)):
            mine = torch.from_numpy(candidate_codes == codes[row])
            line = similarity[row]
            place[row] = int(((line >= line[mine].max()) & ~mine).sum())
        place[~np.isin(codes, known)] = -1
        ranks[start : start + len(codes)] = place
    return ranks
