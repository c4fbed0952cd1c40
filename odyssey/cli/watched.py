"""Cells in work, told to MLflow as they train."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any

from odyssey import processes
from odyssey.settings import Settings
from odyssey.watching import nobody

if TYPE_CHECKING:
    from odyssey.watching import Curves, Watch


def live_watch(settings: Settings) -> Watch:
    """What `stages.adapt` takes for `watch`: a live run of each cell in MLflow, told by the first process alone."""
    if not processes.is_first():
        return nobody

    @cache
    def live() -> Watch:
        from odyssey.tracking.live import Live  # imports MLflow, which takes longer than finding all kept

        return Live(settings)

    def watch(*cell: Any) -> AbstractContextManager[Curves]:
        return live()(*cell)

    return watch
