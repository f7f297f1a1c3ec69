"""Names of options: short ones made whole, and those of earlier versions, which are still taken,
with a hint."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import TypeVar

from momo_platform.stages import UserError
from pipelines.config import SourceOptions
from pipelines.modalities import MODALITIES

T = TypeVar("T")
_TODAY = {  # a modality has one name, singular
    **{"images": "image", "pairs": "pair"},
    **{"stage1-images": "stage1-image", "stage3-pairs": "stage3-pair"},
    "sources": "source",  # which takes several
}
_STAGES = re.compile(
    r"\b((stage1|prepare|mix|own|demo)-image|(stage3|prepare|mix|own|demo)-pair)s\b"
)
_NAMING = ("--stages", "--only", "--until", "--rerun", "--evaluation.stages")
"""Options whose values are stages; the middle three are `--run.…` too."""
_OF_SOURCES = {f.name for f in fields(SourceOptions)}
_told: set[str] = set()


def with_whole_names(arguments: Iterable[str]) -> list[str]:
    """A command line with `--image.source` as the field's whole name, `--corpora.image.source`, and
    with today's names. Raises UserError for a name that is almost a modality's."""
    result = []
    for argument in with_todays_names(arguments):
        head, dot, path = argument.removeprefix("--").partition(".")
        is_option = argument.startswith("--") and bool(dot)
        is_short = is_option and head in MODALITIES
        if is_option and not is_short and path.partition("=")[0].replace("-", "_") in _OF_SOURCES:
            for near in difflib.get_close_matches(head, MODALITIES, n=1):
                raise UserError(f"{argument}: no such option, did you mean --{near}.{path}?")
        result.append(f"--corpora.{head}.{path}" if is_short else argument)
    return result


def todays_path(path: str) -> str:
    """`training.stage3-pairs.task.mlm`, `images.source`: a field's path with today's names."""
    return ".".join(_TODAY.get(part, part) for part in path.split("."))


def todays_settings(settings: Mapping[str, T]) -> dict[str, T]:
    """A config's settings by path, with today's names."""
    return {todays_path(path): value for path, value in settings.items()}


def todays_stages(text: str) -> str:
    """A value that names stages, with today's names."""
    return _STAGES.sub(r"\1", text)


def with_todays_names(arguments: Iterable[str]) -> list[str]:
    """A command line with today's names; on standard error a line for each that was another."""
    result: list[str] = []
    naming = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument.startswith("--"):
            naming = name.replace("--run.", "--") in _NAMING
            name = f"--{todays_path(name.removeprefix('--'))}"
            now = name + equals + (todays_stages(value) if naming else value)
        else:
            now = todays_stages(argument) if naming else argument
        if now != argument and argument not in _told:
            _told.add(argument)
            print(f"{argument} is an old name, taken as {now}: write that", file=sys.stderr)
        result.append(now)
    return result
