"""Fine-tuning a whole encoder on texts, pictures or both: classes, answers or a number."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from momo.decay import decayed_parameters
from momo.device import device_of, to_device
from momo.evaluation.encoder import Trunk
from momo.evaluation.metrics import metric_named
from momo.precision import FloatPrecision, at_precision, check_float_precision

_WINDOW = 32  # batches


@dataclass(frozen=True)
class FineTuneConfig:
    """AdamW with warm-up over the first tenth and linear decay; the epoch is chosen on the
    validation part by `metric` (a name in `momo.evaluation.metrics.METRICS`). `weight_decay` is of
    what training decays, too (`momo.decay`).

    `layer_decay` below 1: a layer's rate is that of the layer above times it (BEiT, arXiv
    2106.08254; MAE). `regression`: one number, squared error. `precision`: weights stay fp32.
    """

    epochs: int = 4
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    dropout: float = 0.1
    layer_decay: float = 1.0
    objective: Literal["classification", "regression"] = "classification"
    metric: str = "accuracy"
    seed: int = 0
    precision: FloatPrecision = "fp32"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"fine-tuning {name}={getattr(self, name)}: give 1 or more")
        if not 0.0 < self.layer_decay <= 1.0:
            raise ValueError(f"fine-tuning layer_decay={self.layer_decay}: above 0, at most 1")
        metric_named(self.metric)
        check_float_precision(self.precision)


@dataclass(frozen=True)
class FineTuneResult:
    """Test score at the epoch that was best on the validation part; `predictions` [N] and the
    trained `classifier` as they were there."""

    score: float
    validation_score: float
    best_epoch: int
    predictions: np.ndarray
    classifier: FineTuned


class Pixels(Protocol):
    """Pictures by their rows: an array, or something that opens them when asked."""

    def __getitem__(self, rows: np.ndarray, /) -> Any:
        """int64 [B] → uint8 [B, 3, H, W]."""


@dataclass(frozen=True)
class Examples:
    """`labels` int64 [N] (float for regression; any integer where there is none in a test part).

    `ids` int64 [N, T]; `pixels`, pictures by row, and `picture` int64 [N], the row of each
    example's picture (None: its own row). One of both, or pairs. `references` [N], where the metric
    compares with something else than the labels, as with people's answers in VQA.
    """

    ids: np.ndarray | None
    labels: np.ndarray
    pixels: Pixels | None = None
    picture: np.ndarray | None = None
    references: Sequence[Any] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def truth(self) -> Any:
        """What predictions are compared with."""
        return self.labels if self.references is None else self.references


class FineTuned(nn.Module):
    """A copy of the trunk with a linear layer over its vector."""

    def __init__(self, trunk: Trunk, classes: int, dropout: float) -> None:
        super().__init__()
        self.trunk = copy.deepcopy(trunk)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(trunk.width, classes)

    def layers(self) -> list[list[nn.Parameter]]:
        """Trained parameters from the input side to the head."""
        *first, last = self.trunk.layers()
        return [*first, [*last, *self.head.parameters()]]

    def forward(self, ids: Tensor | None, pixels: Tensor | None) -> Tensor:
        """`ids` int64 [B, T], `pixels` uint8 [B, 3, H, W] → [B, classes]."""
        return self.head(self.dropout(self.trunk(ids, pixels)))


def _lengths(examples: Examples, pad: int) -> np.ndarray:
    """Tokens of each example [N]; 0 for pictures alone."""
    if examples.ids is None:
        return np.zeros(len(examples), dtype=np.int64)
    return (examples.ids != pad).sum(axis=1)


def _grouped(lengths: np.ndarray, size: int, generator: np.random.Generator) -> list[np.ndarray]:
    """A random order in batches of texts of similar length: of every `_WINDOW` batches drawn, the
    examples are sorted by length; then the batches come in random order. Less padding is computed.
    """
    order = generator.permutation(len(lengths))
    window = _WINDOW * size
    for start in range(0, len(order), window):
        part = order[start : start + window]
        order[start : start + window] = part[np.argsort(lengths[part], kind="stable")]
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def _batches(
    examples: Examples, rows_of: Sequence[np.ndarray], device: torch.device, pad: int
) -> Iterator[tuple[Tensor | None, Tensor | None, Tensor]]:
    for rows in rows_of:
        ids = pixels = None
        if examples.ids is not None:
            part = examples.ids[rows]
            part = part[:, : max(1, int((part != pad).sum(axis=1).max()))]
            ids = to_device(part, device)
        if examples.pixels is not None:
            pictures = rows if examples.picture is None else examples.picture[rows]
            pixels = to_device(np.asarray(examples.pixels[pictures]), device)
        yield ids, pixels, to_device(examples.labels[rows], device)


@torch.inference_mode()
def outputs_of(
    classifier: FineTuned,
    examples: Examples,
    batch_size: int = 256,
    precision: FloatPrecision = "fp32",
) -> np.ndarray:
    """float32 [N, classes]."""
    classifier.eval()
    device, pad = device_of(classifier), classifier.trunk.pad
    order = np.argsort(_lengths(examples, pad), kind="stable")
    rows = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    parts = []
    with at_precision(precision, device):
        for ids, pixels, _ in _batches(examples, rows, device, pad):
            parts.append(classifier(ids, pixels).float().cpu())
    sorted_outputs = torch.cat(parts).numpy()
    outputs = np.empty_like(sorted_outputs)
    outputs[order] = sorted_outputs
    return outputs


def _predictions(outputs: np.ndarray, config: FineTuneConfig, answers: np.ndarray | None) -> Any:
    """What the metric takes: numbers, scores of class 1, answers or classes, [N]."""
    if config.objective == "regression":
        return outputs[:, 0]
    if config.metric == "roc_auc":
        return outputs[:, 1] - outputs[:, 0]
    chosen = outputs.argmax(axis=1)
    return chosen if answers is None else answers[chosen]


def learning_rates(layers: int, config: FineTuneConfig) -> list[float]:
    """The peak rate of each layer, from the input side to the head."""
    return [config.learning_rate * config.layer_decay ** (layers - 1 - i) for i in range(layers)]


def _groups(classifier: FineTuned, config: FineTuneConfig) -> list[dict[str, Any]]:
    """For the optimizer: of each layer what is decayed and what is not, at the layer's rate."""
    layers, matrices = classifier.layers(), decayed_parameters(classifier)
    groups: list[dict[str, Any]] = []
    for layer, rate in zip(layers, learning_rates(len(layers), config), strict=True):
        for decayed in (True, False):
            of_group = [p for p in layer if (p in matrices) == decayed]
            decay = config.weight_decay if decayed else 0.0
            groups.append({"params": of_group, "lr": rate, "weight_decay": decay})
    return groups


