"""A task of mteb, by its name in mteb or in a module of the user's. Its data are loaded when it is
measured, by mteb."""

from __future__ import annotations

import difflib
import importlib.util
from typing import Any

from momo_platform.stages import UserError
from pipelines.evaluation.items import SelfContained


def named(name: str, file: str) -> SelfContained:
    """`file`: a module's path, or `mteb`. Raises UserError for a name that is not there."""
    import mteb  # pyright: ignore[reportMissingImports]
    from mteb.abstasks import AbsTask  # pyright: ignore[reportMissingImports]

    if file == "mteb":
        try:
            return SelfContained(mteb.get_task(name))
        except KeyError as error:
            near = difflib.get_close_matches(name, _known(mteb), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"--tasks mteb/{name}: mteb has no such task{hint}") from error
    found = {
        kind.metadata.name: kind
        for kind in vars(_module(file)).values()
        if isinstance(kind, type) and issubclass(kind, AbsTask) and hasattr(kind, "metadata")
    }
    if name not in found:
        raise UserError(
            f"--tasks mteb/{file}:{name}: it has {', '.join(found) or 'no task'}; give one's "
            "metadata.name"
        )
    return SelfContained(found[name]())


def _known(mteb: Any) -> list[str]:
    return [task.metadata.name for task in mteb.get_tasks()]


def _module(file: str) -> Any:
    spec = importlib.util.spec_from_file_location("given_mteb_tasks", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
