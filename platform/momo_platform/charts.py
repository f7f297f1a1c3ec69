"""Line and bar charts as inline SVG and pictures as data URIs: a page without outside resources.

Colours are attributes, for a file of its own, and classes, with which a page's style replaces them
in the dark.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise

import numpy as np
from PIL import Image

_WIDTH, _HEIGHT, _BOTTOM, _TOP, _RIGHT = 360, 200, 36, 10, 14
_LETTER = 6.4  # pixels that a digit takes at the pages' letter size
_COLOURS = ("#2f6fde", "#c9541f", "#23835a", "#8a4fd0", "#c23a6b", "#7a7a2a")
COLOURS = len(_COLOURS)
"""How many series can be told apart by their colour."""

Points = Sequence[tuple[float, float]]


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) from at most `low` to at least `high`."""
    if not high > low:
        room = abs(low) * 0.1 or 1.0
        low, high = low - room, high + room
    rough = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10, 20) if m * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, last + 1)]


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """The ticks with as many digits as tell them apart, all alike: '0.50', '0.75', '1.00'."""
    step = min((b - a for a, b in pairwise(ticks)), default=1.0)
    if max(map(abs, ticks), default=0.0) >= 1e6 or step < 1e-5:
        return [f"{tick:.3g}" for tick in ticks]
    digits = 0
    while digits < 6 and abs(round(step, digits) - step) > 1e-9 * max(1.0, step):
        digits += 1
    return [f"{tick + 0.0:,.{digits}f}" for tick in ticks]


def thinned(points: Points, most: int = 600) -> Points:
    """At most about so many points that look the same when drawn: of each stretch its least and its
    largest."""
    if len(points) <= most:
        return points
    size = math.ceil(2 * len(points) / most)
    found: list[tuple[float, float]] = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        ends = {min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}
        found += sorted(ends)
    return found


def _within(ticks: Sequence[float], low: float, high: float) -> list[float]:
    return [t for t in ticks if low - 1e-9 <= t <= high + 1e-9]


