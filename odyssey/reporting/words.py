"""Numbers and lists as a reader sees them: on the page, in figures and in a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import pandas as pd

DASH = "–"
"""In the place of a number that is undefined."""


def number(value: float, sign: str = "") -> str:
    """A figure to read: two decimals, fewer when large, more when small; never a rounded-away sign."""
    size = abs(value)
    if size and (size >= 1e6 or size < 0.001):
        return f"{value:{sign}.2e}"
    decimals = 0 if size >= 10_000 else 1 if size >= 1000 else 2 if size >= 0.01 or not size else 4
    return f"{value:{sign},.{decimals}f}"


def signed(value: float, decimals: int | None = 2) -> str:
    """A figure with its sign, "−" or "+"; with None as many decimals as `number` takes."""
    if math.isnan(value):
        return DASH
    return (number(value, "+") if decimals is None else f"{value:+.{decimals}f}").replace("-", "−")


def significant(value: float, sign: str = "+") -> str:
    """Three significant digits of a figure, or as many as `number` takes if it is large or tiny."""
    if math.isnan(value):
        return DASH
    shown = f"{value:{sign}.3g}" if 1e-4 <= abs(value) < 1000 or not value else number(value, sign)
    return shown.replace("-", "−")


def bounds(low: str, high: str) -> str:
    """An interval of two figures to read; a dash where it is undefined."""
    return DASH if DASH in (low, high) else f"[{low}, {high}]"


def p_value(value: float) -> str:
    """A p value to three decimals."""
    return DASH if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def percent(share: float) -> str:
    """A share in per cent, with the decimals it has."""
    return f"{100 * share:g}%"


def span(counts: Sequence[int] | pd.Series) -> str:
    """ "5" or "5 to 7"."""
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def listed(items: Iterable[str], separator: str = ", ") -> str:
    """ "a, b and c"; with a longer separator, that one between all; "" of nothing."""
    *first, last = [*items] or [""]
    final = " and " if separator == ", " else separator
    return separator.join(first) + final + last if first else last


def code(text: str) -> str:
    """Any text as Markdown's code, in which nothing is markup; what does not show is escaped."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    space = " " if "`" in shown or not shown.strip() else ""
    return f"{fence}{space}{shown}{space}{fence}"


def plain(text: str) -> str:
    """A name in Markdown as it is: an underscore is no emphasis, a bracket no link, `<` begins no HTML."""
    return re.sub(r"([\\`*_\[\]<>|~&#!])", r"\\\1", " ".join(text.split()))
