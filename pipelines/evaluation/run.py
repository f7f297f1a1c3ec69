"""The stages of an evaluation: data in, values with intervals out. Torch comes when one runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from momo_platform.memory import give_freed_memory_back, keep_freed_memory
from momo_platform.stages import Artifact, Context, UserError, by_role
from pipelines.artifacts import ModelFolder
from pipelines.evaluation.configs import FeaturesConfig, ProtocolConfig
from pipelines.evaluation.items import NotAvailable, Usable
from pipelines.evaluation.protocol import OnFeatures, OnModel, Subject
from pipelines.evaluation.protocols import protocol_named
from pipelines.evaluation.results import Result

if TYPE_CHECKING:
    from momo.evaluation.encoder import Encoder


@by_role
def features(
    config: FeaturesConfig, context: Context, *, model: ModelFolder, data: Mapping[str, Artifact]
) -> dict[str, Any]:
    """Stage: → arrays, `.npy`; once for all tasks."""
    import numpy as np

    from pipelines.evaluation.features import arrays_of

    started = _start(config, model, data, context)
    arrays = started if isinstance(started, str) else arrays_of(*started, config, context)
    give_freed_memory_back()
    if isinstance(arrays, str):
        return {"not_available": arrays}
    for name, array in arrays.items():
        np.save(context.output / f"{name}.npy", array, allow_pickle=False)
    return {"arrays": {name: list(array.shape) for name, array in arrays.items()}}


@by_role
def on_features(config: ProtocolConfig, context: Context, *, features: Artifact) -> Result:
    """Stage: → {"values": {metric: {value, low, high, chance}}, "n", "details"}.

    low and high: 95 % bootstrap; chance: what a guess reaches, or None; n: test examples. Or
    {"not_available": why}.
    """
    import numpy as np
    import torch

    if "not_available" in features.metrics:
        return {"not_available": features.metrics["not_available"]}
    torch.set_num_threads(config.threads)
    arrays = {n: np.load(features.path / f"{n}.npy") for n in features.metrics["arrays"]}
    protocol = protocol_named(config.protocol)
    assert isinstance(protocol, OnFeatures)
    return protocol.measure(config, arrays)


@by_role
def on_model(
    config: ProtocolConfig, context: Context, *, model: ModelFolder, data: Mapping[str, Artifact]
) -> Result:
    """Stage: as `on_features`, from the model and the data."""
    from pipelines.evaluation.features import lacking

    started = _start(config, model, data, context)
    if isinstance(started, str):
        return {"not_available": started}
    encoder, items = started
    protocol = protocol_named(config.protocol)
    assert isinstance(protocol, OnModel)
    if lack := lacking(encoder, *protocol.needs(items)):
        return {"not_available": lack}
    result = protocol.measure(Subject(config, encoder, items, context))
    give_freed_memory_back()
    return result


def _start(
    config: FeaturesConfig | ProtocolConfig,
    model: ModelFolder,
    data: Mapping[str, Artifact],
    context: Context,
) -> tuple[Encoder, Usable] | str:
    """The model and the data, or why there is nothing to do."""
    import torch

    from momo.evaluation.load import load_encoder
    from pipelines.evaluation.features import load_place

    torch.set_num_threads(config.threads)
    keep_freed_memory()
    try:
        items = load_place(config.place, data)
    except UserError as error:  # its digest changes when it is mended
        return str(error)
    if isinstance(items, NotAvailable):
        return items.reason
    if items.note:
        context.progress({"note": items.note})
    return load_encoder(model.path, device=config.device, precision=config.precision), items