def line_chart(
    series: Mapping[str, Points],
    label: str,
    colours: Mapping[str, int] | None = None,
    *,
    dashed: Collection[str] = (),
    dots: Collection[str] = (),
    x_name: str = "step",
) -> str:
    """An SVG chart of (x, y) series with labelled axes; '' when there are no points.

    `colours`: the number of each series' colour, by default in their order. `dashed`: series that
    are drawn so, with their points marked; `dots`: series of points without a line.
    """
    series = {name: thinned(values) for name, values in series.items()}
    points = [p for values in series.values() for p in values]
    if not points:
        return ""
    xs, ys = zip(*points, strict=True)
    heights = nice_ticks(min(ys), max(ys))
    told = tick_labels(heights)
    left = round(12 + _LETTER * max(map(len, told)))
    base, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    x0, x1, y0, y1 = min(xs), max(xs), heights[0], heights[-1]
    x_span, y_span = (x1 - x0) or 1.0, (y1 - y0) or 1.0

    def at_x(x: float) -> float:
        return left + (x - x0) / x_span * (right - left) if x1 > x0 else (left + right) / 2

    def at_y(y: float) -> float:
        return _TOP + (1 - (y - y0) / y_span) * (base - _TOP)

    parts = [_open(_WIDTH, _HEIGHT, label)]
    for tick, text in zip(heights, told, strict=True):
        y = at_y(tick)
        parts.append(f'<path class="grid-line" d="M{left} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    widths = _within(nice_ticks(x0, x1), x0, x1) if x1 > x0 else [x0]
    for tick, text in zip(widths, tick_labels(widths), strict=True):
        x = at_x(tick)
        parts.append(f'<path class="axis" d="M{x:.1f} {base}v4"/>')
        parts.append(f'<text x="{x:.1f}" y="{base + 16}" text-anchor="middle">{text}</text>')
    parts.append(f'<path class="axis" d="M{left} {base}H{right}"/>')
    parts.append(
        f'<text x="{(left + right) / 2:.0f}" y="{_HEIGHT - 4}" text-anchor="middle">'
        f"{escape(x_name)}</text>"
    )
    for index, (name, values) in enumerate(series.items()):
        number = index if colours is None else colours[name]
        places = [(f"{at_x(x):.1f}", f"{at_y(y):.1f}") for x, y in values]
        parts += _series(name, number, places, name in dashed, name in dots)
    return "".join(parts) + "</svg>"


def _series(
    name: str, number: int, places: Sequence[tuple[str, str]], dashed: bool, dots: bool
) -> Iterator[str]:
    """A line and its points, of one alone, dashed or dots."""
    look, title = _look("stroke", number), f"<title>{escape(name)}</title>"
    if dashed:
        look += ' stroke-dasharray="5 3"'
    if not dots:
        line = " ".join(map(",".join, places))
        yield f'<polyline fill="none" {look} points="{line}">{title}</polyline>'
    if dashed or dots or len(places) == 1:
        for x, y in places:
            yield f'<circle {_look("fill", number)} cx="{x}" cy="{y}" r="2.6">{title}</circle>'


def bar_chart(bars: Sequence[tuple[str, int]], label: str) -> str:
    """An SVG of (name, count) as bars with the first, the last and the highest labelled; '' when
    there are none."""
    if not bars:
        return ""
    heights = nice_ticks(0, max(count for _, count in bars) or 1)
    heights = [t for t in heights if t == int(t)] if heights[-1] >= 2 else [0.0, 1.0]
    told = tick_labels(heights)
    left = round(12 + _LETTER * max(map(len, told)))
    base, right = _HEIGHT - _BOTTOM + 14, _WIDTH - _RIGHT
    step = (right - left) / len(bars)
    parts = [_open(_WIDTH, _HEIGHT, label)]
    for tick, text in zip(heights, told, strict=True):
        y = base - (base - _TOP) * tick / heights[-1]
        parts.append(f'<path class="grid-line" d="M{left} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for index, (name, count) in enumerate(bars):
        height = (base - _TOP) * count / heights[-1]
        parts.append(
            f'<rect class="bar" x="{left + index * step + 1:.1f}" y="{base - height:.1f}" '
            f'width="{max(step - 2, 1):.1f}" height="{height:.1f}">'
            f"<title>{escape(name)}: {count:,}</title></rect>"
        )
    parts.append(f'<path class="axis" d="M{left} {base}H{right}"/>')
    parts.append(f'<text x="{left}" y="{_HEIGHT - 6}">{escape(bars[0][0])}</text>')
    if len(bars) > 1:
        parts.append(
            f'<text x="{right}" y="{_HEIGHT - 6}" text-anchor="end">{escape(bars[-1][0])}</text>'
        )
    return "".join(parts) + "</svg>"


def interval_mark(
    value: float, low: float, high: float, marks: Mapping[str, float | None], label: str
) -> str:
    """A value's interval on a rail from 0 to 1, with a stroke at each of `marks` (class → place);
    '' where one of them lies outside."""
    known = {name: place for name, place in marks.items() if place is not None}
    if not all(0.0 <= place <= 1.0 for place in (value, low, high, *known.values())):
        return ""
    parts = [
        f'<svg class="mark" viewBox="0 0 128 16" role="img" aria-label="{escape(label)}">',
        '<path class="rail" d="M4 8H124"/>',
    ]
    parts += [
        f'<path class="{name}" d="M{4 + 120 * place:.1f} 2v12"/>' for name, place in known.items()
    ]
    parts.append(f'<path class="span" d="M{4 + 120 * low:.1f} 8H{4 + 120 * high:.1f}"/>')
    parts.append(f'<circle class="dot" cx="{4 + 120 * value:.1f}" cy="8" r="3.2"/>')
    return "".join(parts) + "</svg>"


def _open(width: float, height: float, label: str) -> str:
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">'


def _look(attribute: str, index: int) -> str:
    return f'class="s {colour_class(index)}" {attribute}="{colour_of(index)}"'


def colour_of(index: int) -> str:
    """The colour of the series at `index` on a light ground."""
    return _COLOURS[index % len(_COLOURS)]


def colour_class(index: int) -> str:
    """The class that a page's style gives the colour of the series at `index`."""
    return f"s{index % len(_COLOURS)}"


def data_uri(pixels: np.ndarray) -> str:
    """uint8 [3, H, W] → a PNG data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


_STYLE = (
    "text{font:10px system-ui,sans-serif;fill:#5b6470}.axis{stroke:#c3c9d2;fill:none}"
    ".grid-line{stroke:#e7eaee;fill:none}"
    "polyline{stroke-width:1.6}.bar{fill:#2f6fde}.whisker{stroke-width:2;fill:none}"
)


def standalone(svg: str) -> str:
    """A chart as a file of its own, on white, with the styles that a page would give it."""
    head, _, rest = svg.partition(">")
    head = head.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return f"{head}><style>{_STYLE}</style>{ground}{rest}\n"
