"""What a job says of its cells as it does them: a file of JSON lines, read while it grows."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

State = Literal["running", "done", "failed"]


class Event(NamedTuple):
    """What has become of a cell of the job's model."""

    domain: str
    state: State
    node: str = ""
    seconds: float = 0.0
    """Since its process began with it."""
    why: str = ""
    """One line, where it failed."""


class Journal:
    """A job's file, to be written to by the job and read by whoever watches."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._read = 0

    def begin(self, domain: str) -> None:
        """The cell is begun with, on this machine."""
        self.tell(Event(domain, "running", node=socket.gethostname().partition(".")[0]))

    def tell(self, event: Event) -> None:
        """Add an event."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event._asdict()) + "\n")

    def new(self) -> list[Event]:
        """Events since this was last asked; what is half written counts the next time."""
        if not self.path.is_file():
            return []
        with self.path.open("rb") as file:
            file.seek(self._read)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        return [event for line in whole.splitlines() if (event := _event(line)) is not None]

    def all(self) -> list[Event]:
        """Every event, from the first one."""
        return Journal(self.path).new()


def unfinished(domains: Sequence[str], events: Sequence[Event]) -> list[str]:
    """Which of a job's domains are neither done nor failed, in their order."""
    finished = {event.domain for event in events if event.state != "running"}
    return [domain for domain in domains if domain not in finished]


def under_way(events: Sequence[Event]) -> str | None:
    """The domain that was begun with and of which no end is told."""
    return events[-1].domain if events and events[-1].state == "running" else None


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self) -> float:
        """So many."""
        return time.monotonic() - self._start


def _event(line: bytes) -> Event | None:
    """An event; None for a line that a machine has broken off."""
    try:
        known: dict[str, Any] = json.loads(line)
        return Event(**known)
    except (ValueError, TypeError):
        return None
