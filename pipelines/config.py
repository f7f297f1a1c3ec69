"""Everything that `pipelines/full.py` can be told, as frozen dataclasses. No torch, no Ray."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from momo.config import ModelConfig, TaskConfig
from momo.precision import FloatPrecision
from momo_platform.bounds import check_bounds
from momo_platform.data.config import MAX_BITS, NEAR_BITS, ImageConfig
from momo_platform.stages import UserError
from momo_platform.training.config import MECHANICS, TrainConfig
from pipelines.bundled import BUNDLES, check_bundle
from pipelines.demo.corpora import DemoCorpora
from pipelines.icons.corpora import IconCorpora
from pipelines.modalities import MODALITIES


@dataclass(frozen=True)
class SourceOptions:
    """One modality's corpus. Empty `source`: pictures and text are those of your own pairs, where
    you give some; else the preset's corpora (smoke, demo and icons have some). `demo`, `icons`: the
    corpora of that name.

    `source` is a folder, a Parquet, JSONL or CSV file or a WebDataset tar, local or by URI, or
    hf://<path>[:config][@split] for Hugging Face `datasets`; several files of these by `*` and
    `{000..123}`. It may be several: PLACE:2 has its own weight in place of `weight` (how often each
    row comes in an epoch), and @FILE names a place a line. Of rows without a `split`, the share
    `held_out` of the groups becomes the test part and half as many the validation part. By default
    that is 10 %, up to 20 % where 10 % are fewer than 500 groups, and 10,000 groups of more than
    100,000.
    """

    source: str | tuple[str, ...] = ""
    weight: float = 1.0
    licence: str = ""
    held_out: float | None = None
    max_bad_fraction: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.source, str):
            words = tuple(filter(None, map(str, self.source)))
            object.__setattr__(self, "source", words if len(words) > 1 else "".join(words))
        if self.held_out is not None and not 0.0 <= self.held_out < 1.0:
            self._refuse("held-out", "a share from 0 to below 1")
        if self.weight < 0.0:
            self._refuse("weight", "0 or more")
        if not 0.0 <= self.max_bad_fraction <= 1.0:
            self._refuse("max-bad-fraction", "a share from 0 to 1")

    def _refuse(self, option: str, wanted: str) -> NoReturn:
        """Options of all modalities come here; which one it was isn't known."""
        value = getattr(self, option.replace("-", "_"))
        options = ", ".join(f"--{name}.{option}" for name in MODALITIES)
        raise UserError(f"{option} {value}: give {wanted} ({options})")


def no_sources() -> dict[str, SourceOptions]:
    """Nothing given, for any modality."""
    return dict.fromkeys(MODALITIES, SourceOptions())


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
    precision: FloatPrecision = "fp32"
    """Of the evaluated models' products, fine-tunings included: bf16 and, on GPUs, tf32 are faster
    and move values by less than their intervals."""
    stages: tuple[str, ...] = ()
    """The training stages whose models are evaluated: names, patterns, or `last`; none named: all
    of them. Diagnostic tasks run for the last only."""
    tasks: tuple[str, ...] = ("auto",)
    """Suites or patterns of task names (`momo evaluate --list` shows them), tasks of your
    own as NAME=FOLDER_OR_TABLE[:PROTOCOL], or auto: own/… for each source of your own, the demo's
    or the icons' tasks for the corpora that are theirs."""
    untrained: bool = True
    """Measure the model before any training, too, by the protocols of all tasks that have a trivial
    baseline: fine-tunings again from random weights."""
    save_classifiers: bool = False
    """Keep every fine-tuned model with its classes, as `classifier/` in its task's artifact."""
    data: str = field(default="", metadata=MECHANICS)
    """Folder with the public data sets; what is missing there is shown as not available."""
    threads: int = field(default=1, metadata=MECHANICS)
    cpus: float = field(default=1.0, metadata=MECHANICS)
    gpus: float = field(default=0.0, metadata=MECHANICS)
    """Of each task that runs a model."""


@dataclass(frozen=True)
class QualityOptions:
    """Which prepared rows are trained on; by default all. Held-out rows stay as they are. What goes
    is counted, with examples, in the card of the corpus's stage quality-…"""

    score_model: str = ""
    """A model that `momo evaluate` knows (a MoMo, CLIP, SigLIP …), by its folder: of the pairs,
    those whose pictures and captions it finds most alike are kept."""
    keep: float = 0.7
    """The share of the pairs that is kept with a score model."""
    languages: tuple[str, ...] = ()
    """Of texts and captions those in these languages (en de …), and those whose language can't be
    told. Needs the package py3langid."""
    near_duplicates: float = 0.0
    """Of texts that are at least so similar (0.8, say), in runs of five words, the first is kept;
    0: not searched. Needs the package datasketch."""
    decontaminate: bool = False
    """Leave out pictures that look like one of a test set: those of the folder --evaluation.data,
    of the demo's tasks that are run and of tasks of your own."""
    precision: FloatPrecision = "fp32"
    """Of the score model's products."""
    gpus: float | None = field(default=None, metadata=MECHANICS)
    """Of each process that scores; without a number one where the cluster has any, else none."""

    def __post_init__(self) -> None:
        check_bounds(self, keep=(0.001, 1.0), near_duplicates=(0.0, 0.95))
        if self.gpus is not None:
            check_bounds(self, gpus=(0.0, None))
        if 0.0 < self.near_duplicates < 0.1:
            raise UserError(
                f"--quality.near-duplicates {self.near_duplicates}: give 0.1 to 0.95, or 0"
            )


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
    The same batches either way; for every training stage."""
    verbose: bool = False
    """Show Ray's own messages instead of sending them to the log file."""

    def __post_init__(self) -> None:
        check_bounds(self, mfu=(0.001, 1.0), wait_minutes=(0.0, None))


