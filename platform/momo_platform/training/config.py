"""What a training run is told. No torch: `--help` and `--plan` import this file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from momo_platform.bounds import check_bounds, check_choice

GradientSchedule = Literal["accumulate", "alternate", "joint", "sequential"]
# One modality a step: a step of these costs a part of what one of the others costs.
ONE_AT_A_TIME: tuple[GradientSchedule, ...] = ("alternate", "sequential")
Precision = Literal["fp32", "bf16", "auto"]
Sharding = Literal["ddp", "fsdp2"]
Backend = Literal["auto", "nccl", "gloo"]
ActivationCheckpointing = Literal["none", "elementwise", "blocks"]
Crop = Literal["auto", "host", "device"]
Decode = Literal["cpu", "nvjpeg"]
Keep = Literal["last", "best"]
# Fields with this metadata change how a run is carried out, never what it computes.
MECHANICS: dict[str, bool] = {"semantic": False}


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up and cosine decay."""

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    warmup_steps: int = 100
    final_learning_rate_ratio: float = 0.01
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        check_bounds(
            self,
            learning_rate=(1e-12, None),
            betas=(0.0, 0.999999),
            weight_decay=(0.0, None),
            warmup_steps=(0, None),
            final_learning_rate_ratio=(0.0, 1.0),
            clip_norm=(1e-12, None),
        )


@dataclass(frozen=True)
class ScalingConfig:
    """Where a run happens: workers, their resources, threads. Never part of a fingerprint.

    `num_workers` 0 trains in the stage's own process, which is warm when it trained before: a
    start costs a second or two where a group of workers costs ten. For small models and sweeps;
    with 0 or 1 the same batches are seen. Elastic workers (`min_workers`) go on with fewer where a
    machine is lost and with more when one comes, from the newest checkpoint and with the same
    global batches. `sharding`: `ddp` copies the model to every worker,
    `fsdp2` shards it with its gradients and moments. `activation_checkpointing` keeps less for
    the backward pass: `elementwise` makes norms and activation functions again, which costs
    little; `blocks` computes whole blocks twice. `backend` `auto`: NCCL with GPUs, gloo without; a
    collective that takes longer than `collective_timeout_minutes` counts as a lost worker.

    `crop`: where pictures are cropped and resized, on a GPU (`device`) or by the readers (`host`);
    `auto`: on GPUs where a run has them. Pixels of the two differ by a level or two. `decode`
    `nvjpeg`: GPUs decode JPEG too, which has not been run yet. `resident`: every worker's device
    holds all pictures, decoded once at the start. `reader_processes` -1: the cores that a worker
    may use, less two, shared among its modalities with pictures.
    """

    num_workers: int = 2
    min_workers: int = 0  # above 0: elastic, from so many workers to num_workers
    resize_check_seconds: float = 60.0  # how often an elastic run looks for more machines
    cpus_per_worker: float = 0.5
    gpus_per_worker: float = 0.0
    threads_per_worker: int = 0  # 0: the usable cores of a node shared among its workers
    # Each worker on cores of its own. Near its GPU it runs anyway, where the system tells them.
    pin_cores: bool = False  # on CPUs
    prefetch_batches: int = 2
    reader_processes: int = 0  # a worker's and a modality's; 0: a thread of the worker's own
    crop: Crop = "auto"
    decode: Decode = "cpu"
    resident: bool = False
    ingest: Literal["local", "ray"] = "local"  # where batches are made; the same either way
    max_restarts: int = 2  # after faults of the machine; faults of the code are never retried
    sharding: Sharding = "ddp"
    activation_checkpointing: ActivationCheckpointing = "none"
    micro_batch_size: int = 0  # rows of a modality at a time on a worker; 0: all
    compile: bool = False  # torch.compile of blocks and heads; not with checkpointing=blocks
    backend: Backend = "auto"
    collective_timeout_minutes: float = 30.0

    def __post_init__(self) -> None:
        check_bounds(
            self,
            num_workers=(0, None),
            min_workers=(0, self.num_workers),
            resize_check_seconds=(0.1, None),
            cpus_per_worker=(0.0, None),
            gpus_per_worker=(0.0, None),
            threads_per_worker=(0, None),
            prefetch_batches=(1, None),
            reader_processes=(-1, None),
            max_restarts=(0, None),
            micro_batch_size=(0, None),
            collective_timeout_minutes=(0.1, None),
        )
        check_choice(
            self,
            backend=get_args(Backend),
            sharding=get_args(Sharding),
            activation_checkpointing=get_args(ActivationCheckpointing),
            crop=get_args(Crop),
            decode=get_args(Decode),
        )
        if self.backend == "nccl" and not self.gpus_per_worker:
            raise ValueError("backend='nccl' needs a GPU: set gpus_per_worker, or backend='auto'")
        if self.crop == "host" and self.resident:
            raise ValueError(
                "scaling.resident needs scaling.crop=device: set crop to auto or device"
            )
        if self.decode == "nvjpeg" and (self.resident or not self.crops_on_device):
            raise ValueError(
                "scaling.decode=nvjpeg needs crops on GPUs and no resident corpus: set it to cpu, "
                "or scaling.gpus_per_worker above 0, crop to auto and resident to false"
            )

    @property
    def crops_on_device(self) -> bool:
        """Whether readers leave pictures uncropped."""
        if self.crop == "auto":
            return self.resident or self.gpus_per_worker > 0
        return self.crop == "device"


