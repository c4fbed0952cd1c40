"""Claims and verdicts as lines for a terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from typing import Any

import pandas as pd

from odyssey.claims import COUNTED

WIDTH = 100


def verdicts(found: pd.DataFrame) -> str:
    """A paragraph for each claim: its verdict, by model where they differ."""
    lines: list[str] = []
    for (number, statement), own in found.groupby(["claim", "statement"], sort=False):
        groups = own.groupby("verdict", sort=False)["model"].apply(", ".join)
        told = "; ".join(f"{verdict} ({models})" if len(groups) > 1 else verdict for verdict, models in groups.items())
        lines += _wrap(f"{number:<3} {statement}: {told}", 2, 6)
    return "\n".join(lines)


def details(found: pd.DataFrame) -> str:
    """Each claim with, for each model, its statistic, interval, p, and the reason of the verdict."""
    lines: list[str] = []
    for (number, statement, source), own in found.groupby(["claim", "statement", "source"], sort=False):
        lines += _wrap(f"{number:<3} {statement} ({source})", 0, 4)
        for row in own.itertuples():
            lines += _wrap(f"{row.model}: {row.verdict}; {estimate(row)}{row.reason}", 4, 8)
    return "\n".join(lines)


def estimate(row: Any) -> str:
    """A finding's statistic, interval, p and n in words; nothing where there is no statistic."""
    if math.isnan(row.value):
        return ""
    p = "" if math.isnan(row.p) else f", p{'<0.001' if row.p < 0.001 else f'={row.p:.3f}'}"
    seeds = f", {row.seeds} seeds" if row.seeds > 1 else ""
    value, low, high = (f"{x:.3g}" if row.claim in COUNTED else f"{x:+.3g}" for x in (row.value, row.low, row.high))
    interval = "" if math.isnan(row.low) else f" [{low}, {high}]"
    return f"{row.statistic} {value}{interval}{p}, n={row.n}{seeds}; "


def _wrap(text: str, first: int, others: int) -> Iterable[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=" " * first, subsequent_indent=" " * others)