def _share(step: int, steps: int) -> float:
    """Of the peak rate."""
    return min((step + 1) / max(1, steps // 10), max(0.0, 1 - step / steps))


def _loss(outputs: Tensor, labels: Tensor, regression: bool) -> Tensor:
    if regression:
        return nn.functional.mse_loss(outputs[:, 0], labels.to(outputs.dtype))
    return nn.functional.cross_entropy(outputs, labels)


def fine_tune(
    trunk: Trunk,
    train: Examples,
    valid: Examples,
    test: Examples,
    classes: int,
    config: FineTuneConfig,
    progress: Callable[[str], None] = lambda _: None,
    *,
    answers: Sequence[str] | None = None,
) -> FineTuneResult:
    """Train a copy of `trunk`, where its parameters are; seeded and reproducible on CPU.

    `answers` [classes]: predictions are answers, not classes. Raises ValueError for an empty part.
    """
    for name, part in (("train", train), ("valid", valid), ("test", test)):
        if not len(part):
            raise ValueError(f"fine-tuning: the {name} part is empty")
    regression, metric = config.objective == "regression", metric_named(config.metric)
    names = None if answers is None else np.array(answers, dtype=object)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        device, precision = device_of(trunk), config.precision
        classifier = FineTuned(trunk, 1 if regression else classes, config.dropout).to(device)
        classifier.requires_grad_(True)
        parameters = [p for layer in classifier.layers() for p in layer]
        optimizer = torch.optim.AdamW(_groups(classifier, config), fused=True)
        steps = config.epochs * -(-len(train) // config.batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: _share(s, steps))
        generator = np.random.Generator(np.random.Philox(config.seed))
        lengths = _lengths(train, trunk.pad)
        best = (-np.inf, 0)
        kept: dict[str, Tensor] = {}
        for epoch in range(1, config.epochs + 1):
            classifier.train()
            rows = _grouped(lengths, config.batch_size, generator)
            batches = _batches(train, rows, device, trunk.pad)
            for ids, pixels, labels in batches:
                with at_precision(precision, device):
                    outputs = classifier(ids, pixels).float()
                loss = _loss(outputs, labels, regression)
                optimizer.zero_grad(set_to_none=True)
                # Autocast is of the forward pass; the backward's products follow its types.
                with at_precision("fp32" if precision == "bf16" else precision, device):
                    loss.backward()
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                schedule.step()
            on_valid = outputs_of(classifier, valid, precision=precision)
            score = metric(_predictions(on_valid, config, names), valid.truth)
            progress(f"epoch {epoch}/{config.epochs}, validation {score:.3f}")
            if score > best[0]:
                best = (score, epoch)
                kept = copy.deepcopy(classifier.state_dict())
        if kept:
            classifier.load_state_dict(kept)
        on_test = outputs_of(classifier, test, precision=precision)
        predictions = _predictions(on_test, config, names)
        score = metric(predictions, test.truth)
        return FineTuneResult(score, best[0], best[1], np.asarray(predictions), classifier)
