"""The sweep itself: jobs are handed to an executor, looked at until they have ended, and their failures collected."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from odyssey.errors import OdysseyError
from odyssey.signals import held
from odyssey.sweeping.executors import Executor, Planned, Told
from odyssey.sweeping.journal import Journal
from odyssey.sweeping.progress import Progress, counted, tail
from odyssey.sweeping.record import Record, Submitted

SLOWER = 1.3
"""By this the pause grows between two looks at jobs of which nothing new is told."""
UNKNOWN = "how is not known"


class Failure(NamedTuple):
    """A cell that failed."""

    model: str
    domain: str
    why: str
    tail: Sequence[str]
    """Of its job's log."""
    log: str


@dataclass
class Outcome:
    """What a sweep has come to."""

    done: int = 0
    failures: list[Failure] = field(default_factory=list)


@dataclass
class _Alive:
    """A job that has been submitted."""

    progress: Progress
    journal: Journal
    gone: bool = False
    """Whether it had ended when it was last looked at: its last words may have been on their way then."""


class _Line:
    """Jobs that wait to be submitted; those that were refused come first again."""

    def __init__(self, jobs: Iterable[Planned]) -> None:
        self._refused: deque[Planned] = deque()
        self._others = iter(jobs)

    def __iter__(self) -> Iterator[Planned]:
        return self

    def __next__(self) -> Planned:
        return self._refused.popleft() if self._refused else next(self._others)

    def put_back(self, jobs: Sequence[Planned]) -> None:
        self._refused.extendleft(reversed(jobs))


class Sweep:
    """Jobs in work. `tell` takes each line."""

    def __init__(
        self,
        executor: Executor,
        record: Record,
        tell: Callable[[str], None],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._executor, self._record, self._tell, self._pause = executor, record, tell, pause
        self._alive: dict[str, _Alive] = {}
        self._refused = ""
        """What was last said of jobs that are not taken now."""
        self.outcome = Outcome()

    @property
    def alive(self) -> list[Submitted]:
        """Jobs that are not known to have ended."""
        return [one.progress.job for one in self._alive.values()]

    def take_up(self, jobs: Iterable[Submitted]) -> None:
        """Watch jobs of an earlier sweep, too."""
        for job in jobs:
            self._alive[job.key] = _Alive(Progress(job), self._record.journal(job.key))

    def hand_over(self, jobs: Iterable[Planned]) -> Iterator[Planned]:
        """Submit as many as the executor takes now; returns an iterator over the others.

        Raises OdysseyError if they are refused and there is nothing to wait for.
        """
        waiting = jobs if isinstance(jobs, _Line) else _Line(jobs)
        while room := max(0, self._executor.room(len(self._alive))):
            batch = list(islice(waiting, room))
            if not batch:
                break
            try:
                with held():  # a job that runs is one that the record knows
                    submitted = self._executor.submit(batch)
                    self._record.add(submitted)
                    self.take_up(submitted)
            except OdysseyError as error:
                if not self._alive:
                    raise
                # A limit on a user's jobs, say: there is room once some have ended.
                if str(error) != self._refused:
                    self._tell(f"{counted(len(batch), 'job')} to be tried again later: {error}")
                self._refused = str(error)
                waiting.put_back(batch)
                break
            self._refused = ""
            for job in submitted:
                for domain in job.domains:
                    self._tell(self._alive[job.key].progress.line(domain, f"waiting in job {job.id}"))
        return waiting

    def run(self, jobs: Iterable[Planned] = ()) -> Outcome:
        """Have all of these done, and wait for those that were taken up."""
        waiting: Iterator[Planned] = _Line(jobs)
        shortest, longest = self._executor.intervals
        pause = shortest
        if self._alive:
            self.look()  # what they have of this machine is not to be had twice
        while True:
            waiting = self.hand_over(waiting)
            if not self._alive:
                return self.outcome
            self._pause(pause)
            pause = shortest if self.look() else min(longest, SLOWER * pause)

    def stop(self) -> None:
        """The sweep is interrupted: end the jobs that are to end with it. That is no failure of their cells."""
        for job in self._executor.end(self.alive):
            del self._alive[job.key]
            self._record.end(job.key)

    def look(self) -> bool:
        """Look at the jobs once, tell what is new, and forget those that have ended; returns whether anything was."""
        states = self._executor.states(self.alive)
        news = False
        for key, one in list(self._alive.items()):
            told = None if states is None else states.get(key, Told("ended", UNKNOWN))
            lines = [*one.progress.hear(one.journal.new())]
            if told is not None:
                lines += one.progress.look(told)
                if told.state == "ended" and one.gone:
                    lines += one.progress.end(told.why)
                    self._end(key, one.progress)
                one.gone = told.state == "ended"
                news = news or one.gone
            for line in lines:
                self._tell(line)
            news = news or bool(lines)
        return news

    def _end(self, key: str, progress: Progress) -> None:
        del self._alive[key]
        self._record.end(key)
        self.outcome.done += progress.done
        self.outcome.failures += failures(progress)


def failures(progress: Progress) -> list[Failure]:
    """The cells of a job that failed, with what its log says of each."""
    job, found = progress.job, []
    for domain, why in progress.whys.items():
        lines: Sequence[str] = []
        with suppress(OSError), Path(job.log).open(encoding="utf-8", errors="replace") as log:
            lines = tail(log, job.model, domain)
        found.append(Failure(job.model, domain, why, lines, job.log))
    return found
