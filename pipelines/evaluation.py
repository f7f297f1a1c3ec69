"""The evaluation stages: the demo's tasks on a model, and what trivial methods reach on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from momo.config import ModelConfig
from momo_platform.stages import Artifact, Context
from pipelines.config import EvaluationConfig

GROUPS = ("image", "text", "multimodal")


@dataclass(frozen=True)
class EvaluateConfig:
    """Which protocol sizes to use."""

    evaluation: EvaluationConfig


@dataclass(frozen=True)
class BaselinesConfig:
    """The random-feature baseline is an untrained model of the same size."""

    evaluation: EvaluationConfig
    model: ModelConfig


@dataclass(frozen=True)
class TaskInfo:
    """One row of the table. `baseline` says what the trivial method is."""

    name: str
    group: str
    metric: str
    baseline: str


TASKS = (
    TaskInfo("mnist", "image", "linear probe accuracy", "raw pixels"),
    TaskInfo("emoji_category", "image", "linear probe accuracy", "raw pixels"),
    TaskInfo("movie_sentiment", "text", "fine-tuned accuracy", "TF-IDF"),
    TaskInfo("retrieval_image_to_text", "multimodal", "zero-shot R@10", "chance"),
    TaskInfo("retrieval_text_to_image", "multimodal", "zero-shot R@10", "chance"),
    TaskInfo("easy_vqa", "multimodal", "fine-tuned accuracy", 'always "yes"'),
)


def _prepare(config: EvaluationConfig) -> None:
    import torch

    torch.set_num_threads(config.threads)


def run_evaluation(
    config: EvaluateConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: inputs model, corpora, images, pairs → {"tasks": {name: {"value", "low", "high",
    "details"}}}; low and high are the 95 % bootstrap interval.

    A task whose data the corpora lack is left out and named under "not_available".
    """
    from momo.export import load
    from pipelines import demo_tasks

    _prepare(config.evaluation)
    embedder = load(inputs["model"].path / "model")
    folder = inputs["corpora"].path / "tasks"
    size = embedder.model.config.image_size
    tell: Callable[[str], None] = lambda m: context.progress({"message": m})  # noqa: E731
    results: dict[str, Any] = {}
    missing: dict[str, str] = {}

    def record(name: str, value: float, details: Mapping[str, float]) -> None:
        kept = dict(details)
        low, high = kept.pop("low"), kept.pop("high")
        results[name] = {"value": value, "low": low, "high": high, "details": kept}

    tell("MNIST probe")
    record("mnist", *demo_tasks.probe(embedder.model, demo_tasks.mnist(folder, size)))
    tell("category probe")
    pictures = demo_tasks.labelled_pictures(inputs["images"].path, size)
    if pictures is None:
        missing["emoji_category"] = "the pictures have no labels in all three splits"
    else:
        record("emoji_category", *demo_tasks.probe(embedder.model, pictures))
    tell("retrieval")
    held_out = demo_tasks.held_out_pairs(inputs["pairs"].path, size)
    if held_out is None:
        missing["retrieval_image_to_text"] = "the pairs have no held-out rows (split test)"
        missing["retrieval_text_to_image"] = missing["retrieval_image_to_text"]
    else:
        for direction, found in demo_tasks.retrieval(embedder, held_out).items():
            record(f"retrieval_{direction}", *found)
    tell("sentiment")
    record("movie_sentiment", *demo_tasks.sentiment(embedder, folder, config.evaluation, tell))
    tell("easy-VQA")
    record("easy_vqa", *demo_tasks.questions(embedder, folder, config.evaluation, tell))
    return {"tasks": results, "not_available": missing}


def run_baselines(
    config: BaselinesConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: {"tasks": {name: {"baseline", "chance", "details"}}}."""
    from pipelines import demo_tasks

    _prepare(config.evaluation)
    return {
        "tasks": demo_tasks.baselines(
            config.model,
            inputs["corpora"].path / "tasks",
            inputs["images"].path,
            inputs["pairs"].path,
            lambda m: context.progress({"message": m}),
        )
    }
