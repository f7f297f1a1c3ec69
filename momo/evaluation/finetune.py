"""Fine-tuning the whole encoder on texts or on pictures with texts: classes or a number."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from momo.embeddings import normalise_pixels
from momo.evaluation.metrics import metric_named
from momo.model import MoMo, mean_of_tokens


@dataclass(frozen=True)
class FineTuneConfig:
    """AdamW with warm-up over the first tenth and linear decay; the epoch is chosen on the
    validation part by `metric` (a name in `momo.evaluation.metrics.METRICS`).

    `layer_decay` below 1: a layer's rate is that of the layer above times it (BEiT, arXiv
    2106.08254; MAE). `regression`: one number, squared error.
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

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"fine-tuning {name}={getattr(self, name)}: give 1 or more")
        if not 0.0 < self.layer_decay <= 1.0:
            raise ValueError(f"fine-tuning layer_decay={self.layer_decay}: above 0, at most 1")
        metric_named(self.metric)


@dataclass(frozen=True)
class FineTuneResult:
    """Test score at the epoch that was best on the validation part; `predictions` [N] there."""

    score: float
    validation_score: float
    best_epoch: int
    predictions: np.ndarray


@dataclass(frozen=True)
class Examples:
    """`ids` int64 [N, T], `labels` int64 [N] (float for regression).

    With pictures also `pixels` uint8 [P, 3, H, W] and `picture` int64 [N], the row of each
    example's picture.
    """

    ids: np.ndarray
    labels: np.ndarray
    pixels: np.ndarray | None = None
    picture: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)


class Classifier(nn.Module):
    """The encoder with a linear layer over pooled tokens."""

    def __init__(self, model: MoMo, classes: int, dropout: float) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(model)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * model.config.width, classes)

    def layers(self) -> list[list[nn.Parameter]]:
        """Trained parameters from the input side to the head."""
        encoder = self.encoder
        modules: list[tuple[nn.Module, ...]] = [
            (encoder.image_embedding, encoder.text_embedding),
            *((block,) for block in encoder.blocks),
            (encoder.norm, self.head),
        ]
        return [[p for module in part for p in module.parameters()] for part in modules]

    def forward(self, ids: Tensor, pixels: Tensor | None) -> Tensor:
        mask = ids != 0
        if pixels is None:
            text = self.encoder.encode_text(ids, mask)
            pooled = torch.cat([text[:, 0], mean_of_tokens(text, mask)], dim=1)
        else:
            image, text = self.encoder.encode_pair(normalise_pixels(pixels), ids, mask)
            pooled = torch.cat([image[:, 0], mean_of_tokens(text, mask)], dim=1)
        return self.head(self.dropout(pooled))


def _batches(
    examples: Examples, size: int, order: np.ndarray
) -> Iterator[tuple[Tensor, Tensor | None, Tensor]]:
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        ids = examples.ids[rows]
        ids = ids[:, : max(1, int((ids != 0).sum(axis=1).max()))]
        pixels = None
        if examples.pixels is not None and examples.picture is not None:
            pixels = torch.from_numpy(examples.pixels[examples.picture[rows]])
        yield torch.from_numpy(ids), pixels, torch.from_numpy(examples.labels[rows])


@torch.inference_mode()
def predict(classifier: Classifier, examples: Examples, batch_size: int = 256) -> np.ndarray:
    """Classes int64 [N], or numbers float32 [N] where there is one output."""
    classifier.eval()
    parts = []
    for ids, pixels, _ in _batches(examples, batch_size, np.arange(len(examples))):
        outputs = classifier(ids, pixels)
        parts.append(outputs[:, 0] if outputs.shape[1] == 1 else outputs.argmax(dim=1))
    return torch.cat(parts).numpy()


def learning_rates(layers: int, config: FineTuneConfig) -> list[float]:
    """The peak rate of each layer, from the input side to the head."""
    return [config.learning_rate * config.layer_decay ** (layers - 1 - i) for i in range(layers)]


def fine_tune(
    model: MoMo,
    train: Examples,
    valid: Examples,
    test: Examples,
    classes: int,
    config: FineTuneConfig,
    progress: Callable[[str], None] = lambda _: None,
) -> FineTuneResult:
    """Train a copy of `model`; the given one stays as it is. Seeded and reproducible on CPU.

    Raises ValueError for an empty part.
    """
    for name, part in (("train", train), ("valid", valid), ("test", test)):
        if not len(part):
            raise ValueError(f"fine-tuning: the {name} part is empty")
    regression, metric = config.objective == "regression", metric_named(config.metric)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        classifier = Classifier(model, 1 if regression else classes, config.dropout)
        classifier.requires_grad_(True)
        layers = classifier.layers()
        rates = learning_rates(len(layers), config)
        parameters = [p for layer in layers for p in layer]
        optimizer = torch.optim.AdamW(
            [{"params": p, "lr": rate} for p, rate in zip(layers, rates, strict=True)],
            weight_decay=config.weight_decay,
            fused=True,
        )
        steps = config.epochs * -(-len(train) // config.batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda s: min((s + 1) / max(1, steps // 10), max(0.0, 1 - s / steps)),
        )
        generator = np.random.Generator(np.random.Philox(config.seed))
        best = (-np.inf, 0)
        kept: dict[str, Tensor] = {}
        for epoch in range(1, config.epochs + 1):
            classifier.train()
            order = generator.permutation(len(train))
            for ids, pixels, labels in _batches(train, config.batch_size, order):
                outputs = classifier(ids, pixels)
                if regression:
                    loss = nn.functional.mse_loss(outputs[:, 0], labels.to(outputs.dtype))
                else:
                    loss = nn.functional.cross_entropy(outputs, labels)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                schedule.step()
            score = metric(predict(classifier, valid), valid.labels)
            progress(f"epoch {epoch}/{config.epochs}, validation {score:.3f}")
            if score > best[0]:
                best = (score, epoch)
                kept = copy.deepcopy(classifier.state_dict())
        classifier.load_state_dict(kept)
        predictions = predict(classifier, test)
        return FineTuneResult(metric(predictions, test.labels), best[0], best[1], predictions)
