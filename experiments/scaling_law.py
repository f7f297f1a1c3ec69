"""Power laws: loss = a · size^-b, fitted on logarithms, with intervals from the seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from momo_platform.charts import colour_of
from momo_platform.sweeps.rows import estimate


@dataclass(frozen=True)
class PowerLaw:
    """`a` and `b` of loss = a · size^-b, `low` and `high` the 95 % interval of `b`; None for one
    seed."""

    a: float
    b: float
    low: float | None
    high: float | None

    def __call__(self, size: float) -> float:
        return self.a * size**-self.b


@dataclass(frozen=True)
class Extrapolation:
    """What the smaller sizes say of the largest, and what was measured there."""

    size: float
    predicted: float
    low: float | None
    high: float | None
    measured: float

    @property
    def error(self) -> float:
        """Predicted less measured, as a share of measured."""
        return self.predicted / self.measured - 1.0


def fit(losses: Mapping[float, Sequence[float]]) -> PowerLaw:
    """From size → losses by seed (as many for each size, in the same order).

    Least squares on logarithms, a line a seed; the means of `a` and `b`, and Student's
    interval of the exponent. Raises ValueError for fewer than three sizes or losses that are not
    above 0.
    """
    slopes, intercepts = _lines(losses)
    slope = estimate([-s for s in slopes])
    return PowerLaw(float(np.mean(np.exp(intercepts))), slope.mean, slope.low, slope.high)


def extrapolate(losses: Mapping[float, Sequence[float]]) -> Extrapolation:
    """Fit all sizes but the largest and predict that one, with a 95 % interval over seeds."""
    largest = max(losses)
    known = {size: values for size, values in losses.items() if size != largest}
    slopes, intercepts = _lines(known)
    found = estimate([math.exp(i) * largest**s for s, i in zip(slopes, intercepts, strict=True)])
    measured = float(np.mean(losses[largest]))
    return Extrapolation(largest, found.mean, found.low, found.high, measured)


def _check(losses: Mapping[float, Sequence[float]]) -> None:
    counts = {len(values) for values in losses.values()}
    if len(losses) < 3 or len(counts) != 1 or 0 in counts:
        raise ValueError(f"{len(losses)} sizes with {sorted(counts)} losses: give 3 sizes or more")
    if min(min(values) for values in losses.values()) <= 0 or min(losses) <= 0:
        raise ValueError("a power law needs sizes and losses above 0")


def _lines(losses: Mapping[float, Sequence[float]]) -> tuple[list[float], list[float]]:
    """Slope and intercept of the logarithms' line of each seed."""
    _check(losses)
    slopes, intercepts = np.polyfit(np.log(list(losses)), np.log(list(losses.values())), 1)
    return slopes.tolist(), intercepts.tolist()


def chart(
    series: Mapping[str, Mapping[float, Sequence[float]]],
    laws: Mapping[str, PowerLaw],
    x_label: str,
    y_label: str,
) -> str:
    """Points by seed and the fitted line of each series, both axes logarithmic, as SVG."""
    width, height, left, bottom, top, right = 520, 320, 60, 40, 14, 150
    xs = [math.log(s) for sizes in series.values() for s in sizes]
    ys = [math.log(v) for sizes in series.values() for values in sizes.values() for v in values]
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)

    def place(size: float, loss: float) -> tuple[float, float]:
        x = left + (math.log(size) - x0) / ((x1 - x0) or 1) * (width - left - right)
        y = top + (1 - (math.log(loss) - y0) / ((y1 - y0) or 1)) * (height - bottom - top)
        return x, y

    base = height - bottom
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(y_label)}">',
        f'<path class="axis" d="M{left} {top}V{base}H{width - right}"/>',
        f'<text x="{left - 4}" y="{top + 8}" text-anchor="end">{math.exp(y1):.3g}</text>',
        f'<text x="{left - 4}" y="{base}" text-anchor="end">{math.exp(y0):.3g}</text>',
        f'<text x="{left}" y="{base + 14}">{math.exp(x0):.3g}</text>',
        f'<text x="{width - right}" y="{base + 14}" text-anchor="end">{math.exp(x1):.3g}</text>',
        f'<text x="{(left + width - right) / 2}" y="{height - 8}" text-anchor="middle">'
        f"{escape(x_label)}</text>",
        f'<text x="{left + 6}" y="{top + 8}">{escape(y_label)}</text>',
    ]
    for index, (name, sizes) in enumerate(series.items()):
        colour = colour_of(index)
        for size, values in sizes.items():
            for value in values:
                x, y = place(size, value)
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
        told = escape(name)
        if name in laws:
            law, ends = laws[name], (min(sizes), max(sizes))
            points = " ".join("{:.1f},{:.1f}".format(*place(size, law(size))) for size in ends)
            parts.append(f'<polyline fill="none" stroke="{colour}" points="{points}"/>')
            told += f": exponent {law.b:.3f}"
        y = top + 12 + 14 * index
        parts.append(f'<circle cx="{width - right + 12}" cy="{y - 3}" r="3" fill="{colour}"/>')
        parts.append(f'<text x="{width - right + 20}" y="{y}">{told}</text>')
    return "".join(parts) + "</svg>"
