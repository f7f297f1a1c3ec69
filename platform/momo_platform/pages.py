"""Pages from Jinja templates: escaped, and without a name that is not given."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def template(folder: Path, name: str) -> Any:
    """The template `name` of `folder`; it may include others from there."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(name)
