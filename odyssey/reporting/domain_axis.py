"""The axis of domains: portions shaded and named, ids below, with names where there is room."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SHADES = ["#56B4E9", "#E69F00", "#CC79A7", "#009E73", "#F0E442"]
"""Backgrounds of a study's portions, in their order; drawn faintly, and named in the figure."""

NAMED = 40
"""Domains that an axis has room to name; of more, it gives ids."""
TICKS = 10
"""With ids only, every tenth domain has one on the axis, and the first and the last."""
WIDEST = 11.0
"""Inches: a figure has to fit a page."""


class Run(NamedTuple):
    """Neighbours on the axis that are of one portion; places count from 1."""

    portion: str
    first: int
    last: int


def runs(portions: Sequence[str]) -> list[Run]:
    """What to shade: in the paper's appendix A.2 two S2ORC domains stand among those of Wiki."""
    found, place = [], 1
    for portion, group in groupby(portions):
        size = len(list(group))
        found.append(Run(portion, place, place + size - 1))
        place += size
    return found


def domain_axes(
    table: pd.DataFrame, portions: Sequence[str], rows: int, panel: float, ids: str = "id of the domain"
) -> tuple[Figure, Sequence[Axes]]:
    """`rows` panels, `panel` inches high, over the domains: ids below, with names if there is room; portions shaded."""
    named = len(table) <= NAMED
    names = [f"{middle(row.domain, 32)}  {row.id}" for row in table.itertuples()] if named else []
    width = min(max(7.6, 1.6 + 0.36 * len(table)), WIDEST if named else 9.0)
    height = 1.4 + rows * panel + 0.075 * max(map(len, names), default=0)
    figure = Figure(figsize=(width, height), layout="constrained")
    panels: list[Axes] = list(figure.subplots(rows, 1, squeeze=False, sharex=True).ravel())
    shaded = runs(table["portion"].tolist())
    for axes in panels:
        for run in shaded:
            shade = SHADES[portions.index(run.portion) % len(SHADES)]
            axes.axvspan(run.first - 0.5, run.last + 0.5, color=shade, alpha=0.16, linewidth=0, zorder=0)
        axes.set_xlim(0.5, len(table) + 0.5)
        axes.tick_params(axis="x", length=0 if named else 3)
    _name_portions(panels[0], shaded, letters=12 * (width - 1) / len(table))
    last = panels[-1]
    if named:
        last.set_xticks(range(1, len(table) + 1), names, rotation=90, fontsize=8)
    else:
        places = _ticks(len(table))
        last.set_xticks(places, [str(table["id"].iloc[place - 1]) for place in places], fontsize=8)
    last.set_xlabel(f"name and {ids}" if named else ids)
    return figure, panels


def bar_width(n: int) -> float:
    """Share of a domain's width: most of it, unless there are so few that bars would become blocks."""
    return min(0.62 if n <= NAMED else 0.75, 0.08 * n)


def _name_portions(axes: Axes, shaded: Sequence[Run], letters: float) -> None:
    """Each portion's name once, over its longest run; `letters` is how many a domain's width has room for."""
    for portion in dict.fromkeys(run.portion for run in shaded):
        run = max((run for run in shaded if run.portion == portion), key=lambda run: run.last - run.first)
        label = cut(portion, max(4, int(letters * (run.last - run.first + 1))))
        place = ((run.first + run.last) / 2, 1)
        axes.annotate(label, place, (0, 3), ("data", "axes fraction"), "offset points", ha="center", weight="bold")


def _ticks(n: int) -> list[int]:
    """Places of the ids on an axis without names: the first, the last, and every tenth that has room beside it."""
    return [1, *(place for place in range(TICKS, n, TICKS) if n - place >= TICKS // 2), n]


def cut(text: str, longest: int) -> str:
    """A text shortened at its end."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def middle(name: str, longest: int) -> str:
    """A name shortened in its middle: M2D2's begin with their field and end with what tells them apart."""
    tail = 3 * longest // 5
    return name if len(name) <= longest else f"{name[: longest - tail - 1]}…{name[-tail:]}"
