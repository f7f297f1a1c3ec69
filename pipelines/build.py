"""On a training worker: the model, its task and its loaders. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from momo.config import ModelConfig
from momo.decoding import EncodedPicture
from momo.export import WEIGHTS, load_model, save
from momo.model import build_model
from momo.tasks import MoMoTask
from momo.transforms import PictureForm
from momo_platform.cores import readers_from_cores
from momo_platform.data.dataset import ShardDataset, open_rows
from momo_platform.data.held_out_rows import HeldOutRows
from momo_platform.data.loader import Dataset, Loader
from momo_platform.data.resident import SHARE, ResidentShards
from momo_platform.data.share import rows_of_ranks
from momo_platform.stages.errors import UserError
from momo_platform.training.config import ScalingConfig, TrainConfig
from momo_platform.training.task import TrainingSetup
from pipelines.artifacts import ModelFolder
from pipelines.initial_model import history
from pipelines.modalities import MODALITIES, Reading
from pipelines.training import StageRecipe, TrainingInputs, rows_together


def build_setup(
    recipe: StageRecipe,
    inputs: TrainingInputs,
    train: TrainConfig,
    rank: int,
    world_size: int,
    cores: int | None = None,
) -> TrainingSetup:
    """Weights come from the `previous` model where there is one, else from the seed."""
    model = build_model(recipe.model, train.seed)
    passed_on: dict[str, Any] = {}
    if inputs.previous is not None:
        model.load_state_dict(load_model(inputs.previous.path).state_dict())
        passed_on = history(inputs.previous.path)
    loaders = build_loaders(
        *(recipe.task.modalities, inputs, train, recipe.model, recipe.pair_text_length),
        *(rank, world_size, cores),
        units=rows_together(recipe.task),
    )

    def save_finished(task: nn.Module, folder: Path) -> None:
        assert isinstance(task, MoMoTask)
        tokenizer_json = inputs.tokenizer.path.read_text(encoding="utf-8")
        trained = {*passed_on.get("modalities", ()), *recipe.task.modalities}
        extra = {"text_length": recipe.pair_text_length, "modalities": sorted(trained)}
        place = ModelFolder(folder).path
        save(task.model, place, tokenizer_json, passed_on | extra)
        assert (place / WEIGHTS).exists()

    task = MoMoTask(model, recipe.task)
    if "pair" in loaders:
        unit = rows_together(recipe.task)["pair"]
        task.rows_of_ranks = rows_of_ranks(train.batch_sizes["pair"], world_size, unit)
        chunk = recipe.task.contrastive_chunk
        chunks = {-(-rows // chunk) for rows in task.rows_of_ranks} if chunk else set()
        if train.scaling.sharding == "fsdp2" and len(chunks) > 1:
            raise UserError(
                f"task.contrastive_chunk={chunk} divides the workers' pairs, "
                f"{sorted(set(task.rows_of_ranks))}, into unlike numbers of chunks, for which "
                "fsdp2's workers would wait for each other: set scaling.sharding to ddp, or "
                f"batch_sizes pair to a multiple of {unit} × {world_size} workers"
            )
    held_out = build_held_out(
        *(recipe.task.modalities, inputs, train, recipe.model, recipe.pair_text_length),
        *(rank, world_size, rows_together(recipe.task)),
    )
    return TrainingSetup(task, loaders, save_finished, held_out)


def _picture_form(scaling: ScalingConfig) -> PictureForm:
    if not scaling.crops_on_device:
        return "cropped"
    return "encoded" if scaling.decode == "nvjpeg" else "decoded"


def build_held_out(
    modalities: Sequence[str],
    inputs: TrainingInputs,
    train: TrainConfig,
    config: ModelConfig,
    pair_text_length: int,
    rank: int,
    world_size: int,
    units: Mapping[str, int],
) -> dict[str, HeldOutRows]:
    """The rows of split `valid` of each modality that has some; arguments as `build_loaders`."""
    form = _picture_form(train.scaling)
    reading = Reading(config, inputs.tokenizer, pair_text_length, form, augment=False)
    found = {}
    for modality in modalities:
        rows = inputs.mixed[modality].valid
        if rows.has_index:
            found[modality] = HeldOutRows(
                *(ShardDataset(rows), MODALITIES[modality].transform(reading)),
                rank=rank,
                world_size=world_size,
                unit=units.get(modality, 1),
            )
    return found


def build_loaders(
    modalities: Sequence[str],
    inputs: TrainingInputs,
    train: TrainConfig,
    config: ModelConfig,
    pair_text_length: int,
    rank: int,
    world_size: int,
    cores: int | None = None,
    units: Mapping[str, int] | None = None,
) -> dict[str, Loader]:
    """Each modality's batches; of `config` the picture's and the patches' size are used.

    `cores`: this worker's part of its machine's; None: all workers share this machine.
    `units`: rows of a modality that stay on one worker.
    """
    scaling = train.scaling
    pictured = [m for m in modalities if MODALITIES[m].pictured]
    reading = Reading(config, inputs.tokenizer, pair_text_length, _picture_form(scaling))

    def dataset(modality: str) -> Dataset:
        rows = open_rows(inputs.mixed[modality], inputs.prepared(modality))
        if scaling.resident and modality in pictured:
            share = SHARE / len(pictured)
            return ResidentShards(rows, EncodedPicture.of, share=share, cores=cores)
        return rows

    def processes(modality: str) -> int:
        if scaling.reader_processes >= 0:
            return scaling.reader_processes
        if modality not in pictured or scaling.resident:  # nothing to decode
            return 0
        if cores is None:
            return readers_from_cores(world_size, len(pictured))
        return readers_from_cores(1, len(pictured), cores)

    return {
        modality: Loader(
            dataset(modality),
            MODALITIES[modality].transform(reading),
            global_batch_size=train.batch_sizes[modality],
            rank=rank,
            world_size=world_size,
            seed=train.seed,
            prefetch=scaling.prefetch_batches,
            processes=processes(modality),
            ingest=scaling.ingest,
            unit=(units or {}).get(modality, 1),
        )
        for modality in modalities
    }
