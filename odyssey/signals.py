"""Signals that end a command, held back while something must be done wholly or not at all."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a scheduler's or system's request to end, a closed terminal."""


@contextmanager
def held() -> Iterator[None]:
    """Let the first signal that would end the command wait until the block is done; a second one acts at once.

    Of one such block in another, what the inner one held goes to the outer one. Only Python's main thread
    is told of signals; elsewhere nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    came: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            release()
            for each in came:  # a block around this one has to count them, too
                signal.raise_signal(each)

    def release() -> None:
        for number, handler in before.items():
            if handler is not None:  # one that Python did not set cannot be set again
                signal.signal(number, handler)

    for number, handler in before.items():
        if handler not in (None, signal.SIG_IGN):
            signal.signal(number, hold)
    try:
        yield
    finally:
        release()
        if len(came) == 1:
            signal.raise_signal(came[0])
