"""Who may look on while a model trains: told, as it happens, of loss, learning rate and what is probed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol


class Curves(Protocol):
    """Takes a model's curves as they grow; after an interruption it is told of them again from the start."""

    def point(self, step: int, nll: Sequence[float]) -> None:
        """What was probed after so many optimiser steps; of `adapt`, NLL (nats per token) of layout.CURVES."""

    def step(self, step: int, nll: float, learning_rate: float) -> None:
        """A training step's NLL (nats per token) and learning rate."""


Watch = Callable[[str, str, Mapping[str, Any]], AbstractContextManager[Curves]]
"""(model, domain, made_from) -> a context for as long as the cell is in work."""


class Unwatched:
    """Nobody's curves."""

    def point(self, step: int, nll: Sequence[float]) -> None:
        """Tell nobody."""

    def step(self, step: int, nll: float, learning_rate: float) -> None:
        """Tell nobody."""


@contextmanager
def nobody(model: str, domain: str, made_from: Mapping[str, Any]) -> Iterator[Curves]:
    """Nobody looks on."""
    yield Unwatched()
