"""One unit for rates: fractions from 0 to 1 in results, JSON and CSV; percent in what people read."""

import math


def percent(fraction: float | None, digits: int = 2) -> str:
    """Return a fraction as a number in percent, "–" for None or nan."""
    return "–" if fraction is None or math.isnan(fraction) else f"{100 * fraction:.{digits}f}"


def points(difference: float | None) -> str:
    """Return a difference of fractions in percentage points, with its sign; "–" for None or nan."""
    return "–" if difference is None or math.isnan(difference) else f"{100 * difference:+.2f}"


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """Return an interval of fractions in percent, "–" without one."""
    return "–" if is_missing(low) else f"{percent(low, digits)}–{percent(high, digits)}"


def is_missing(value: float | None) -> bool:
    """Return whether there is no number."""
    return value is None or math.isnan(value)


def size(count: int) -> str:
    """Return a number of bytes with a unit: 2.4 MB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"
