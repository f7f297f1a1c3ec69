"""How the ranks of a run share a global batch. No torch, no arrays: plans import this file."""

from __future__ import annotations


def share(global_batch: int, rank: int, world_size: int, unit: int = 1) -> range:
    """The rows of a global batch that `rank` gets, in whole units of `unit` rows.

    The ranks' rows in their order are the batch, whatever their number. The last unit has what is
    left. Raises ValueError where a rank would get nothing.
    """
    units = -(-global_batch // unit)
    if units < world_size:
        what = "rows" if unit == 1 else f"groups of {unit} rows"
        raise ValueError(
            f"a global batch of {global_batch} has {units} {what}, fewer than {world_size} workers"
        )
    first, last = (units * r // world_size for r in (rank, rank + 1))
    return range(min(first * unit, global_batch), min(last * unit, global_batch))


def rows_of_ranks(global_batch: int, world_size: int, unit: int = 1) -> tuple[int, ...]:
    """How many rows each rank gets."""
    return tuple(len(share(global_batch, r, world_size, unit)) for r in range(world_size))
