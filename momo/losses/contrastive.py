"""Contrastive loss over the pairs of all ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from momo.losses.loss import Loss


def pair_keys(ids: Tensor, group: Tensor | None = None) -> Tensor:
    """Keys [B, 1 or 2] int64 of a pair: its caption (a hash of `ids` [B, T]) and its group [B].

    Padding (id 0) does not change the caption's key.
    """
    steps = torch.arange(1, ids.shape[1] + 1, device=ids.device)
    mixed = (ids + 0x9E3779B9) * (steps * 0x5851F42D4C957F2D | 1)  # wraps, as a hash should
    mixed = (mixed ^ (mixed >> 29)) * 0x94D049BB133111E
    caption = (mixed * (ids != 0)).sum(dim=1)
    keys = [caption] if group is None else [caption, group]
    return torch.stack(keys, dim=1)


def same_meaning(keys: Tensor, others: Tensor) -> Tensor:
    """[B, K], [C, K] → bool [B, C]: True where two pairs share a caption or a group."""
    return (keys[:, None] == others[None]).any(dim=-1)


def _gather(tensor: Tensor, rows: Sequence[int]) -> Tensor:
    """All ranks' rows, `rows` of each, with gradient to every rank. Collectives take as many of
    each: ranks with fewer rows send zeros, which are cut off."""
    # Only on use: the module registers autograd functions and is not needed on one process.
    from torch.distributed.nn.functional import all_gather

    most = max(rows)
    sent = nn.functional.pad(tensor, (0, 0, 0, most - len(tensor))).contiguous()
    if tensor.is_floating_point():
        received = all_gather(sent)
    else:
        received = [torch.empty_like(sent) for _ in rows]
        dist.all_gather(received, sent)
    return torch.cat([part[:count] for part, count in zip(received, rows, strict=True)])


def contrastive_loss(
    image_emb: Tensor,
    text_emb: Tensor,
    log_scale: Tensor,
    keys: Tensor | None = None,
    gather: bool = True,
    rows_of_ranks: Sequence[int] | None = None,
    prefixes: Sequence[int] = (),
) -> Loss:
    """Symmetric cross-entropy over in-batch pairs (CLIP, arXiv 2103.00020, figure 3).

    `image_emb`, `text_emb` unit vectors [B, E] in the same order, `log_scale` scalar. With
    `gather` and an initialised process group the other ranks' rows (`rows_of_ranks` of each; as
    many as here where it is None) are negatives too, with gradient, so that the ranks' summed
    gradient is that of the global batch.
    `keys` [B, K] (see `pair_keys`): other pairs that share a key are no negatives.
    `prefixes`: the loss is the mean of that of whole vectors and of those of their first numbers,
    so many each, made unit vectors again (Matryoshka representation learning, arXiv 2205.13147,
    with equal weights).
    Sum over local rows of the mean of both directions; count: B. Metric: image→text accuracy, of
    prefixes too.
    """
    rows = image_emb.shape[0]
    all_images, all_texts, all_keys, offset = image_emb, text_emb, keys, 0
    if gather and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        world, rank = dist.get_world_size(), dist.get_rank()
        counts = [rows] * world if rows_of_ranks is None else list(rows_of_ranks)
        if len(counts) != world or counts[rank] != rows:
            raise ValueError(f"rows_of_ranks={counts}: rank {rank} of {world} has {rows} rows")
        all_images, all_texts = _gather(image_emb, counts), _gather(text_emb, counts)
        offset = sum(counts[:rank])
        if keys is not None:
            all_keys = _gather(keys, counts)
    scale = log_scale.exp()
    labels = torch.arange(rows, device=image_emb.device) + offset
    ignored = None
    if keys is not None and all_keys is not None:
        others = torch.arange(len(all_keys), device=labels.device) != labels[:, None]
        ignored = same_meaning(keys, all_keys) & others
    vectors = (image_emb, text_emb, all_images, all_texts)
    total, accuracy = _of_vectors(vectors, scale, labels, ignored)
    metrics = {"accuracy": accuracy, "scale": scale.detach()}
    for length in prefixes:
        parts = [nn.functional.normalize(v[:, :length].float(), dim=-1) for v in vectors]
        part, metrics[f"accuracy_{length}"] = _of_vectors(parts, scale, labels, ignored)
        total = total + part
    if prefixes:
        total = total / (1 + len(prefixes))
    return Loss(sum=total, count=total.new_full((), rows), metrics=metrics)


def _of_vectors(
    vectors: Sequence[Tensor], scale: Tensor, labels: Tensor, ignored: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The summed loss and the accuracy of local pictures and texts [B, E] among all [C, E]; pairs
    that are `ignored`, bool [B, C], are no negatives."""
    image_emb, text_emb, all_images, all_texts = vectors
    with torch.autocast(image_emb.device.type, enabled=False):  # else the products are bf16
        image_logits = scale * image_emb.float() @ all_texts.float().T
        text_logits = scale * text_emb.float() @ all_images.float().T
    if ignored is not None:
        image_logits = image_logits.masked_fill(ignored, float("-inf"))
        text_logits = text_logits.masked_fill(ignored, float("-inf"))
    total = 0.5 * (
        nn.functional.cross_entropy(image_logits, labels, reduction="sum")
        + nn.functional.cross_entropy(text_logits, labels, reduction="sum")
    )
    return total, (image_logits.detach().argmax(dim=1) == labels).float().mean()
