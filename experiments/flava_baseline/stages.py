"""FLAVA's stages for the graph: visual words, training. Light: torch comes on the worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from experiments.flava_baseline.config import CodebookConfig, FlavaRecipe
from momo_platform.data.artifacts import Mixture, PreparedRows
from momo_platform.stages import Context, UserError
from momo_platform.stages.inputs import ArtifactFolder, Within, by_role, by_role_later
from momo_platform.training.stage import Build, run_torch_trainer
from pipelines.training import TrainingInputs


class Codebook(ArtifactFolder):
    """Visual words, float32 [K, 3 p²]."""

    file = Within("codes.npy")


@by_role
def run_codebook(
    config: CodebookConfig, context: Context, *, image: Mixture, rows: PreparedRows
) -> dict[str, Any]:
    """Stage: → `codes.npy`, of the pictures that a training would read first.

    FLAVA's own targets are those of DALL-E's discrete VAE, which is on a hub; k-means of patches
    stands in for it, trained on the same training pictures.

    Each patch counts once, in float64, so that every processor finds the same codes. Blank patches
    are many and equal: with them k-means makes equal centres, and how a processor rounds decides
    between them, and by that everything after.
    """
    import numpy as np
    import torch
    from sklearn.cluster import MiniBatchKMeans

    from experiments.flava_baseline.task import normalised_patches
    from momo.embeddings import patchify
    from momo.transforms import decode, stack_pictures
    from momo_platform.data.dataset import open_rows
    from momo_platform.data.order import SampleOrder

    shards = open_rows(image, rows)
    order = SampleOrder(shards.sources, 64, config.seed)
    chosen = np.unique(order.rows_at(0, config.pictures)[1])
    pictures = [decode(raw) for raw in shards.read(chosen).column("image").to_pylist()]
    pixels = torch.from_numpy(stack_pictures(pictures, config.image_size))
    side = config.patch_size
    raw = patchify(pixels, side).flatten(0, 1).numpy()
    _, distinct = np.unique(raw, axis=0, return_index=True)
    patches = normalised_patches(pixels, side, torch.float64).flatten(0, 1).numpy()[distinct]
    if len(patches) < config.size:
        raise UserError(
            f"{len(patches)} distinct patches for {config.size} visual words: more pictures, or a "
            "smaller codebook"
        )
    make: Any = MiniBatchKMeans
    means = make(config.size, random_state=config.seed, n_init=1, batch_size=4096)
    means.fit(patches)
    codes = means.cluster_centers_.astype(np.float32)
    np.save(Codebook(context.output).file, codes, allow_pickle=False)
    used = len(np.unique(means.labels_))
    return {"patches": len(patches), "used": used, "inertia": float(means.inertia_)}


@dataclass(frozen=True, kw_only=True)
class FlavaInputs(TrainingInputs):
    """As MoMo's, and what is predicted of pictures."""

    codebook: Codebook


def _builder() -> Build:
    from experiments.flava_baseline.build import build_setup

    return build_setup


@by_role_later(FlavaInputs)
def run_flava_training(
    config: FlavaRecipe, context: Context, inputs: Callable[[], FlavaInputs]
) -> dict[str, Any]:
    """Stage: as `pipelines.training.run_training`; writes `model/` in `transformers`' format with
    tokenizer and processor."""
    return run_torch_trainer(
        builder=_builder,
        recipe=config,
        train=config.train,
        resolve_inputs=inputs,
        context=context,
    )