@dataclass(frozen=True)
class ValidationConfig:
    """How often a run is measured on held-out rows (split `valid`), and on how many.

    By itself the loop chooses so that all measurements together cost at most 3 % of the training:
    the first before the first step, the last after the last one. Training is the same to the bit
    with and without. Part of a fingerprint only under `keep=best`, where it decides which
    checkpoints there are to choose from.
    """

    every_steps: int = 0
    """Steps between two measurements; 0: chosen by cost, -1: none at all."""
    rows: int = 0
    """Held-out rows of each modality, at most; 0: chosen by cost."""

    def __post_init__(self) -> None:
        check_bounds(self, every_steps=(-1, None), rows=(0, None))


def _chooses(train: Any) -> bool:
    return train.keep == "best"


@dataclass(frozen=True)
class LoggingConfig:
    """How often a run writes and to where. Never part of a fingerprint."""

    every_steps: int = 20
    profile_steps: int = 0
    """So many steps, from the tenth on, are traced: `profile.json.gz` in the artifact, for
    Perfetto or chrome://tracing."""
    checkpoint_every_steps: int = 200
    keep_checkpoints: int = 2
    tensorboard: bool = True
    """Curves for TensorBoard: `tensorboard/` in the artifact."""
    wandb: bool = False
    """A Weights & Biases run, whose id is the stage's fingerprint. Without a login it is written
    to `wandb/` in the artifact, for `wandb sync`."""
    mlflow: bool = False
    """An MLflow run, at MLFLOW_TRACKING_URI or in `mlflow/` of the artifact. Needs the extra
    `mlflow`."""
    group: str = ""
    """What runs that belong together are called in W&B and MLflow; empty: no group."""

    def __post_init__(self) -> None:
        one = (1, None)
        check_bounds(self, profile_steps=(0, None))
        check_bounds(self, every_steps=one, checkpoint_every_steps=one, keep_checkpoints=one)


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    `batch_sizes` maps each modality to its global batch (samples an update over all workers).
    `gradient_schedule`: `accumulate` runs forward and backward for every modality and updates
    once; `alternate` takes one modality a step, each once a round, in an order drawn from the
    seed; `joint` sums all losses before one backward; `sequential` takes one modality after
    another, each for its share of the steps, in the order of the task. `steps` 0 leaves the run
    out. `precision`: `bf16` runs the forward under autocast with weights in fp32; `auto` does so
    on CUDA only. `ema_decay` above 0 averages the weights over updates; the finished model is
    then the average. `keep`: the finished model is the `last` one, or the `best` by the weighted
    sum of its held-out losses; the last one is then kept beside it.
    """

    steps: int
    batch_sizes: Mapping[str, int]
    gradient_schedule: GradientSchedule = "accumulate"
    optimizer: OptimizerConfig = OptimizerConfig()
    seed: int = 0
    max_skipped_steps: int = 20
    precision: Precision = "fp32"
    ema_decay: float = 0.0
    keep: Keep = field(default="last", metadata={"absent_at": "last"})
    validation: ValidationConfig = field(
        default=ValidationConfig(), metadata={"semantic": _chooses}
    )
    scaling: ScalingConfig = field(default=ScalingConfig(), metadata=MECHANICS)
    logging: LoggingConfig = field(default=LoggingConfig(), metadata=MECHANICS)

    def __post_init__(self) -> None:
        check_bounds(self, steps=(0, None), max_skipped_steps=(0, None), ema_decay=(0.0, 0.9999999))
        check_choice(self, precision=get_args(Precision), keep=get_args(Keep))
        if self.keep == "best" and self.validation.every_steps < 0:
            raise ValueError(
                "keep=best needs held-out losses: set validation.every_steps to 0 or more, or "
                "keep=last"
            )
        for modality, size in self.batch_sizes.items():
            if size < 1:
                raise ValueError(f"batch_sizes {modality}={size}: give at least 1")
