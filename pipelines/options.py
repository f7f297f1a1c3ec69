"""The job's config from a command line: presets, stages by name, short forms of options."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import replace

from momo_platform.stages import UserError
from pipelines.config import PipelineConfig, TrainingStage
from pipelines.initial_model import with_shape_of_initial
from pipelines.modalities import MODALITIES
from pipelines.option_names import with_whole_names
from pipelines.presets import CHOICES, PRESETS
from pipelines.quick_options import parse_quickly

ABOUT = """The whole job: corpora, training stages, evaluation, export, report.

Any field of the config can be set, e.g. --stage1-image.train.steps 1000, or --every.train.seed 1
for every stage.
"""
DEFAULT_PRESET = "demo"  # MOMO_PRESET in the environment names another
_BATCH_SIZE = re.compile(r"--training\.([^.=]+)\.train\.batch[-_]sizes\.([^.=]+)")
_RUN_OPTIONS = (
    *("storage", "cluster", "plan", "gpu", "mfu"),
    *("only", "until", "rerun", "ingest", "verbose"),
)


def preset_of(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The preset's name and the other arguments. Raises UserError for an unknown name."""
    values, rest = _taken(arguments, "--preset", most=1)
    name = values[-1] if values else os.environ.get("MOMO_PRESET", DEFAULT_PRESET)
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f", did you mean {near[0]}?" if near else ""
        told = f"--preset {name!r}: no such preset{hint or '.'} There are {', '.join(PRESETS)}"
        raise UserError(told)
    return name, rest


def _taken(
    arguments: Sequence[str], option: str, most: int | None = None
) -> tuple[list[str], list[str]]:
    """An option's values, at most `most` a time, and the other arguments."""
    values: list[str] = []
    rest: list[str] = []
    room = 0  # how many more values the option that stands before may take
    for argument in arguments:
        if argument == option:
            room = most or len(arguments)
        elif argument.startswith(option + "="):
            values.append(argument.partition("=")[2])
            room = 0
        elif room and not argument.startswith("--"):
            values.append(argument)
            room -= 1
        else:
            rest.append(argument)
            room = 0
    return values, rest


def with_stages(config: PipelineConfig, chosen: Sequence[str]) -> PipelineConfig:
    """The config with these training stages, in this order: names of the preset's, or NEW=NAME for
    another one that starts as a copy of NAME. None chosen: as the preset has them.

    Raises UserError for a name that is none and for one that comes twice.
    """
    if not chosen:
        return config
    training: dict[str, TrainingStage] = {}
    for text in (part for entry in chosen for part in entry.split(",") if part):
        new, _, of = text.rpartition("=")
        if of not in config.training:
            near = difflib.get_close_matches(of, config.training, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(
                f"--stages {text}: no such training stage; {hint}preset {config.preset} has "
                f"{', '.join(config.training)}, and NEW=NAME makes another of one"
            )
        if (new or of) in training:
            raise UserError(f"--stages: {new or of} comes twice; write NEW={of} for another one")
        training[new or of] = config.training[of]
    return replace(config, training=training)


def parse(arguments: Sequence[str]) -> PipelineConfig:
    """The config from the command line. Unknown options end the program with the nearest name."""
    name, rest = preset_of(with_whole_names(arguments))
    choices, rest = _choices(name, rest)
    stages, rest = _taken(rest, "--stages")
    default = with_stages(PRESETS[name](**choices), stages)
    rest = _short_options(_for_every_stage(rest, default), default)
    default = _with_batch_sizes(default, rest)
    initial, _ = _taken(rest, "--initial-model", most=1)
    if initial:
        places, _ = _taken(rest, "--run.storage", most=1)
        run = replace(default.run, storage=places[-1]) if places else default.run
        default = with_shape_of_initial(replace(default, initial_model=initial[-1], run=run))
    if (config := parse_quickly(rest, default)) is not None:
        return config
    import tyro

    return tyro.cli(
        PipelineConfig,
        args=rest,
        default=default,
        prog="momo train",
        description=f"{ABOUT}\nDefaults are those of preset {name} "
        f"(--preset {{{','.join(PRESETS)}}}). {_told_choices()}",
        config=(tyro.conf.AvoidSubcommands,),
    )


def _told_choices() -> str:
    """For `--help-all`, since no field of the config has them."""
    return " ".join(
        f"Preset {preset} also takes "
        + " and ".join(f"--{option} {{{','.join(names)}}}" for option, names in of.items())
        + "."
        for preset, of in CHOICES.items()
    )


def _choices(preset: str, arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """What is chosen of a preset by a name (`--budget hour`), and the other arguments. Raises
    UserError for a preset that has no such choice, and for a name without a value."""
    chosen: dict[str, str] = {}
    rest = [*arguments]
    for option in dict.fromkeys(option for of in CHOICES.values() for option in of):
        given = [a for a in rest if a.partition("=")[0] == f"--{option}"]
        values, rest = _taken(rest, f"--{option}", most=1)
        if not given:
            continue
        if option not in CHOICES.get(preset, ()):
            having = ", ".join(name for name, of in CHOICES.items() if option in of)
            raise UserError(f"--{option}: preset {preset} has none; --preset {having} has")
        if not values:
            known = ", ".join(CHOICES[preset][option])
            raise UserError(f"--{option}: give one of {known}")
        chosen[option] = values[-1]
    return chosen, rest


def _with_batch_sizes(config: PipelineConfig, arguments: Sequence[str]) -> PipelineConfig:
    """The config with a place for each batch size that is named: a parser of options has none for
    modalities that a stage did not have before."""
    training = dict(config.training)
    for stage, modality in (m.groups() for m in map(_BATCH_SIZE.match, arguments) if m):
        if stage in training and modality in MODALITIES:
            train = training[stage].train
            sizes = {**train.batch_sizes}
            sizes.setdefault(modality, 1)
            training[stage] = replace(training[stage], train=replace(train, batch_sizes=sizes))
    return replace(config, training=training)


def _for_every_stage(arguments: Sequence[str], config: PipelineConfig) -> list[str]:
    """`--every.train.…` said once for each training stage; `--keep` is `--every.train.keep`."""
    result: list[str] = []
    copied: list[str] = []  # an option of every stage, with its values
    for argument in (*arguments, "--"):
        if argument.partition("=")[0] == "--keep":
            argument = argument.replace("--keep", "--every.train.keep", 1)
        if copied and not argument.startswith("--"):
            copied.append(argument)
            continue
        for name in config.training if copied else ():
            result += [copied[0].replace("--every.", f"--training.{name}.", 1), *copied[1:]]
        copied = [argument] if argument.startswith("--every.") else []
        result += [argument] if not copied else []
    return result[:-1]


def _short_options(arguments: Sequence[str], config: PipelineConfig) -> list[str]:
    """`--plan` and its kind stand for `--run.plan`, `--tasks` and `--data` for `--evaluation.…`,
    `--<stage>.…` for `--training.<stage>.…`; a stage may be named by what stands before its first
    dash (`--stage3.…`)."""
    stages = {name.partition("-")[0]: name for name in reversed(list(config.training))}
    stages |= {name: name for name in config.training}
    result = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        head, dot, path = name.removeprefix("--").partition(".")
        if name in ("--tasks", "--data"):
            name = "--evaluation." + name.removeprefix("--")
        elif name == "--initial-weights":
            name = "--initial-model"
        elif name.startswith("--") and dot and head in stages:
            name = f"--training.{stages[head]}.{path}"
        elif name.startswith("--") and head.removeprefix("no-") in _RUN_OPTIONS and not dot:
            name = "--run." + head
        result.append(name + equals + value)
    return result
