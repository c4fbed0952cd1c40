"""One progress bar for all loops: on a terminal a bar, elsewhere a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def bar(
    iterable: Iterable[Any] | None = None,
    label: str = "",
    *,
    total: float | None = None,
    unit: str = "it",
    disable: bool = False,
) -> Any:
    """A tqdm bar on standard error with rate and remaining time; a log gets an update every ten seconds."""
    terminal = sys.stderr.isatty()
    return tqdm(
        iterable,
        desc=label,
        total=total,
        unit=f" {unit}",
        unit_scale=unit == "tok",
        mininterval=0.2 if terminal else 10,
        miniters=None if terminal else 1,
        dynamic_ncols=terminal,
        # In a log, a bar inside another one would come with empty lines for the other's place.
        position=None if terminal else 0,
        leave=not terminal,
        disable=disable,
    )
