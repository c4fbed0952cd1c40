"""Numbers in words: sizes, times, large counts; and sums of hours that may not be known."""

from __future__ import annotations


def sci(number: float) -> str:
    """1.23e9."""
    return f"{number:.2e}".replace("e+0", "e").replace("e+", "e")


def gb(size: float) -> str:
    """Bytes in the unit that suits them, to three digits."""
    if not size:
        return "0"
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= limit:
            return f"{size / limit:.3g} {unit}" if size < 100 * limit else f"{size / limit:.0f} {unit}"
    return f"{size / 1e3:.0f} kB"


def duration(hours: float | None) -> str:
    """Hours, or minutes if there are few."""
    if hours is None:
        return "hours not known"
    if hours >= 1:
        return f"~{hours:.1f} h"
    return f"~{hours * 60:.0f} min" if hours * 60 >= 1 else "< 1 min"


def add(*hours: float | None) -> float | None:
    """Their sum; None if one is not known."""
    known = [value for value in hours if value is not None]
    return sum(known) if len(known) == len(hours) else None
