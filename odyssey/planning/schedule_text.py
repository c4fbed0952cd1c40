"""Studies on several GPUs as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from odyssey.planning import schedule
from odyssey.planning.amounts import gb
from odyssey.planning.render import wrap
from odyssey.planning.schedule import OnGpus, Schedule

STUDIES = ("study", "cells", "GPU memory", "RAM a GPU", "fetch", "disk", "GPU hours", "longest cell")
ROWS = ("GPUs", "a cell on each", "busy", "disturbed", "done again", "disk", "all in each")
"""Columns."""


def render_schedule(made: Schedule) -> str:
    """Two tables, of the studies and of the numbers of GPUs, and what they rest on."""
    lines = [*wrap("Studies, each GPU being ", made.device), *table(STUDIES, study_rows(made))]
    if made.rows:
        lines += ["", "Wall-clock", *table(ROWS, gpu_rows(made)), ""]
        for remark in remarks(made):
            lines += wrap("  ", remark)
    return "\n".join(line.rstrip() for line in lines)


def study_rows(made: Schedule) -> list[tuple[str, ...]]:
    """A row of `STUDIES` for each study; for several, one of their sums."""
    found: list[tuple[str, ...]] = [
        (
            study.name,
            f"{study.cells:,}",
            gb(study.gpu_memory),
            gb(study.host_memory),
            gb(study.fetched),
            gb(study.disk),
            f"{study.hours:,.0f}",
            f"{study.longest:.1f} h",
        )
        for study in made.studies
    ]
    if len(found) > 1:
        cells, disk = sum(study.cells for study in made.studies), sum(study.disk for study in made.studies)
        longest = max(study.longest for study in made.studies)
        totals = (f"{cells:,}", "", "", gb(made.fetched), gb(disk), f"{made.hours:,.0f}", f"{longest:.1f} h")
        found.append(("together", *totals))
    return found


def gpu_rows(made: Schedule) -> list[tuple[str, ...]]:
    """A row of `ROWS` for each number of GPUs."""
    return [
        (
            f"{row.gpus:,}",
            _hours(row.hours),
            f"{row.used:.0%}",
            _range(row),
            f"{row.lost:.1f} h",
            gb(row.disk),
            _hours(row.together),
        )
        for row in made.rows
    ]


def remarks(made: Schedule) -> list[str]:
    """What the second table rests on."""
    troubles, most = made.troubles, max(row.gpu_memory for row in made.rows)
    return [
        "a cell on each: simulated, the longest cell first; each takes "
        f"{schedule.STARTING / 60:g} min to start; all texts are made before the first cell, reports after the last",
        f"disturbed: the median of {schedule.TRIES} simulations, and what 5% and 95% of them stay below: "
        f"{troubles.failures:g} failures a GPU hour; work since the last checkpoint, of which there is one each "
        f"{troubles.checkpoint / 60:g} min, is done again {troubles.wait / 60:g} min later, GPU hours on average; "
        f"{troubles.stragglers:.0%} of the cells take {troubles.slowdown:g} times as long",
        "disk: results, and what as many cells as there are GPUs keep to go on from",
        "all in each: one cell after the other, undisturbed, its batch shared by as many GPUs as it has sequences at "
        f"most, {schedule.TOGETHER:.0%} of so many times as fast as one (a guess); training then takes "
        f"{gb(most)} of a GPU at most",
    ]


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns in their widths, the first one to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    lines = []
    for row in (columns, *rows):
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([first.strip().ljust(widths[0]), *others]))
    return lines


def _hours(hours: float) -> str:
    return f"{hours:,.0f} h" if hours >= 100 else f"{hours:.1f} h"


def _range(row: OnGpus) -> str:
    median, low, high = row.disturbed
    return f"{_hours(median)} ({_hours(low)[:-2]} to {_hours(high)[:-2]})"
