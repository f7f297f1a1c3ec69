"""Pages from Jinja templates: escaped, and without a name that is not given."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def template(folder: Path, name: str) -> Any:
    """The template `name` of `folder`; it may include others from there, and `style.html.jinja`,
    the style of all pages."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name)
