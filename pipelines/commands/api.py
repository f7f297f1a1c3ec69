"""Every command as a Python call: the same options by name, results instead of printed tables.

    import momo_ray

    run = momo_ray.train(pair="captions.csv", settings={"stage3-pair.train.steps": 500})
    run.numbers["tasks"]["own/retrieval"]["value"]
    run.model.similarity(["a red apple"], ["apple.png"])

`image`, `text`, `pair`: where rows of a modality come from, as `--image.source`, one or several;
another's by its name. `preset` is demo unless it is named. `settings` takes any field of the config
by its dotted path, as `--help-all` lists them (with `_` or `-`); `every.…` sets a field of every
training stage. Raises UserError for bad input and StageFailed where a stage fails; what was
finished is not done again.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from momo_platform.stages import Plan, UserError
from momo_platform.stages.manifest import Manifest
from pipelines.artifacts import ModelFolder
from pipelines.modalities import MODALITIES
from pipelines.option_names import todays_path

if TYPE_CHECKING:
    import os

    import numpy as np

    from momo.export import Embedder
    from momo.pictures import Picture
    from momo_platform.sweeps.rows import Results

    Place = str | os.PathLike[str]
    Places = Place | Sequence[Place]

DEFAULT_MODEL = "runs/latest/model"
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """A finished job. `folder` holds `report/` and `model/`; `numbers` is the report's
    `metrics.json`: `tasks`, `groups`, `stages`, `corpora`, `training`."""

    folder: Path
    numbers: Mapping[str, Any]

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / "report" / "index.html"

    @cached_property
    def model(self) -> Embedder:
        """The trained model, loaded when it is first asked for."""
        from momo.export import load_embedder

        return load_embedder(ModelFolder(self.folder).path)


def _options(given: Mapping[str, Any], settings: Mapping[str, Any] | None) -> list[str]:
    """A command line of the options that are given, by name, and of `settings`; those that are
    empty are left out."""
    from momo_platform.overrides import as_options

    return as_options(
        {name: value for name, value in given.items() if value} | dict(settings or {})
    )


def _sources(**given: Places) -> dict[str, Places]:
    """Options of the modalities' sources. Raises TypeError for a name that is no modality's."""
    if unknown := [name for name in given if todays_path(name) not in MODALITIES]:
        known = ", ".join(MODALITIES)
        raise TypeError(f"{unknown[0]}=: no such argument, and none of the modalities {known}")
    return {f"{name}.source": place for name, place in given.items()}


def train(
    *,
    preset: str = "",
    image: Places = "",
    text: Places = "",
    pair: Places = "",
    stages: Sequence[str] = (),
    initial_model: Place = "",
    tasks: Sequence[str] = (),
    storage: Place = "runs",
    cluster: str = "auto",
    settings: Mapping[str, Any] | None = None,
    verbose: bool = False,
    **others: Places,
) -> Run:
    """`momo train`: prepare, train, evaluate, export, report."""
    from momo_platform.stages import open_storage
    from pipelines import full

    given = {
        "storage": storage,
        "cluster": cluster,
        "preset": preset,
        **_sources(image=image, text=text, pair=pair, **others),
        "stages": tuple(stages),
        "initial-model": initial_model,
        "tasks": tuple(tasks),
        "run.verbose": verbose,
    }
    arguments = _options(given, settings)
    config = _parsed(full.parse, arguments)
    planned = full.job(config, arguments)["report"]
    artifact = open_storage(config.run.storage).artifact("report", planned.fingerprint)
    if artifact is None:
        raise UserError("no report: `settings` leave it out (run.only, run.until)")
    return Run(artifact.path, _numbers(artifact.path))


def plan(
    *,
    preset: str = "",
    image: Places = "",
    text: Places = "",
    pair: Places = "",
    stages: Sequence[str] = (),
    initial_model: Place = "",
    tasks: Sequence[str] = (),
    storage: Place = "runs",
    settings: Mapping[str, Any] | None = None,
    **others: Places,
) -> Plan:
    """`momo plan`: what `train` would run and why. Without Ray and torch."""
    from pipelines import full

    given = {
        "storage": storage,
        "preset": preset,
        **_sources(image=image, text=text, pair=pair, **others),
        "stages": tuple(stages),
        "initial-model": initial_model,
        "tasks": tuple(tasks),
        "run.plan": True,
    }
    return full.plan_of(_parsed(full.parse, _options(given, settings)))


def evaluate(
    models: Mapping[str, Place] | Place,
    *,
    tasks: Sequence[str] = (),
    image: Places = "",
    text: Places = "",
    pair: Places = "",
    data: Place = "",
    storage: Place = "runs",
    cluster: str = "auto",
    settings: Mapping[str, Any] | None = None,
    **others: Places,
) -> Mapping[str, Any]:
    """`momo evaluate`: the report's numbers; `models` of them maps a name to its tasks."""
    from pipelines import evaluate as command

    named = models if isinstance(models, Mapping) else {"": models}
    given = {
        "model": tuple(f"{name}={place}" if name else place for name, place in named.items()),
        "storage": storage,
        "cluster": cluster,
        "data": data,
        **_sources(image=image, text=text, pair=pair, **others),
        "tasks": tuple(tasks),
    }
    arguments = _options(given, settings)
    return _numbers(command.run(_parsed(command.parse, arguments), arguments))


