"""How long jobs take on a number of equal GPUs, where some are slow and GPUs fail: a simulation.

Numbers in, numbers out, no files. Jobs run on one GPU each, the longest first (LPT; Graham, 1969, "Bounds on
multiprocessing timing anomalies"): undisturbed, all is done within 4/3 - 1/(3 m) times the best that m GPUs allow.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Troubles:
    """What disturbs a schedule."""

    failures: float = 0.0
    """Of a GPU, an hour of its work; exponentially distributed between two."""
    checkpoint: float = math.inf
    """Seconds of work between two checkpoints of a job: what came after the last one is lost with its GPU."""
    wait: float = 0.0
    """Seconds from a failure until the job can start again; the GPU takes another one at once."""
    stragglers: float = 0.0
    """Share of the jobs that are slower than planned."""
    slowdown: float = 1.0
    """How many times as long those take."""


class Outcome(NamedTuple):
    """What a schedule came to; seconds."""

    makespan: float
    """From the start of the first job to the end of the last."""
    busy: float
    """GPU seconds worked, those that were lost included."""
    lost: float
    """GPU seconds whose work had to be done again."""
    failures: int


CALM = Troubles()
"""Nothing happens."""
MOST = 5.0
"""Failures expected between two checkpoints above which nothing is simulated: each part would be tried 150 times."""


def simulate(seconds: Sequence[float], gpus: int, troubles: Troubles = CALM, seed: int = 0) -> Outcome:
    """The jobs, of so many planned seconds each, on so many GPUs.

    Whenever a GPU is free it takes the longest job that waits. Raises ValueError if there is no GPU, if what
    disturbs makes no sense, and if GPUs fail so often that jobs hardly get from one checkpoint to the next.
    """
    _check(gpus, troubles, max(seconds, default=0.0) * troubles.slowdown)
    rng = np.random.default_rng(seed)
    slow = rng.random(len(seconds)) < troubles.stragglers
    work = np.asarray(seconds, dtype=float) * np.where(slow, troubles.slowdown, 1.0)
    waiting = [-each for each in work.tolist()]
    heapq.heapify(waiting)
    free = [0.0] * min(gpus, max(len(waiting), 1))
    later: list[tuple[float, float]] = []  # (when, how much) goes on after a failure
    makespan = busy = lost = 0.0
    failures = 0
    while waiting or later:
        now = heapq.heappop(free)
        if not waiting:
            now = max(now, later[0][0])
        while later and later[0][0] <= now:
            heapq.heappush(waiting, -heapq.heappop(later)[1])
        left = -heapq.heappop(waiting)
        lasts = rng.exponential(3600 / troubles.failures) if troubles.failures else math.inf
        ran = min(left, lasts)
        end = now + ran
        heapq.heappush(free, end)
        makespan, busy = max(makespan, end), busy + ran
        if lasts < left:
            kept = lasts // troubles.checkpoint * troubles.checkpoint if troubles.checkpoint < math.inf else 0.0
            lost, failures = lost + ran - kept, failures + 1
            heapq.heappush(later, (end + troubles.wait, left - kept))
    return Outcome(makespan, busy, lost, failures)


def _check(gpus: int, troubles: Troubles, longest: float) -> None:
    if gpus < 1:
        raise ValueError(f"jobs need a GPU, not {gpus}")
    if troubles.failures < 0 or troubles.wait < 0 or troubles.checkpoint <= 0:
        raise ValueError(f"failures and waits are not below 0, and a checkpoint takes time: {troubles}")
    if not 0 <= troubles.stragglers <= 1 or troubles.slowdown < 1:
        raise ValueError(f"stragglers are a share of the jobs, and slower than planned: {troubles}")
    part = min(troubles.checkpoint, longest)
    if (expected := troubles.failures * part / 3600) > MOST:
        raise ValueError(f"jobs would hardly get on: {expected:.1f} failures in the {part:.0f} s between checkpoints")
