"""The stages of data as a graph names them. Each loads what it works with when it runs: a plan does
without Arrow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from momo_platform.data.config import MixConfig, PrepareConfig
from momo_platform.stages.stage import Artifact, Context


def run_prepare_images(
    config: PrepareConfig, inputs: Mapping[str, Artifact], context: Context
) -> Mapping[str, Any] | None:
    """See prepare.py."""
    from momo_platform.data import prepare

    return prepare.run_prepare_images(config, inputs, context)


def run_prepare_text(
    config: PrepareConfig, inputs: Mapping[str, Artifact], context: Context
) -> Mapping[str, Any] | None:
    """See prepare.py."""
    from momo_platform.data import prepare

    return prepare.run_prepare_text(config, inputs, context)


def run_prepare_pairs(
    config: PrepareConfig, inputs: Mapping[str, Artifact], context: Context
) -> Mapping[str, Any] | None:
    """See prepare.py."""
    from momo_platform.data import prepare

    return prepare.run_prepare_pairs(config, inputs, context)


def run_mix_images(
    config: MixConfig, inputs: Mapping[str, Artifact], context: Context
) -> Mapping[str, Any] | None:
    """See mix.py."""
    from momo_platform.data import mix

    return mix.run_mix_images(config, inputs, context)


def run_mix_text(
    config: MixConfig, inputs: Mapping[str, Artifact], context: Context
) -> Mapping[str, Any] | None:
    """See mix.py."""
    from momo_platform.data import mix

    return mix.run_mix_text(config, inputs, context)


def run_mix_pairs(
    config: MixConfig, inputs: Mapping[str, Artifact], context: Context
) -> Mapping[str, Any] | None:
    """See mix.py."""
    from momo_platform.data import mix

    return mix.run_mix_pairs(config, inputs, context)
