"""From a modality's batch to its losses: the module that the training loop calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from momo.config import TaskConfig
from momo.cost import encoder_passes, parameter_counts, trained_parts, training_flops
from momo.crop import with_pixels
from momo.losses import Loss
from momo.micro_batches import PART, Part, split
from momo.modalities import MODALITIES
from momo.model import MoMo, Recomputed
from momo.views import Views

Batch = Mapping[str, Any]


class MoMoTask(nn.Module):
    """MoMo's objectives on one model.

    Batches (tensors of one modality, B rows, N patches, T tokens; noise uniform in [0, 1)):

    - `image`: `pixels` uint8 [B, 3, H, W], `noise` [B, N]
    - `text`: `ids` int64 [B, T] (padding 0, at the right), `noise` [B, T, 3]
    - `pair`: `pixels`, `ids`, `noise_image` [B, N], `noise_text` [B, T, 3], `noise_match` [B],
      and optionally `group` int64 [B]: pairs of one group are never each other's negatives

    Every random choice comes from the batch's noise, so a batch gives the same losses each time.
    On the CPU, `on_host` gets a batch ready for a GPU: the forward pass then waits for nothing.
    Parameters that no objective of the config reaches are frozen, so that neither weight decay
    nor a gradient of zeros touches them.

    Raises ValueError for a modality that the model has no embedding for, and where an objective
    says another size of its head than it has.
    """

    def __init__(self, model: MoMo, config: TaskConfig) -> None:
        super().__init__()
        model.config.check_has(config.modalities)
        model.config.check_prefixes(config.contrastive_prefixes)
        self.model = model
        self.config = config
        self.weights: dict[str, float] = config.objectives
        self.modalities = config.modalities
        # Texts of equal length together: a batch for each length, where unequal ones have no kernel
        self.group_lengths = True
        # Pairs of each rank's batch, where the ranks share a batch unevenly.
        self.rows_of_ranks: tuple[int, ...] | None = None
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # of the CPU alone, and put back
            heads = {one.name: one.head(model.config) for one in config.in_use()}
        self.heads = nn.ModuleDict({name: head for name, head in heads.items() if head is not None})
        for one in config.in_use():
            head = heads[one.name]
            size = 0 if head is None else sum(p.numel() for p in head.parameters())
            if size != (said := one.head_parameters(model.config)):
                raise ValueError(
                    f"objective {one.name}: its head has {size} parameters, head_parameters says "
                    f"{said}"
                )
        self._freeze_unused()

    def _freeze_unused(self) -> None:
        model, used = self.model, trained_parts(self.model.config, self.config)
        model.requires_grad_(True)
        for name in parameter_counts(model.config):
            part: nn.Module | None = attrgetter(name)(model)
            if part is not None:
                part.requires_grad_(name in used)
        model.norm.requires_grad_("blocks" in used)

    def blocks(self) -> list[nn.Module]:
        """The transformer blocks: units of sharding."""
        return self.model.encoder_blocks()

    def split(self, modality: str, batch: Batch, size: int) -> list[Batch]:
        """A prepared batch in parts of at most `size` rows, to be given to `forward` in turn; each
        part's losses have the count of the whole batch, so that they add up to its losses.

        Where objectives compare rows, the first part is for these: all rows, of pairs `size` at a
        time by gradient caching. Raises ValueError where `size` cuts through rows that an objective
        wants together.
        """
        rows = MODALITIES[modality].rows(batch)
        if rows <= size:
            return [batch]
        objectives = self.config.in_use(modality)
        for one in objectives:
            group = min(one.group(self.config), rows)
            if size % group:
                raise ValueError(
                    f"scaling.micro_batch_size={size} must be a multiple of "
                    f"task.{one.group_field}={group}"
                )
        parts = split(batch, rows, size)
        whole: Part = parts[0][PART]
        found: list[Batch] = []
        if any(one.compares for one in objectives):
            found.append({**batch, PART: replace(whole, chunk=size)})
        else:
            self._leave(self._views(modality, batch), whole)
        if not all(one.compares for one in objectives):
            found += [part | {PART: replace(part[PART], drawn=whole.drawn)} for part in parts]
        return found

    def regions(self) -> list[nn.Module]:
        """What is compiled, each once: all blocks, and the heads that are more than a product."""
        self.group_lengths = False  # else every batch would have shapes of its own
        model = self.model
        return [*self.blocks(), *model.pixel_decoder.blocks, model.word_head, model.matching]

    def enable_activation_checkpointing(self, what: Recomputed = "blocks") -> None:
        """Less memory, more computing; equal losses and gradients."""
        self.model.enable_activation_checkpointing(what)

    def on_host(self, modality: str, batch: Batch) -> dict[str, Any]:
        """A loader's batch as the forward pass takes it, on the CPU: texts cut to the longest,
        words masked, and everything counted that a GPU would have to be asked for."""
        return MODALITIES[modality].on_host(batch, self.model.config, self.config)

    def on_device(self, modality: str, batch: Batch) -> dict[str, Any]:
        """After the copy: pictures that came uncropped become `pixels`."""
        return with_pixels(batch, self.model.config.image_size)

    def after_step(self) -> None:
        """For the training loop, after every update: the temperature stays within its limit."""
        self.model.contrastive.limit_scale()

    def tokens(self, modality: str, batch: Batch) -> int:
        """Tokens that the encoder processes for a batch."""
        return round(sum(p.rows * p.length for p in encoder_passes(self.config, modality, batch)))

    def flops(self, modality: str, batch: Batch) -> float:
        """Floating-point operations of forward and backward for a batch."""
        passes = encoder_passes(self.config, modality, batch)
        return training_flops(self.model.config, passes)

    def forward(self, modality: str, batch: Batch) -> dict[str, Loss]:
        """Losses by objective name. Raises `ValueError` on a modality the task does not have."""
        return self.with_rows(modality, batch)[0]

    def with_rows(self, modality: str, batch: Batch) -> tuple[dict[str, Loss], dict[str, Tensor]]:
        """As `forward`, and what `measure` takes of each row (`Objective.rows`)."""
        if modality not in self.modalities:
            raise ValueError(f"the task has modalities {list(self.modalities)}, not {modality!r}")
        batch = self.on_host(modality, batch)
        part: Part | None = batch.get(PART)
        views = self._views(modality, batch)
        losses: dict[str, Loss] = {}
        kept: dict[str, Tensor] = {}
        for one in views.objectives:
            if part is not None and one.compares != bool(part.chunk):
                continue
            loss = one.loss(views).named(one.name)
            if part is not None and not part.chunk:
                rows = MODALITIES[modality].rows(batch)
                loss = loss.of_whole(one.whole_count(loss, part, rows))
            losses[one.name] = loss
            kept |= {f"{one.name}/{name}": rows for name, rows in one.rows(views).items()}
        if part is not None and part.chunk:
            self._leave(views, part)
        return losses, kept

    def measure(self, modality: str, rows: Mapping[str, Tensor]) -> dict[str, float]:
        """What `rows` of `with_rows`, of all held-out ones, show (`Objective.measure`)."""
        found: dict[str, float] = {}
        for one in self.config.in_use(modality):
            own = f"{one.name}/"
            its = {n.removeprefix(own): all_of for n, all_of in rows.items() if n.startswith(own)}
            found |= one.measure(its)
        return found

    def _views(self, modality: str, batch: Batch) -> Views:
        return MODALITIES[modality].views()(
            *(self.model, self.config, batch, self.config.in_use(modality), self.heads),
            *(self.group_lengths, self.rows_of_ranks),
        )

    def _leave(self, views: Views, part: Part) -> None:
        for one in views.objectives:
            one.leave(views, part)
