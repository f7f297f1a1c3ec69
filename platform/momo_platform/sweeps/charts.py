"""Charts of sweeps as inline SVG: intervals, parallel coordinates, shares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from momo_platform.charts import COLOURS, colour_class, colour_of

_WIDTH, _MARGIN, _ROW = 380, 8, 40  # narrow enough that letters stay readable on a phone
_AXIS = 54


def forest_chart(
    rows: Mapping[str, tuple[float, float | None, float | None]], label: str, zero: bool = True
) -> str:
    """A name and a number a row, and below them the mean as a point with its interval; '' for no
    rows. Rows are (mean, low, high).

    `zero`: draw where nothing differs.
    """
    if not rows:
        return ""
    ends = [e for mean, *interval in rows.values() for e in (mean, *interval) if e is not None]
    low, high = min([*ends, 0.0] if zero else ends), max([*ends, 0.0] if zero else ends)
    span = (high - low) or 1.0
    low, high = low - 0.05 * span, high + 0.05 * span

    def x(value: float) -> float:
        return _MARGIN + (value - low) / (high - low) * (_WIDTH - 2 * _MARGIN)

    height = _ROW * len(rows) + (18 if zero else 0)
    parts = [_open(height, label)]
    if zero:
        parts.append(f'<text x="{x(0):.1f}" y="{height - 4}" text-anchor="middle">0</text>')
    for index, (name, (mean, lower, upper)) in enumerate(rows.items()):
        top = index * _ROW
        y = top + 27
        told = f"{mean:+.4g}" if zero else f"{mean:.4g}"
        if zero:
            parts.append(f'<path class="axis" d="M{x(0):.1f} {y - 8}v16"/>')
        if lower is not None and upper is not None:
            told += f" ({lower:+.3g} – {upper:+.3g})" if zero else f" ({lower:.4g} – {upper:.4g})"
            parts.append(
                f'<path class="whisker s s0" stroke="{colour_of(0)}" '
                f'd="M{x(lower):.1f} {y}H{x(upper):.1f}"/>'
            )
        dot = f'class="s s0" fill="{colour_of(0)}"'
        parts.append(f'<circle {dot} cx="{x(mean):.1f}" cy="{y}" r="4"/>')
        parts += _above(name, told, top)
    return "".join(parts) + "</svg>"


def _above(name: str, told: str, top: float) -> list[str]:
    """A row's name at the left and its number at the right, above what is drawn."""
    shown = _cut(name, max(8, 58 - len(told)))
    return [
        f'<text x="{_MARGIN}" y="{top + 12}">{escape(shown)}<title>{escape(name)}</title></text>',
        f'<text x="{_WIDTH - _MARGIN}" y="{top + 12}" text-anchor="end">{told}</text>',
    ]


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"


def parallel_chart(lines: Mapping[str, Mapping[str, Any]], label: str) -> str:
    """An axis a name, one below the other, and a polyline a row through its values; '' with fewer
    than two axes.

    Numbers are placed by size, other values evenly in the order they come in.
    """
    axes = list(dict.fromkeys(name for values in lines.values() for name in values))
    if len(axes) < 2 or not lines:
        return ""
    places = {axis: _places([v[axis] for v in lines.values() if axis in v]) for axis in axes}
    left, right = _MARGIN + 6, _WIDTH - _MARGIN - 6

    def y(index: int) -> float:
        return 22 + _AXIS * index

    parts = [_open(_AXIS * len(axes), label)]
    for row, (name, values) in enumerate(lines.items()):
        points = [
            f"{left + places[axis][0](values[axis]) * (right - left):.1f},{y(i):.1f}"
            for i, axis in enumerate(axes)
            if axis in values
        ]
        look = colour_class(row) if row < COLOURS else "rest"  # those that have a key, and the rest
        parts.append(
            f'<polyline fill="none" class="s {look}" stroke="{colour_of(row)}" '
            f'points="{" ".join(points)}"><title>{escape(name)}</title></polyline>'
        )
    for index, axis in enumerate(axes):
        name = axis.rpartition(".")[2] if "." in axis else axis
        parts.append(f'<path class="axis" d="M{left} {y(index)}H{right}"/>')
        parts.append(
            f'<text class="name" x="{left}" y="{y(index) - 8}">{escape(_cut(name, 40))}</text>'
        )
        ends = places[axis][1]
        room = max(3, int(52 / max(1, len(ends))))
        for told, place in ends:
            anchor = "start" if place == 0.0 else "end" if place == 1.0 else "middle"
            x = left + place * (right - left)
            parts.append(
                f'<text x="{x:.1f}" y="{y(index) + 14}" text-anchor="{anchor}">'
                f"{escape(_cut(told, room))}<title>{escape(told)}</title></text>"
            )
    return "".join(parts) + "</svg>"


def _places(values: Sequence[Any]) -> tuple[Any, list[tuple[str, float]]]:
    """A function from a value to 0 … 1, and what to write at the axis."""
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        low, high = min(values), max(values)
        logarithmic = low > 0 and high / low >= 100
        scale = math.log if logarithmic else float
        span = (scale(high) - scale(low)) or 1.0
        ends = [(f"{low:.3g}", 0.0)] + ([(f"{high:.3g}", 1.0)] if high > low else [])
        return (lambda value: (scale(value) - scale(low)) / span), ends
    names = list(dict.fromkeys(str(v) for v in values))
    step = 1.0 / max(1, len(names) - 1)
    return (lambda value: names.index(str(value)) * step), [
        (name, i * step) for i, name in enumerate(names)
    ]


def shares_chart(shares: Mapping[str, float], label: str) -> str:
    """A bar a name, as long as its share of the largest; '' for none."""
    if not shares:
        return ""
    largest = max(shares.values()) or 1.0
    parts = [_open(_ROW * len(shares), label)]
    for index, (name, value) in enumerate(shares.items()):
        top, width = index * _ROW, value / largest * (_WIDTH - 2 * _MARGIN)
        parts.append(
            f'<rect class="bar" x="{_MARGIN}" y="{top + 20}" width="{width:.1f}" height="10"/>'
        )
        parts += _above(name, f"{value:.0%}", top)
    return "".join(parts) + "</svg>"


def _open(height: float, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:g}" style="max-width:{1.35 * _WIDTH:g}px" role="img" '
        f'aria-label="{escape(label)}">'
    )