def embed(
    texts: Sequence[str] | None = None,
    images: Sequence[Picture] | None = None,
    *,
    model: Place = DEFAULT_MODEL,
    device: str | None = None,
) -> np.ndarray:
    """`momo embed`: unit vectors float32 [N, embed_dim] (`momo.load(model).embed`)."""
    import momo

    return momo.load(model, device).embed(texts=texts, images=images)


def embed_corpus(
    *,
    model: Place = DEFAULT_MODEL,
    output: Place = "",
    preset: str = "",
    image: Place = "",
    text: Place = "",
    pair: Place = "",
    storage: Place = "runs",
    cluster: str = "auto",
    settings: Mapping[str, Any] | None = None,
    **others: Place,
) -> str:
    """`momo embed` of a source: the folder or URI with the vectors' Parquet files."""
    from pipelines import embed_corpus as command

    given = {
        "model": model,
        "output": output,
        "preset": preset,
        "storage": storage,
        "cluster": cluster,
        **_sources(image=image, text=text, pair=pair, **others),
    }
    arguments = _options(given, settings)
    return command.make_vectors(_parsed(command.parse, arguments), arguments)


def index(
    *,
    model: Place = DEFAULT_MODEL,
    pair: Places = "",
    storage: Place = "runs",
    cluster: str = "auto",
    settings: Mapping[str, Any] | None = None,
    **others: Places,
) -> Path:
    """`momo index`: the index's folder, for `serve`."""
    from pipelines import index as command

    given = {
        "model": model,
        "storage": storage,
        "cluster": cluster,
        "pair.source": pair,
        **_sources(**others),
    }
    arguments = _options(given, settings)
    return Path(command.make_index(_parsed(command.parse, arguments), arguments))


@contextlib.contextmanager
def serve(
    *,
    model: Place = DEFAULT_MODEL,
    index: Place = "",
    port: int = 8000,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[str]:
    """`momo serve` for the length of a `with` block: its address."""
    from pipelines import serve as command

    arguments = _options({"model": model, "port": port, "index": index}, settings)
    with command.serving(_parsed(command.parse, arguments)) as address:
        yield address


def export(
    output: Place,
    *,
    model: Place = DEFAULT_MODEL,
    licence: str = "",
    format: str = "transformers",  # noqa: A002 - the option's name
    precision: str = "fp32",
) -> Path:
    """`momo export`: the model as transformers loads it, or for an engine, with a card; returns the
    folder."""
    from pipelines import to_transformers as command

    given = {"model": model, "output": output, "licence": licence}
    given |= {"format": format, "precision": precision}
    if command.main(_options(given, None)):
        raise UserError(f"export of {model} failed; the message says why")
    return Path(output)


def push(
    repo: str,
    *,
    model: Place = DEFAULT_MODEL,
    licence: str = "",
    private: bool = False,
    dry_run: bool = False,
) -> None:
    """`momo push`: the model to the hub, or with `dry_run` what that would send, printed."""
    from pipelines import push as command

    given = _options({"model": model, "repo": repo, "licence": licence}, None)
    flags = {"--private": private, "--dry-run": dry_run}
    if command.main([*given, *(flag for flag, on in flags.items() if on)]):
        raise UserError(f"push of {model} failed; the message says why")


def artifacts(storage: Place = "runs") -> list[Manifest]:
    """`momo artifacts list`: what there is, newest first within a name."""
    from momo_platform.stages import open_storage
    from momo_platform.stages.catalog import Catalog

    return Catalog(open_storage(storage)).manifests


def sweep(
    experiment: Place,
    *,
    budget: str = "hour",
    seeds: Sequence[int] = (),
    only: Sequence[str] = (),
    storage: Place = "runs",
    settings: Mapping[str, Any] | None = None,
) -> Results:
    """`momo sweep`: the rows of an experiment by its name or its file."""
    from momo_platform.stages import open_storage
    from momo_platform.sweeps.folder import sweep_folder
    from momo_platform.sweeps.rows import read_results
    from pipelines.commands.dispatch import main

    options = {"name": f"{Path(experiment).stem}-{budget}"} | dict(settings or {})
    given = {"budget": budget, "storage": storage, "seeds": tuple(seeds), "only": tuple(only)}
    if main(["sweep", str(experiment), *_options(given, options)]):
        raise UserError(f"sweep {experiment} did not end well; the message above says why")
    folder = sweep_folder(open_storage(storage), str(options["name"]))
    return read_results(folder / "results.json")


def _parsed(parse: Callable[[list[str]], T], arguments: list[str]) -> T:
    """What the parser makes of the arguments. Raises UserError where it would end the program."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
            return parse(arguments)
    except SystemExit:
        lines = (line.strip("│╭╮╰╯─ ") for line in told.getvalue().splitlines())
        raise UserError(" ".join(line for line in lines if line)) from None


def _numbers(folder: Path) -> Mapping[str, Any]:
    return json.loads((folder / "report" / "metrics.json").read_text(encoding="utf-8"))
