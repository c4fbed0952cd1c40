"""Progress of all loops: on a terminal a bar, elsewhere a plain line now and then."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, ClassVar

from tqdm import tqdm

from odyssey import processes

FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {state}"
VERBOSE = "ODYSSEY_VERBOSE"
"""Environment variable, set by `odyssey -v`, that lets libraries say what they have to say."""
QUIET = 10.0
"""Seconds between two lines of a log, whatever the number of bars."""
BRIEF = 1.0
"""Seconds for which a bar inside another one, or of what may be over at once, is not shown."""


def bar(
    iterable: Iterable[Any] | None = None,
    label: str = "",
    *,
    total: float | None = None,
    unit: str = "it",
    brief: bool = False,
) -> Any:
    """A bar on standard error with rate and remaining time; a log gets a line every ten seconds at most.

    It goes round a loop or is told what is done (`update`), and is gone when that is over. `brief`
    says that it may be over at once: then nothing is shown in the first second.
    """
    if not processes.is_first():
        return _Silent(iterable)
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    if not sys.stderr.isatty():
        return _Log(iterable, label, total, unit)
    delay = BRIEF if brief or tqdm._instances else 0.0
    how = {"mininterval": 0.2, "dynamic_ncols": True, "leave": False, "delay": delay, "bar_format": FORMAT}
    return _Bar(iterable, desc=label, total=total, unit=unit, **how)


def verbose() -> bool:
    """Whether libraries' own notices and bars are wanted."""
    return os.environ.get(VERBOSE, "") not in ("", "0")


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Say on a terminal what goes on meanwhile, where there is nothing to count."""
    if not sys.stderr.isatty() or not processes.is_first():
        yield
        return
    with tqdm(desc=f"{what} ...", bar_format="{desc}", leave=False):
        yield


def state(done: float, total: float | None, seconds: float, unit: str) -> str:
    """How far a loop is, for people: `7/20 domains, 1.8 s each, 00:24 left`, or `12.3k/27.1k tok, 3.20k tok/s, ...`."""
    count = tqdm.format_sizeof if unit == "tok" else "{:,.0f}".format
    parts = [f"{count(done)}{'' if total is None else f'/{count(total)}'} {unit}"]
    if done and seconds > 0:
        rate = done / seconds
        parts.append(f"{tqdm.format_sizeof(rate)} {unit}/s" if rate >= 1 else f"{1 / rate:.1f} s each")
        if total is not None:
            parts.append(f"{tqdm.format_interval(max(0, total - done) / rate)} left")
    return ", ".join(parts)


class _Bar(tqdm):  # type: ignore[misc]
    """A bar on a terminal."""

    @property
    def format_dict(self) -> dict[str, Any]:
        """What FORMAT can name."""
        known: dict[str, Any] = super().format_dict
        return known | {"state": state(known["n"], known["total"], known["elapsed"], self.unit)}


class _Silent:
    """Of a process that is not the first: nothing is shown."""

    def __init__(self, iterable: Iterable[Any] | None) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[Any]:
        return iter(self._iterable or ())

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *_: object) -> None:
        """Show nothing."""

    def update(self, more: float = 1) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""


class _Log:
    """The same as lines of a log, each of which tells of all loops that are under way, the outermost first."""

    running: ClassVar[list[_Log]] = []
    said: ClassVar[float] = time.monotonic()

    def __init__(self, iterable: Iterable[Any] | None, label: str, total: float | None, unit: str) -> None:
        self.iterable, self.label, self.total, self.unit = iterable, label, total, unit
        self.n = 0.0
        self.start = time.monotonic()
        self.running.append(self)

    def __iter__(self) -> Iterator[Any]:
        with self:
            for one in self.iterable or ():
                yield one
                self.update()

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, more: float = 1) -> None:
        """Count so many more as done."""
        self.n += more
        now = time.monotonic()
        if self in self.running and now - max(_Log.said, self.running[0].start) >= QUIET:
            _Log.said = now
            told = (f"{one.label}: {state(one.n, one.total, now - one.start, one.unit)}" for one in self.running)
            print("; ".join(told), file=sys.stderr, flush=True)

    def close(self) -> None:
        """No longer tell of this one."""
        if self in self.running:
            self.running.remove(self)
