"""Line and bar charts as inline SVG and pictures as data URIs: a page without outside resources."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from PIL import Image

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 360, 180, 44, 22, 8
_COLOURS = ("#2f6fde", "#d9622b", "#2e9e6b", "#8a4fd0", "#c23a6b", "#7a7a2a")

Points = Sequence[tuple[float, float]]


def line_chart(
    series: Mapping[str, Points], label: str, colours: Mapping[str, int] | None = None
) -> str:
    """An SVG chart of (x, y) series with axes' ends labelled; '' when there are no points.

    `colours`: the number of each series' colour, by default in their order.
    """
    points = [p for values in series.values() for p in values]
    if not points:
        return ""
    xs, ys = zip(*points, strict=True)
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    x_span, y_span = (x1 - x0) or 1.0, (y1 - y0) or 1.0

    def place(point: tuple[float, float]) -> str:
        x = _LEFT + (point[0] - x0) / x_span * (_WIDTH - _LEFT - 8)
        y = _TOP + (1 - (point[1] - y0) / y_span) * (_HEIGHT - _BOTTOM - _TOP)
        return f"{x:.1f},{y:.1f}"

    base = _HEIGHT - _BOTTOM
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">',
        f'<path class="axis" d="M{_LEFT} {_TOP}V{base}H{_WIDTH - 8}"/>',
        f'<text x="{_LEFT - 4}" y="{_TOP + 8}" text-anchor="end">{y1:.3g}</text>',
        f'<text x="{_LEFT - 4}" y="{base}" text-anchor="end">{y0:.3g}</text>',
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}">{x0:g}</text>',
        f'<text x="{_WIDTH - 8}" y="{_HEIGHT - 6}" text-anchor="end">step {x1:g}</text>',
    ]
    for index, (name, values) in enumerate(series.items()):
        colour = colour_of(index if colours is None else colours[name])
        line = " ".join(place(p) for p in values)
        parts.append(
            f'<polyline fill="none" stroke="{colour}" points="{line}">'
            f"<title>{escape(name)}</title></polyline>"
        )
    return "".join(parts) + "</svg>"


def bar_chart(bars: Sequence[tuple[str, int]], label: str) -> str:
    """An SVG of (name, count) as bars with the first, the last and the highest labelled; '' when
    there are none."""
    if not bars:
        return ""
    base, right = _HEIGHT - _BOTTOM, _WIDTH - 8
    highest, step = max(count for _, count in bars) or 1, (right - _LEFT) / len(bars)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">',
        f'<text x="{_LEFT - 4}" y="{_TOP + 8}" text-anchor="end">{highest:,}</text>',
        f'<text x="{_LEFT - 4}" y="{base}" text-anchor="end">0</text>',
    ]
    for index, (name, count) in enumerate(bars):
        height = (base - _TOP) * count / highest
        parts.append(
            f'<rect class="bar" x="{_LEFT + index * step + 1:.1f}" y="{base - height:.1f}" '
            f'width="{max(step - 2, 1):.1f}" height="{height:.1f}">'
            f"<title>{escape(name)}: {count:,}</title></rect>"
        )
    parts.append(f'<path class="axis" d="M{_LEFT} {_TOP}V{base}H{right}"/>')
    parts.append(f'<text x="{_LEFT}" y="{_HEIGHT - 6}">{escape(bars[0][0])}</text>')
    if len(bars) > 1:
        parts.append(
            f'<text x="{right}" y="{_HEIGHT - 6}" text-anchor="end">{escape(bars[-1][0])}</text>'
        )
    return "".join(parts) + "</svg>"


def colour_of(index: int) -> str:
    """The colour of the series at `index`, for legends."""
    return _COLOURS[index % len(_COLOURS)]


def data_uri(pixels: np.ndarray) -> str:
    """uint8 [3, H, W] → a PNG data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


_STYLE = (
    "text{font:10px system-ui,sans-serif;fill:#68707c}.axis{stroke:#c3c9d2;fill:none}"
    "polyline{stroke-width:1.6}.bar{fill:#2f6fde}.whisker{stroke-width:2;fill:none}"
)


def standalone(svg: str) -> str:
    """A chart as a file of its own, on white, with the styles that a page would give it."""
    head, _, rest = svg.partition(">")
    head = head.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return f"{head}><style>{_STYLE}</style>{ground}{rest}\n"
