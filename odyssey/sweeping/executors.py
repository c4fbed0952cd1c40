"""Who runs a sweep's jobs, and what the sweep asks of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from odyssey.sweeping.record import Submitted
from odyssey.sweeping.task import Task


class Told(NamedTuple):
    """What is known of a job."""

    state: str
    """waiting, running or ended."""
    why: str = ""
    """How it ended, or what it waits for, where that is known and more than its turn."""


class Planned(NamedTuple):
    """A job that is to be submitted."""

    key: str
    model: str
    domains: tuple[str, ...]
    task: Task


class Executor(Protocol):
    """Runs jobs: SLURM, or this machine."""

    name: str
    intervals: tuple[float, float]
    """Seconds between two looks at the jobs: as long as things happen, and at most where nothing does."""

    @property
    def workers(self) -> int | None:
        """Among how many its jobs are shared out; None if that is not known."""

    def room(self, alive: int) -> int:
        """How many more jobs it takes, where so many are not ended."""

    def submit(self, jobs: Sequence[Planned]) -> list[Submitted]:
        """Start them, or have them wait there; raises OdysseyError if they are refused."""

    def states(self, jobs: Sequence[Submitted]) -> Mapping[str, Told] | None:
        """What is known of these, by key; of what is not there it knows nothing. None if it cannot be asked now."""

    def end(self, jobs: Sequence[Submitted]) -> Sequence[Submitted]:
        """Have these end and keep their checkpoints, wait until they have, and return those: none, if they go on."""
