"""Everything that `pipelines/full.py` can be told, as frozen dataclasses. No torch, no Ray."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from momo.config import ModelConfig, TaskConfig
from momo.precision import Precision
from momo_platform.bounds import check_bounds
from momo_platform.data.images import ImageConfig
from momo_platform.data.near import MAX_BITS, NEAR_BITS
from momo_platform.stages import UserError
from momo_platform.training.config import MECHANICS, TrainConfig
from pipelines.demo.corpora import DemoCorpora


@dataclass(frozen=True)
class SourceOptions:
    """One modality's corpus. Empty `source`: the preset's own corpora (demo and smoke have some).

    `source` is a folder, a Parquet, JSONL or CSV file or a WebDataset tar, local or by URI, or
    hf://<path>[:config][@split] for Hugging Face `datasets`. Rows without a `split` give
    `held_out` of their groups to the test split.
    """

    source: str = ""
    weight: float = 1.0
    licence: str = ""
    held_out: float = 0.0
    max_bad_fraction: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.held_out < 1.0:
            raise UserError(f"held_out={self.held_out}: give a share from 0 to below 1")
        if self.weight < 0.0:
            raise UserError(f"weight={self.weight}: give 0 or more")


@dataclass(frozen=True)
class TrainingStage:
    """One training stage: its modalities and objectives, and how it is trained."""

    task: TaskConfig
    train: TrainConfig


@dataclass(frozen=True)
class EvaluationConfig:
    """Sizes of the evaluation's own trainings; choices are made on validation parts."""

    seed: int = 0
    sentiment_epochs: int = 2
    question_epochs: int = 1
    question_limit: int = 9_000
    """Training questions of easy-VQA that are used, evenly spread; 0: all."""
    learning_rate: float = 1e-3
    """Of every fine-tuning, at its peak."""
    layer_decay: float = 1.0
    """Each layer learns at this times the rate of the one above."""
    limit: int = 0
    """Use so many examples of each part at most, evenly spread, for a quick look; 0: all."""
    precision: Precision = "fp32"
    """Of the evaluated models' products, fine-tunings included: bf16 and, on GPUs, tf32 are faster
    and move values by less than their intervals."""
    stages: tuple[str, ...] = ("stage1-images", "stage2-joint", "stage3-pairs")
    """The training stages whose models are evaluated; diagnostic tasks only for the last."""
    tasks: tuple[str, ...] = ("demo",)
    """Suites or patterns of task names; `pipelines/evaluate.py --list` shows them."""
    data: str = field(default="", metadata=MECHANICS)
    """Folder with the public data sets; what is missing there is shown as not available."""
    threads: int = field(default=1, metadata=MECHANICS)
    cpus: float = field(default=1.0, metadata=MECHANICS)
    gpus: float = field(default=0.0, metadata=MECHANICS)
    """Of each task that runs a model."""


@dataclass(frozen=True)
class RunOptions:
    """What to run and where; never part of a fingerprint."""

    storage: str = "runs"
    """Folder or URI (s3://…, gs://…) for all artifacts."""
    cluster: str = "auto"
    """auto (a running Ray cluster, else a private one), local, or an address."""
    plan: bool = False
    """Print what would run and why, and what training would cost; then end. Needs neither Ray nor
    torch."""
    gpu: str = "A100"
    """The accelerator that `--plan` counts hours for."""
    mfu: float = 0.35
    """The share of its peak that `--plan` takes training to reach."""
    only: tuple[str, ...] = ()
    """Run these stages only (patterns)."""
    until: str | None = None
    """Run up to this stage."""
    rerun: tuple[str, ...] = ()
    """Run these stages (patterns) again, and what depends on them where they come out different. An
    interrupted rerun goes on where it was; a stage that never ended starts from nothing."""
    wait_minutes: float = 30.0
    """On a cluster that grows with the work: how long a stage may wait for its nodes."""
    ingest: Literal["local", "ray"] | None = None
    """Where training batches are made: in the worker (local), or by Ray Data on any machine (ray).
    The same batches either way; for all three stages."""
    verbose: bool = False
    """Show Ray's own messages instead of sending them to the log file."""

    def __post_init__(self) -> None:
        check_bounds(self, mfu=(0.001, 1.0), wait_minutes=(0.0, None))


@dataclass(frozen=True)
class PipelineConfig:
    """The whole job."""

    preset: str
    model: ModelConfig
    stage1: TrainingStage
    stage2: TrainingStage
    stage3: TrainingStage
    seed: int = 0
    initial_weights: str = ""
    """A MAE encoder in timm's layout (.safetensors or .pth) that stage 1 starts from; empty: from
    the seed. Its shape must be the model's. The public ones are CC-BY-NC 4.0."""
    images: SourceOptions = SourceOptions()
    text: SourceOptions = SourceOptions()
    pairs: SourceOptions = SourceOptions(held_out=0.05)
    demo: DemoCorpora = DemoCorpora()
    has_corpora: bool = True
    """Whether the preset brings corpora of its own; without them all sources must be given."""
    picture: ImageConfig = ImageConfig()
    near_duplicate_bits: int = NEAR_BITS
    """Training pictures go that differ from a held-out one in at most so many of the 64 bits of
    their perceptual hash; -1: exact repeats only."""
    packed_text_length: int = 64
    pair_text_length: int = 32
    evaluation: EvaluationConfig = EvaluationConfig()
    run: RunOptions = field(default=RunOptions(), metadata=MECHANICS)

    def __post_init__(self) -> None:
        check_bounds(self, near_duplicate_bits=(-1, MAX_BITS))
