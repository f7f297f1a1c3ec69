"""The stages of an evaluation: data in, values with intervals out. Torch comes when one runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from momo_platform.stages import Artifact, Context, UserError
from pipelines.evaluation.configs import FeaturesConfig, ProtocolConfig
from pipelines.evaluation.items import NotAvailable, Usable
from pipelines.evaluation.protocol import OnFeatures, OnModel, Subject
from pipelines.evaluation.protocols import protocol_named
from pipelines.evaluation.results import Result

if TYPE_CHECKING:
    from momo.evaluation.encoder import Encoder


def features(
    config: FeaturesConfig, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    """Stage: inputs model and what the data needs → arrays, `.npy`; once for all tasks."""
    import numpy as np

    from pipelines.evaluation.features import arrays_of

    started = _start(config, inputs)
    arrays = started if isinstance(started, str) else arrays_of(*started, config, context)
    if isinstance(arrays, str):
        return {"not_available": arrays}
    for name, array in arrays.items():
        np.save(context.output / f"{name}.npy", array, allow_pickle=False)
    return {"arrays": {name: list(array.shape) for name, array in arrays.items()}}


def on_features(config: ProtocolConfig, inputs: Mapping[str, Artifact], context: Context) -> Result:
    """Stage: input features → {"values": {metric: {value, low, high, chance}}, "n", "details"}.

    low and high: 95 % bootstrap; chance: what a guess reaches, or None; n: test examples. Or
    {"not_available": why}.
    """
    import numpy as np
    import torch

    artifact = inputs["features"]
    if "not_available" in artifact.metrics:
        return {"not_available": artifact.metrics["not_available"]}
    torch.set_num_threads(config.threads)
    arrays = {n: np.load(artifact.path / f"{n}.npy") for n in artifact.metrics["arrays"]}
    protocol = protocol_named(config.protocol)
    assert isinstance(protocol, OnFeatures)
    return protocol.measure(config, arrays)


def on_model(config: ProtocolConfig, inputs: Mapping[str, Artifact], context: Context) -> Result:
    """Stage: as `on_features`, from the model and the data."""
    from pipelines.evaluation.features import lacking

    started = _start(config, inputs)
    if isinstance(started, str):
        return {"not_available": started}
    encoder, items = started
    protocol = protocol_named(config.protocol)
    assert isinstance(protocol, OnModel)
    if lack := lacking(encoder, *protocol.needs(items)):
        return {"not_available": lack}
    return protocol.measure(Subject(config, encoder, items, context))


def _start(
    config: FeaturesConfig | ProtocolConfig, inputs: Mapping[str, Artifact]
) -> tuple[Encoder, Usable] | str:
    """The model and the data, or why there is nothing to do."""
    import torch

    from momo.evaluation.load import load_encoder
    from pipelines.evaluation.features import load_place

    torch.set_num_threads(config.threads)
    try:
        items = load_place(config.place, inputs)
    except UserError as error:  # its digest changes when it is mended
        return str(error)
    if isinstance(items, NotAvailable):
        return items.reason
    folder = inputs["model"].path / "model"
    return load_encoder(folder, device=config.device, precision=config.precision), items
