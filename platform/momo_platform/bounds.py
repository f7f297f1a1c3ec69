"""Checks of config fields, so that a bad value stops a run before it starts."""

from __future__ import annotations

import math
from typing import Any


def check_bounds(config: Any, **bounds: tuple[float | None, float | None]) -> None:
    """Raise ValueError for a field outside (least, most), both inclusive; None: no bound.

    A number that is not finite is always refused.
    """
    for name, (least, most) in bounds.items():
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            words = [f"at least {least:g}"] if least is not None else []
            words += [f"at most {most:g}"] if most is not None else []
            if (
                not math.isfinite(number)
                or (least is not None and number < least)
                or (most is not None and number > most)
            ):
                raise ValueError(f"{name}={value}: give {' and '.join(words) or 'a number'}")


def check_choice(config: Any, **choices: tuple[Any, ...]) -> None:
    """Raise ValueError for a field that is none of its choices."""
    for name, allowed in choices.items():
        value = getattr(config, name)
        if value not in allowed:
            raise ValueError(f"{name}={value!r}: give one of {list(allowed)}")
