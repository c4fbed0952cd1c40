"""Requests that are made again: which failures may pass, and how long to wait for that."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

RETRY_DELAYS = (1.0, 2.0, 4.0, 8.0)
"""Seconds before a request is made again after a failure that may pass; after the last, it is an error."""


def patiently(action: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
    """What `action` returns, after some tries if need be; those begin anew whenever `progress` grew.

    Raises what `action` raises: at once if that will not pass, else when the last try fails too.
    """
    failures, reached = 0, progress()
    while True:
        try:
            return action()
        except Exception as error:
            if progress() > reached:
                failures, reached = 0, progress()
            if failures == len(RETRY_DELAYS) or not may_pass(error):
                raise
        print(f"no answer, or a broken one; trying again in {RETRY_DELAYS[failures]:g} s", file=sys.stderr)
        time.sleep(RETRY_DELAYS[failures])
        failures += 1


def may_pass(error: Exception) -> bool:
    """Whether a failure is of the kind that goes away: dropped connections, timeouts, overload."""
    import httpx2

    if isinstance(error, httpx2.TimeoutException | httpx2.NetworkError | httpx2.RemoteProtocolError):
        return True
    status = status_of(error)
    return status in (408, 416, 429) or status >= 500


def status_of(error: Exception) -> int:
    """The HTTP status that an error is about; 0 if there is none."""
    return int(getattr(getattr(error, "response", None), "status_code", 0))
