"""A uniform sample without replacement from a corpus in parts, each read once and alone.

Every row gets a priority, an independent uniform number in [0, 1) that depends on the seed,
the part's name and the row's position in it and on nothing else. The sample is the rows with
the k smallest priorities: each set of k rows is equally likely, and neither the order in which
parts are read nor by whom changes it ("bottom-k" or order sampling; Rosén, 1997).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import TypeVar

import numpy as np

from odyssey.science.splits import generator

T = TypeVar("T")
_priority = itemgetter(0)

BLOCK = 4096
"""Priorities that are drawn at a time."""


def priorities(seed: int, purpose: tuple[str, ...], part: str) -> Iterator[float]:
    """Priorities of a part's rows, in the rows' order, without end."""
    rng = generator(seed, *purpose, part)
    while True:
        yield from rng.random(BLOCK).tolist()


def threshold(rows: int | None, population: int | None) -> float:
    """Priority below which the `rows` smallest of about `population` lie, so that the others need not be kept.

    The number of priorities below p is binomial with a standard deviation under sqrt(rows):
    eight of these, and 5 % for a population that is only roughly known or partly blank. Too
    low a threshold is noticed by too few rows below it. 1.0 (keep all) without a number.
    """
    if rows is None or population is None or population <= 0:
        return 1.0
    return min(1.0, (1.05 * rows + 8 * math.sqrt(rows) + 100) / population)


def widened(bound: float, rows: int, found: int) -> float:
    """The next threshold to try, at least twice as high, when only `found` of `rows` were below `bound`."""
    return min(1.0, bound * max(2.0, 1.2 * rows / max(found, 1)))


def lowest(rows: Iterable[tuple[float, T]], count: int) -> list[tuple[float, T]]:
    """The `count` rows with the smallest priorities, of equal ones the first, in order of priority.

    Time: what the rows take, as a heap's misses of the cache do not come with a large count. Memory:
    at most a quarter more rows than `count`, and a thousand.
    """
    held: list[tuple[float, T]] = []
    bound = math.inf
    for row in rows:
        if row[0] < bound:
            held.append(row)
            if len(held) >= count + count // 4 + 1000:
                held.sort(key=_priority)
                del held[count:]
                bound = held[-1][0] if held else -math.inf
    held.sort(key=_priority)
    return held[:count]


def smallest(values: np.ndarray, count: int | None) -> np.ndarray:
    """Mask of the `count` smallest of `values: (n,)`, of equal ones the first; all of them for None.

    Memory: 9 bytes a value, or more where many are equal.
    """
    if count is None or count >= len(values):
        return np.ones(len(values), dtype=bool)
    if count <= 0:
        return np.zeros(len(values), dtype=bool)
    cut = np.partition(values, count - 1)[count - 1]
    mask: np.ndarray = values < cut
    mask[np.flatnonzero(values == cut)[: count - np.count_nonzero(mask)]] = True
    return mask
