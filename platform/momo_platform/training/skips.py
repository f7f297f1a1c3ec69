"""Steps without an update: whose samples gave a loss or gradient that is not finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from momo_platform.data.share import share


class TrainingDiverged(RuntimeError):
    """Too many steps with a non-finite loss or gradient."""


def culprit_samples(
    culprits: Mapping[str, Sequence[int]],
    modalities: Sequence[str],
    used: Mapping[str, int],
    batch_sizes: Mapping[str, int],
    world_size: int,
    units: Mapping[str, int] | None = None,
) -> dict[str, list[list[int]]]:
    """Modality → [first, last + 1] positions in its endless order, a range for each rank at fault.

    `culprits`: modality → the ranks on which its loss was not finite. `used` counts a modality's
    earlier batches. Where the loss was finite and only the gradient was not, every modality of the
    step and every rank is named. `units`: as the loaders share.
    """
    everyone = list(range(world_size))
    samples = {}
    for name, ranks in (culprits or dict.fromkeys(modalities, everyone)).items():
        size = batch_sizes[name]
        start, unit = used[name] * size, (units or {}).get(name, 1)
        parts = [share(size, rank, world_size, unit) for rank in ranks]
        samples[name] = [[start + part.start, start + part.stop] for part in parts]
    return samples
