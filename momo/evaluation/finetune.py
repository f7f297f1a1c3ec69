"""Fine-tuning the whole encoder: text classification and question answering on pictures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from momo.embeddings import normalise_pixels
from momo.model import MoMo, mean_of_tokens


@dataclass(frozen=True)
class FineTuneConfig:
    """AdamW with warm-up over the first tenth and linear decay; the epoch is chosen on the
    validation part."""

    epochs: int = 4
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    dropout: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"fine-tuning {name}={getattr(self, name)}: give 1 or more")


@dataclass(frozen=True)
class FineTuneResult:
    """Test accuracy at the epoch that was best on the validation part."""

    accuracy: float
    validation_accuracy: float
    best_epoch: int


@dataclass(frozen=True)
class Examples:
    """`ids` int64 [N, T], `labels` int64 [N]; with pictures also `pixels` uint8 [P, 3, H, W] and
    `picture` int64 [N], the row of each example's picture."""

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
def accuracy(classifier: Classifier, examples: Examples, batch_size: int = 256) -> float:
    """Share of correct answers."""
    classifier.eval()
    correct = 0
    for ids, pixels, labels in _batches(examples, batch_size, np.arange(len(examples))):
        correct += int((classifier(ids, pixels).argmax(dim=1) == labels).sum())
    return correct / max(1, len(examples))


def fine_tune(
    model: MoMo,
    train: Examples,
    valid: Examples,
    test: Examples,
    classes: int,
    config: FineTuneConfig,
    progress: Callable[[str], None] = lambda _: None,
) -> FineTuneResult:
    """Train a copy of `model`; the given one stays as it is. Seeded and reproducible on CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        classifier = Classifier(model, classes, config.dropout)
        classifier.requires_grad_(True)
        parameters = [
            *classifier.encoder.image_embedding.parameters(),
            *classifier.encoder.text_embedding.parameters(),
            *classifier.encoder.blocks.parameters(),
            *classifier.encoder.norm.parameters(),
            *classifier.head.parameters(),
        ]
        optimizer = torch.optim.AdamW(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        steps = config.epochs * -(-len(train) // config.batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda s: min((s + 1) / max(1, steps // 10), max(0.0, 1 - s / steps)),
        )
        generator = np.random.Generator(np.random.Philox(config.seed))
        best = (-1.0, 0)
        kept: dict[str, Tensor] = {}
        for epoch in range(1, config.epochs + 1):
            classifier.train()
            order = generator.permutation(len(train))
            for ids, pixels, labels in _batches(train, config.batch_size, order):
                loss = nn.functional.cross_entropy(classifier(ids, pixels), labels)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                schedule.step()
            score = accuracy(classifier, valid)
            progress(f"epoch {epoch}/{config.epochs}, validation {score:.3f}")
            if score > best[0]:
                best = (score, epoch)
                kept = copy.deepcopy(classifier.state_dict())
        classifier.load_state_dict(kept)
        return FineTuneResult(accuracy(classifier, test), best[0], best[1])
