"""Which modalities a step uses, and how often each was used before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from momo_platform.training.config import GradientSchedule, TrainConfig


def modalities_of_step(
    schedule: GradientSchedule, modalities: Sequence[str], seed: int, step: int, steps: int
) -> tuple[str, ...]:
    """Which modalities step `step` of `steps` uses, equal on all ranks; `alternate` takes one, each
    once a round, in an order that is drawn for every round from the seed."""
    if schedule == "sequential":
        return (modalities[step * len(modalities) // steps],)
    if schedule != "alternate":
        return tuple(modalities)
    turn, place = divmod(step, len(modalities))

    def drawn(modality: str) -> bytes:
        return hashlib.sha256(f"{seed}:{turn}:{modality}".encode()).digest()

    return (sorted(modalities, key=drawn)[place],)


class Turns:
    """Of a run with these modalities."""

    def __init__(self, config: TrainConfig, modalities: Sequence[str]) -> None:
        self._config, self._modalities = config, tuple(modalities)

    def of(self, step: int) -> tuple[str, ...]:
        """The step's modalities."""
        config = self._config
        schedule, seed = config.gradient_schedule, config.seed
        return modalities_of_step(schedule, self._modalities, seed, step, config.steps)

    def before(self, step: int) -> dict[str, int]:
        """How many batches of each modality the steps before `step` took."""
        used = dict.fromkeys(self._modalities, 0)
        for earlier in range(step):
            for name in self.of(earlier):
                used[name] += 1
        return used
