"""Presets: functions that return the whole job's config.

| preset | model | for | measured |
|---|---|---|---|
| smoke | 0.3M parameters | tests: seconds of training | – |
| demo | 1.5M | a laptop, two CPU cores | see README.md |
| icons | 1.6M to 24M | two CPU cores or a GPU, by budgets | see docs/icons.md |
| base | 110M encoder | a cluster of GPUs | not yet run |
| large | 335M encoder | a cluster of GPUs | not yet run |
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from momo.config import SIZES, ModelConfig, TaskConfig
from momo_platform.training.config import (
    LoggingConfig,
    OptimizerConfig,
    Precision,
    ScalingConfig,
    TrainConfig,
)
from pipelines.config import (
    EvaluationConfig,
    PictureOptions,
    PipelineConfig,
    TrainingStage,
)
from pipelines.demo.corpora import DemoCorpora
from pipelines.icon_presets import BUDGETS, ICON_SIZES, icons

_STAGE1 = TaskConfig(modalities=("image",))
_STAGE2 = TaskConfig(modalities=("image", "text"))
_STAGE3 = TaskConfig(modalities=("text", "pair"))
# Half a core each: two workers and the data tasks fit on two cores.
_LAPTOP = ScalingConfig(num_workers=2, cpus_per_worker=0.45, threads_per_worker=1)


def _train(
    steps: int,
    batches: Mapping[str, int],
    scaling: ScalingConfig,
    logging: LoggingConfig,
    precision: Precision = "fp32",
    **optimizer: float,
) -> TrainConfig:
    return TrainConfig(
        steps=steps,
        batch_sizes=dict(batches),
        precision=precision,
        optimizer=OptimizerConfig(**optimizer),  # type: ignore[arg-type]
        scaling=scaling,
        logging=logging,
    )


def demo() -> PipelineConfig:
    """Three stages on real corpora in under 20 minutes on two CPU cores."""
    logging = LoggingConfig(every_steps=10, checkpoint_every_steps=50)
    model = SIZES["demo"]
    return PipelineConfig(
        preset="demo",
        model=model,
        training={
            "stage1-image": TrainingStage(
                _STAGE1,
                _train(300, {"image": 256}, _LAPTOP, logging, learning_rate=2e-3, warmup_steps=40),
            ),
            "stage2-joint": TrainingStage(
                _STAGE2,
                _train(
                    360,
                    {"image": 128, "text": 64},
                    _LAPTOP,
                    logging,
                    learning_rate=5e-4,  # at stage 1's rate it harms the words: joint_stage.py
                    warmup_steps=40,
                ),
            ),
            "stage3-pair": TrainingStage(
                _STAGE3,
                _train(
                    320,
                    {"text": 32, "pair": 128},
                    _LAPTOP,
                    logging,
                    learning_rate=1.5e-3,
                    warmup_steps=40,
                ),
            ),
        },
    )


def smoke() -> PipelineConfig:
    """The demo's graph with a tiny model, a few concepts and a few steps: for tests."""
    logging = LoggingConfig(every_steps=5, checkpoint_every_steps=10)
    model = ModelConfig(width=64, depth=2, heads=2, vocab_size=2048, embed_dim=64)

    def train(batches: dict[str, int]) -> TrainConfig:
        return _train(20, batches, _LAPTOP, logging, learning_rate=2e-3, warmup_steps=5)

    return PipelineConfig(
        preset="smoke",
        model=model,
        training={
            "stage1-image": TrainingStage(_STAGE1, train({"image": 32})),
            "stage2-joint": TrainingStage(_STAGE2, train({"image": 16, "text": 16})),
            "stage3-pair": TrainingStage(
                replace(_STAGE3, matching_group=8), train({"text": 16, "pair": 16})
            ),
        },
        demo=DemoCorpora(limit=150),
        evaluation=EvaluationConfig(sentiment_epochs=1, question_epochs=1),
    )


_EVALUATION = EvaluationConfig(
    learning_rate=5e-5,
    layer_decay=0.75,
    precision="bf16",
    stages=("last",),
    tasks=("auto", "image", "glue", "multimodal", "zero_shot"),
    threads=8,
    cpus=8,
    gpus=1,
)


def _full_size(
    name: str, workers: int, batches: Mapping[str, int], contrastive_chunk: int
) -> PipelineConfig:
    scaling = ScalingConfig(
        num_workers=workers,
        cpus_per_worker=8,
        gpus_per_worker=1,
        reader_processes=-1,  # six at least, of eight CPUs; an H100 at 40 % needs four (`--plan`)
        # Products are made once. With it, and large's chunks, all stages fit 80 GB (`--plan`).
        activation_checkpointing="elementwise",
    )
    # False pairs of a quarter of the batch: 1,024 an update, a pair computes about 6 % less than
    # with half.
    # A quarter of the patches in the joint pass: 11 to 16 % less than with half, and three seeds
    # show no difference on validation parts (experiments/mask_ratios.py).
    stage3 = replace(
        _STAGE3,
        contrastive_chunk=contrastive_chunk,
        matching_fraction=0.25,
        matching_group=128,
        pair_image_mask_ratio=0.75,
    )
    logging = LoggingConfig(every_steps=50, checkpoint_every_steps=1000, wandb=True)
    image, text, pair = (batches[k] for k in ("image", "text", "pair"))

    def train(steps: int, sizes: Mapping[str, int]) -> TrainConfig:
        rate = 1.5e-4 * max(sizes.values()) / 256
        return _train(
            steps,
            sizes,
            scaling,
            logging,
            precision="auto",
            learning_rate=min(rate, 1e-3),
            warmup_steps=10_000,
        )

    return PipelineConfig(
        preset=name,
        model=SIZES[name],
        training={
            "stage1-image": TrainingStage(_STAGE1, train(250_000, {"image": image})),
            "stage2-joint": TrainingStage(
                _STAGE2, train(150_000, {"image": image // 2, "text": text})
            ),
            "stage3-pair": TrainingStage(stage3, train(100_000, {"text": text, "pair": pair})),
        },
        bundle="",
        evaluation=_EVALUATION,
        picture=PictureOptions(encoding="jpeg"),
        packed_text_length=128,
        pair_text_length=64,
    )


def base() -> PipelineConfig:
    """110M parameters on eight GPUs; steps and batches are our choice, not the paper's."""
    return _full_size("base", 8, {"image": 4096, "text": 2048, "pair": 4096}, contrastive_chunk=0)


def large() -> PipelineConfig:
    """335M parameters on 32 GPUs; steps and batches are our choice, not the paper's."""
    batches = {"image": 4096, "text": 2048, "pair": 8192}
    return _full_size("large", 32, batches, contrastive_chunk=128)


PRESETS: Mapping[str, Callable[..., PipelineConfig]] = {
    "smoke": smoke,
    "demo": demo,
    "icons": icons,
    "base": base,
    "large": large,
}
CHOICES: Mapping[str, Mapping[str, Collection[str]]] = {
    "icons": {"budget": BUDGETS, "size": ICON_SIZES},
}
"""Preset → the names that it takes for each of its arguments; each is an option, `--budget`."""
