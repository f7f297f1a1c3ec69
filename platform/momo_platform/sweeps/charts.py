"""Charts of sweeps as inline SVG: intervals, parallel coordinates, shares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from momo_platform.charts import colour_of

_ROW, _NAME, _PLOT, _TEXT = 22, 210, 420, 250
_HEIGHT, _TOP, _BOTTOM = 260, 34, 20
_AXIS = 130


def forest_chart(
    rows: Mapping[str, tuple[float, float | None, float | None]], label: str, zero: bool = True
) -> str:
    """A line a row: (mean, low, high) as a point with its interval; '' for no rows.

    `zero`: draw where nothing differs.
    """
    if not rows:
        return ""
    ends = [e for mean, *interval in rows.values() for e in (mean, *interval) if e is not None]
    low, high = min([*ends, 0.0] if zero else ends), max([*ends, 0.0] if zero else ends)
    span = (high - low) or 1.0
    low, high = low - 0.05 * span, high + 0.05 * span

    def x(value: float) -> float:
        return _NAME + (value - low) / (high - low) * _PLOT

    height = _ROW * len(rows) + 26
    parts = [_open(_NAME + _PLOT + _TEXT, height, label)]
    if zero:
        parts.append(f'<path class="axis" d="M{x(0):.1f} 4V{height - 22}"/>')
        parts.append(f'<text x="{x(0):.1f}" y="{height - 8}" text-anchor="middle">0</text>')
    for index, (name, (mean, lower, upper)) in enumerate(rows.items()):
        y = 14 + index * _ROW
        told = f"{mean:+.4g}" if zero else f"{mean:.4g}"
        parts.append(f'<text x="{_NAME - 8}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        if lower is not None and upper is not None:
            told += f" ({lower:+.4g} – {upper:+.4g})" if zero else f" ({lower:.4g} – {upper:.4g})"
            parts.append(
                f'<path class="whisker" stroke="{colour_of(0)}" '
                f'd="M{x(lower):.1f} {y}H{x(upper):.1f}"/>'
            )
        parts.append(f'<circle cx="{x(mean):.1f}" cy="{y}" r="4" fill="{colour_of(0)}"/>')
        parts.append(f'<text x="{_NAME + _PLOT + 8}" y="{y + 4}">{told}</text>')
    return "".join(parts) + "</svg>"


def parallel_chart(lines: Mapping[str, Mapping[str, Any]], label: str) -> str:
    """An axis a name, a polyline a row through its values; '' with fewer than two axes.

    Numbers are placed by size, other values evenly in the order they come in.
    """
    axes = list(dict.fromkeys(name for values in lines.values() for name in values))
    if len(axes) < 2 or not lines:
        return ""
    places = {axis: _places([v[axis] for v in lines.values() if axis in v]) for axis in axes}
    width = 60 + _AXIS * len(axes)
    base = _HEIGHT - _BOTTOM

    def x(index: int) -> float:
        return 60 + _AXIS * index

    parts = [_open(width, _HEIGHT, label)]
    for index, axis in enumerate(axes):
        name = axis.rpartition(".")[2] if "." in axis else axis
        turn = 12 if index % 2 else 24  # neighbours' names on two heights
        parts.append(f'<path class="axis" d="M{x(index)} {_TOP}V{base}"/>')
        parts.append(f'<text x="{x(index)}" y="{turn}" text-anchor="middle">{escape(name)}</text>')
        for told, place in places[axis][1]:
            y = base - place * (base - _TOP)
            parts.append(f'<text x="{x(index) + 4}" y="{y + 3:.1f}">{escape(told)}</text>')
    for row, (name, values) in enumerate(lines.items()):
        points = [
            f"{x(i):.1f},{base - places[axis][0](values[axis]) * (base - _TOP):.1f}"
            for i, axis in enumerate(axes)
            if axis in values
        ]
        parts.append(
            f'<polyline fill="none" stroke="{colour_of(row)}" points="{" ".join(points)}">'
            f"<title>{escape(name)}</title></polyline>"
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
    parts = [_open(_NAME + _PLOT + 80, _ROW * len(shares) + 6, label)]
    for index, (name, value) in enumerate(shares.items()):
        y = 4 + index * _ROW
        parts.append(f'<text x="{_NAME - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        parts.append(
            f'<rect class="bar" x="{_NAME}" y="{y}" width="{value / largest * _PLOT:.1f}" '
            f'height="{_ROW - 6}"/>'
        )
        parts.append(
            f'<text x="{_NAME + value / largest * _PLOT + 6:.1f}" y="{y + 13}">{value:.0%}</text>'
        )
    return "".join(parts) + "</svg>"


def _open(width: float, height: float, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" style="max-width:{1.3 * width:g}px" role="img" '
        f'aria-label="{escape(label)}">'
    )
