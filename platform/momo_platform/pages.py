"""Pages from Jinja templates: escaped, and without a name that is not given."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_BREAK = re.compile(r"(?<=[/_.=])(?=\w)")


def template(folder: Path, name: str) -> Any:
    """The template `name` of `folder`; it may include others from there, and `style.html.jinja`,
    the style of all pages. The filter `breakable` lets a long name break after `/`, `_`, `.`, `=`;
    `breakable_label` does so in an attribute.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["breakable"] = _breakable
    environment.filters["breakable_label"] = lambda text: _BREAK.sub("\u200b", str(text))
    return environment.get_template(name)


def _breakable(text: Any) -> Any:
    from markupsafe import Markup, escape

    return Markup(_BREAK.sub("<wbr>", str(escape(text))))
