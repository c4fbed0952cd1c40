"""How far the cells of a job are, and what is said of them: a line where one's state changes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from odyssey.sweeping.executors import Told
from odyssey.sweeping.journal import Event
from odyssey.sweeping.record import Submitted

TAIL = 30
"""Lines that are shown of the log of a cell that failed."""


class Progress:
    """The cells of one job that has not ended."""

    def __init__(self, job: Submitted) -> None:
        self.job = job
        self.states: dict[str, str] = dict.fromkeys(job.domains, "waiting")
        self.whys: dict[str, str] = {}
        """Of the cells that failed, by domain."""
        self._runs = False
        self._waits_for = ""

    @property
    def done(self) -> int:
        """Cells that are."""
        return sum(state == "done" for state in self.states.values())

    def hear(self, events: Iterable[Event]) -> Iterator[str]:
        """Take what the job said, and yield the lines that tell of it."""
        for event in events:
            if event.state == "running" and self.states.get(event.domain) == "running":
                yield self.line(event.domain, "requeued")
            self.states[event.domain] = event.state
            if event.state == "failed":
                self.whys[event.domain] = event.why
            yield self.line(event.domain, words(event))

    def look(self, told: Told) -> Iterator[str]:
        """Take what is known of the job, and yield a line for each cell that it is news of."""
        if told.state == "waiting" and self._runs:
            for domain, state in self.states.items():
                if state == "running":
                    self.states[domain] = "waiting"
                    yield self.line(domain, "requeued")
        waits_for = told.why if told.state == "waiting" else ""
        if waits_for and waits_for != self._waits_for:
            for domain, state in self.states.items():
                if state == "waiting":
                    yield self.line(domain, f"waiting ({waits_for})")
        self._runs, self._waits_for = told.state == "running", waits_for

    def end(self, why: str) -> Iterator[str]:
        """The job has ended: yield a line for each cell that is not finished, which has failed."""
        for domain, state in self.states.items():
            if state not in ("done", "failed"):
                self.states[domain] = "failed"
                begun = "" if state == "running" else " before it was begun"
                self.whys[domain] = f"its job {self.job.id} ended{begun}{f' ({why})' if why else ''}"
                yield self.line(domain, f"failed: {self.whys[domain]}")

    def line(self, domain: str, told: str) -> str:
        """One line of a cell."""
        return f"{cell(self.job.model, domain)}: {told}"


def cell(model: str, domain: str) -> str:
    """A cell's name."""
    return f"{model} on {domain}"


def words(event: Event) -> str:
    """What has become of a cell."""
    if event.state == "running":
        return f"running on {event.node}"
    return f"done in {spent(event.seconds)}" if event.state == "done" else f"failed: {event.why}"


def spent(seconds: float) -> str:
    """12 s, 3 min, 4.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def counted(number: int, kind: str) -> str:
    """1 cell, 2 cells."""
    return f"{number:,} {kind}{'' if number == 1 else 's'}"


def begins(model: str, domain: str) -> str:
    """The line of a job's log from which on it tells of this cell."""
    return f"{cell(model, domain)}: begins"


def tail(lines: Iterable[str], model: str, domain: str, most: int = TAIL) -> Sequence[str]:
    """The last lines that a log has of a cell; of all of it, where the cell is not named in it.

    Jobs that were requeued begin with a cell more than once: the last time counts.
    """
    start, end = begins(model, domain), f"{cell(model, domain)}: failed"
    own: deque[str] = deque(maxlen=most)
    all_of_it: deque[str] = deque(maxlen=most)
    inside = seen = False
    for line in (line.rstrip("\n") for line in lines):
        if line == start:
            own.clear()
            inside = seen = True
        elif line.startswith(f"{model} on ") and line.endswith(": begins"):
            inside = False  # another cell's; this one's process was killed, and could not say that it failed
        if inside:
            own.append(line)
            inside = not line.startswith(end)
        all_of_it.append(line)
    return list(own if seen else all_of_it)
