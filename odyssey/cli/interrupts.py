"""An end by Ctrl-C, SIGTERM or a closed terminal: said in one line, with what was kept."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

import click

from odyssey.layout import SOURCE, Layout
from odyssey.settings import Settings
from odyssey.signals import ENDING
from odyssey.store import MANIFEST

NOTHING_LOST = "nothing is half written; run the same command again"


AGAIN = 0.05
"""Seconds until a signal is tried again that came where its exception would be lost."""


class Interrupted(KeyboardInterrupt):
    """The command is to end, by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


_raised: list[int] = []
"""Signals that the command was told of by an exception."""


def listen() -> None:
    """Have Ctrl-C, SIGTERM and a closed terminal raise Interrupted.

    Not where they are ignored, as in a shell's background jobs and under `nohup`.
    """
    _raised.clear()
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    if not _is_lost(frame):
        _raised.append(number)
        raise Interrupted(number)
    signal.signal(signal.SIGALRM, lambda _, there: _stop(number, there))
    signal.setitimer(signal.ITIMER_REAL, AGAIN)


def _is_lost(frame: FrameType | None) -> bool:
    """Whether Python only reports an exception that is raised here, in what runs when an object goes.

    DeepSpeed's and tqdm's objects have a __del__; dictionaries of weak references have callbacks.
    """
    while frame is not None:
        if frame.f_code.co_name == "__del__" or frame.f_code.co_filename.endswith(("/weakref.py", "/_weakrefset.py")):
            return True
        frame = frame.f_back
    return False


def behind(error: Exception) -> Interrupted | None:
    """The interrupt that an error stands for, if there was one: libraries make errors of their own of what passes them.

    Compiled ones do so wherever they ask Python for something and take any exception for a wrong argument.
    """
    chosen = isinstance(error, (click.ClickException, click.exceptions.Exit, click.Abort))
    return Interrupted(_raised[0]) if _raised and not chosen else None


RUN_AGAIN = os.EX_TEMPFAIL
"""Exit status of a stage after SIGTERM, which schedulers send: nothing is wrong, the same command goes on from here."""


def tell(context: click.Context, error: KeyboardInterrupt) -> int:
    """Say what was kept, and return the exit status: RUN_AGAIN, or 128 and the signal's number, as shells have it."""
    known = context.obj or {}
    kept: Callable[[], str] = known.get("kept", lambda: NOTHING_LOST)
    # A terminal shows ^C, with or without a bar before it.
    start = "\n" if sys.stderr.isatty() else ""
    click.echo(f"{start}{context.invoked_subcommand}: interrupted; {kept()}", err=True)
    number = error.number if isinstance(error, Interrupted) else signal.SIGINT
    return status_of(number, goes_on="goes_on" in known)


def status_of(number: int, *, goes_on: bool) -> int:
    """Exit status after a signal: RUN_AGAIN of what goes on after SIGTERM, else 128 and its number."""
    return RUN_AGAIN if number == signal.SIGTERM and goes_on else 128 + number


def count_kept(stage: str, settings: Settings, layout: Layout) -> Callable[[], str]:
    """What to say of a stage that is ended from now on: how many of its results there are."""
    start = time.time()
    total, unit = _expected(stage, settings)

    def kept() -> str:
        manifests = [
            path
            for path in (layout.data / stage).rglob(MANIFEST)
            if not any(part.startswith(".") for part in path.relative_to(layout.data).parts)
        ]
        new = sum(path.stat().st_mtime >= start for path in manifests)
        return (
            f"{len(manifests)} of {total} {unit} are there ({new} made now) and kept; "
            "run the same command again to go on"
        )

    return kept if total > 1 else lambda: NOTHING_LOST


def _expected(stage: str, settings: Settings) -> tuple[int, str]:
    """How many results a stage has in all, and what they are."""
    if stage in ("sample", "embed"):
        return len({SOURCE, *settings.domains}), "corpora"
    if stage == "pretrain":
        return len(settings.models), "models"
    if stage in ("adapt", "evaluate", "tokens", "joins"):
        return len(settings.models) * len(settings.adapted), "cells"
    return 1, "result"
