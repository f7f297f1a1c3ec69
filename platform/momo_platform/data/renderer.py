"""SVG, drawn by resvg.

A deep nesting overflows its stack and a filter may run for hours; neither can be caught inside of
the process, so corpora are drawn in one of their own (contained.py).
"""

from __future__ import annotations

from xml.parsers import expat

_DRAWN_BY_REFERENCE = {
    *("image", "feImage", "use", "pattern", "linearGradient", "radialGradient", "filter"),
    *("textPath", "tref"),
}


def draw(svg: str, size: int) -> bytes:
    """A PNG that fits into `size` × `size`. Raises ValueError where it can't be drawn."""
    import resvg_py

    if (place := _outside(svg)) is not None:
        raise ValueError(f"it draws {place[:200]!r}, which is outside of it; embed it as data:")
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size))


def _outside(svg: str) -> str | None:
    """What an SVG draws that is not in it, or None. Links to click on do not count. Raises
    ValueError for what is no XML."""
    found: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if name.rpartition(":")[2] not in _DRAWN_BY_REFERENCE:
            return
        for key, value in attributes.items():
            inside = value.strip()[:5].lower()
            if (
                key.rpartition(":")[2] == "href"
                and inside
                and not inside.startswith(("#", "data:"))
            ):
                found.append(value.strip())

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    try:
        parser.Parse(svg, True)
    except expat.ExpatError as error:
        raise ValueError(str(error)) from None
    return found[0] if found else None