@dataclass(frozen=True)
class PictureOptions:
    """How pictures are stored. `size_cap`: the shorter side in pixels that larger pictures are
    scaled down to; 0: what `model.image_size` needs (`cap_for`)."""

    size_cap: int = 0
    encoding: Literal["png", "jpeg"] = "png"
    jpeg_quality: int = 90
    background: str = "white"

    def __post_init__(self) -> None:
        self._stored(self.size_cap or 8)

    def stored(self, image_size: int) -> ImageConfig:
        """What preparation is told, for a model that takes pictures of `image_size` pixels.

        Raises UserError where they would be stored smaller than that.
        """
        cap = self.size_cap or cap_for(image_size)
        if cap < image_size:
            raise UserError(
                f"--picture.size-cap {cap}: pictures would be stored with {cap} pixels on their "
                f"shorter side and the model takes {image_size} (--model.image-size): give "
                f"--picture.size-cap {cap_for(image_size)}, or leave it out"
            )
        return self._stored(cap)

    def _stored(self, cap: int) -> ImageConfig:
        return ImageConfig(cap, self.encoding, self.jpeg_quality, self.background)


def cap_for(image_size: int) -> int:
    """The shorter side, in pixels, that pictures are stored with for a model of `image_size`: up to
    96 the same, above a seventh more for crops, in steps of 32 (224 → 256)."""
    return max(8, image_size) if image_size <= 96 else -(-image_size * 8 // 7 // 32) * 32


@dataclass(frozen=True)
class Sources:
    """What rows are made from: `given` by modality, else the corpora of the `preset`'s `bundle`, if
    it has one. `bundles`: bundle → its config. `picture`: how pictures are kept, for a model that
    takes `image_size` pixels. `for_plan`: a source may be given later."""

    preset: str
    given: Mapping[str, SourceOptions]
    picture: PictureOptions
    image_size: int
    near_duplicate_bits: int
    bundles: Mapping[str, Any]
    bundle: str
    for_plan: bool = False

    def of(self, modality: str) -> SourceOptions:
        """What was given for a modality."""
        return self.given.get(modality, SourceOptions())

    def bundle_of(self, modality: str) -> str:
        """The bundle that a modality without a source of the user's own is of; empty: none."""
        named = self.of(modality).source
        return named if isinstance(named, str) and named in BUNDLES else self.bundle


@dataclass(frozen=True)
class PipelineConfig:
    """The whole job. `training`: name → stage, in the order in which they run."""

    preset: str
    model: ModelConfig
    training: Mapping[str, TrainingStage]
    seed: int = 0
    initial_model: str = ""
    """A trained model that the first training stage starts from; empty: from the seed. A folder
    (an export, an artifact, transformers' save_pretrained), NAME or NAME/FINGERPRINT of an artifact
    in the storage, a weights file of timm, or hf://<name> on the hub. Weights only: what was
    interrupted is resumed by the same command without it."""
    corpora: Mapping[str, SourceOptions] = field(default_factory=no_sources)
    """Modality → where its rows come from."""
    bundle: str = "demo"
    """The corpora that the preset brings with it, demo or icons; without any, all sources must be
    given."""
    demo: DemoCorpora = DemoCorpora()
    icons: IconCorpora = IconCorpora()
    picture: PictureOptions = PictureOptions()
    near_duplicate_bits: int = NEAR_BITS
    """Training pictures go that differ from a held-out one in at most so many of the 64 bits of
    their perceptual hash; -1: exact repeats only."""
    quality: QualityOptions = QualityOptions()
    packed_text_length: int = 64
    pair_text_length: int = 32
    evaluation: EvaluationConfig = EvaluationConfig()
    run: RunOptions = field(default=RunOptions(), metadata=MECHANICS)

    def __post_init__(self) -> None:
        check_bounds(self, near_duplicate_bits=(-1, MAX_BITS))
        check_bundle(self.bundle)
        for name in self.training:
            if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
                raise UserError(
                    f"training stage {name!r}: names hold small letters, digits and -, a letter "
                    "first"
                )
            if name == "untrained":
                raise UserError(
                    f"training stage {name!r}: the model before any training is called that; name "
                    "the stage otherwise"
                )
            if name in MODALITIES:
                raise UserError(
                    f"training stage {name!r}: --{name}.source is a corpus's; name the stage "
                    f"otherwise, as train-{name}"
                )

    @property
    def sources(self) -> Sources:
        """What its rows are made from."""
        return Sources(
            self.preset,
            self.corpora,
            self.picture,
            self.model.image_size,
            self.near_duplicate_bits,
            {name: getattr(self, name) for name in BUNDLES},
            self.bundle,
            self.run.plan,
        )

    @property
    def trained(self) -> dict[str, TrainingStage]:
        """The training stages that have steps, in order."""
        return {name: stage for name, stage in self.training.items() if stage.train.steps}
