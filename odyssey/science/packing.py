"""Cells packed into jobs of about one length, so that starting a job costs little beside its work."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple


class Cell(NamedTuple):
    """A model and a domain, and how long it is planned to take."""

    model: str
    domain: str
    seconds: float


class Job(NamedTuple):
    """Cells of one model that a process does one after the other."""

    model: str
    domains: tuple[str, ...]
    seconds: float
    """Planned, of all of them."""


def pack(cells: Sequence[Cell], most: float) -> list[Job]:
    """Jobs of at most `most` planned seconds, the longest first; each cell is in one.

    A job has cells of one model. Of each model there are as few jobs as its seconds ask for, and they are
    about equally long: its cells go, longest first, to the job that has least so far (LPT; Graham, 1969,
    "Bounds on multiprocessing timing anomalies"). A job may exceed `most` by less than its shortest cell where
    cells do not fit more evenly; a cell that is longer than `most` has a job of its own.
    """
    jobs: list[Job] = []
    for model in dict.fromkeys(cell.model for cell in cells):
        own = sorted((cell for cell in cells if cell.model == model), key=lambda cell: -cell.seconds)
        jobs += [Job(model, (cell.domain,), cell.seconds) for cell in own if cell.seconds >= most]
        jobs += _spread(model, [cell for cell in own if cell.seconds < most], most)
    return sorted(jobs, key=lambda job: -job.seconds)


def _spread(model: str, longest_first: Sequence[Cell], most: float) -> list[Job]:
    if not longest_first:
        return []
    count = min(len(longest_first), max(1, math.ceil(sum(cell.seconds for cell in longest_first) / most)))
    bins: list[tuple[float, int, list[str]]] = [(0.0, k, []) for k in range(count)]
    for cell in longest_first:
        seconds, k, domains = bins[0]
        domains.append(cell.domain)
        heapq.heapreplace(bins, (seconds + cell.seconds, k, domains))
    return [Job(model, tuple(domains), seconds) for seconds, _, domains in bins]
