"""A stage that copies ready shards: an artifact to read from."""

import shutil
from dataclasses import dataclass, field

from momo_platform.stages import Stage


@dataclass(frozen=True)
class Copy:
    folder: str = field(metadata={"semantic": False})


def copy_shards(config, inputs, context):
    shutil.copytree(config.folder, context.output / "shards")


def stage(folder):
    return Stage("shards", copy_shards, Copy(str(folder)))
