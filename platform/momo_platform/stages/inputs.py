"""A stage's inputs as its function takes them: by role, each as what lies in the artifact."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from momo_platform.stages.storage.place import Place

if TYPE_CHECKING:
    from momo_platform.stages.stage import Artifact, Context

Inputs = TypeVar("Inputs")
Metrics = TypeVar("Metrics")
_Run = Callable[[Any, Mapping[str, "Artifact"], "Context"], Metrics]


@dataclass(frozen=True)
class ArtifactFolder:
    """The folder of an artifact. A class of what a stage leaves names what is `Within`."""

    artifact: Path


@dataclass(frozen=True)
class ArtifactPlace:
    """Where an artifact lies, read there and not fetched. A class of what a stage leaves says what
    it reads."""

    place: Place

    def __init__(self, place: Place | Path) -> None:
        object.__setattr__(self, "place", Place.of(place))


@dataclass(frozen=True)
class Within:
    """A file or folder in an ArtifactFolder: as an attribute of its class, the path."""

    name: str

    def __get__(self, folder: ArtifactFolder, _: type | None = None) -> Path:
        return folder.artifact / self.name


def by_role(run: Callable[..., Metrics]) -> _Run[Metrics]:
    """Decorates a stage's function `run(config, context, *, …)`: its keywords are the roles.

    One annotated with an ArtifactFolder or ArtifactPlace gets that of the artifact there, another
    the `Artifact`; `Mapping[str, …]` all in roles that have no keyword. With a default a role may
    be left out.
    `Stage` refuses roles that don't fit.
    """
    return _declared(run, run, lambda inputs, _: _keywords(run, inputs))


def typed(kind: Callable[..., Inputs], inputs: Mapping[str, Artifact]) -> Inputs:
    """`kind`, whose keywords are roles, of the artifacts there."""
    return kind(**_keywords(kind, inputs))


def by_role_later(
    kind: type[Inputs],
) -> Callable[[Callable[[Any, Context, Callable[[], Inputs]], Metrics]], _Run[Metrics]]:
    """As `by_role`, for a stage that is started early: `run(config, context, inputs)` gets what
    waits for the inputs and returns them, also on workers, as `kind`: a dataclass (kw_only) whose
    fields are annotated as there."""

    def later(_: Any, context: Context) -> dict[str, Any]:
        return {"inputs": functools.partial(_waited, kind, context.resolve_inputs)}

    return lambda run: _declared(run, kind, later)


def _declared(
    run: Callable[..., Metrics], takes: Callable[..., Any], keywords: Callable[..., dict[str, Any]]
) -> _Run[Metrics]:
    @functools.wraps(run)  # its name, too, by which it pickles
    def on_artifacts(config: Any, inputs: Mapping[str, Artifact], context: Context) -> Metrics:
        return run(config, context, **keywords(inputs, context))

    vars(on_artifacts)["takes"] = takes
    return on_artifacts


def _waited(kind: type[Inputs], resolve: Callable[[], Mapping[str, Artifact]]) -> Inputs:
    return typed(kind, resolve())


@functools.cache
def _roles(takes: Callable[..., Any]) -> tuple[dict[str, tuple[type, bool]], dict[str, type]]:
    """Role → its type, and whether it must be there; the keyword of all others → their type."""
    hints, named, others = get_type_hints(takes), {}, {}
    for name, keyword in inspect.signature(takes).parameters.items():
        if keyword.kind is not keyword.KEYWORD_ONLY:
            continue
        if get_origin(hints[name]) is Mapping:
            others[name] = get_args(hints[name])[1]
        else:
            kind, *_ = (*get_args(hints[name]), hints[name])  # of `T | None`, T
            named[name] = kind, keyword.default is keyword.empty
    return named, others


def _keywords(takes: Callable[..., Any], inputs: Mapping[str, Artifact]) -> dict[str, Any]:
    def of_kind(kind: type, given: Artifact) -> Any:
        if issubclass(kind, ArtifactPlace):
            return kind(given.place)
        return kind(given.path) if issubclass(kind, ArtifactFolder) else given

    named, others = _roles(takes)
    found: dict[str, Any] = {n: of_kind(k, inputs[n]) for n, (k, _) in named.items() if n in inputs}
    for name, kind in others.items():
        found[name] = {role: of_kind(kind, inputs[role]) for role in inputs if role not in named}
    return found


def check_roles(stage: str, run: Callable[..., Any], given: Collection[str]) -> None:
    """Raise TypeError for roles of `stage` that are not those of `run`."""
    if (takes := getattr(run, "takes", None)) is None:
        return
    named, others = _roles(takes)
    wrong = [f"{n!r} is missing" for n, (_, needed) in named.items() if needed and n not in given]
    wrong += [f"there is no {n!r}" for n in given if n not in named and not others]
    if wrong:
        roles = ", ".join(named) or "none"
        raise TypeError(f"inputs of stage {stage!r}: {'; '.join(wrong)}; its roles are: {roles}")
