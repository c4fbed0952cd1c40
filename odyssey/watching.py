"""Who may look on while a cell's model trains: what `adapt` tells, as it happens, of loss and learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol


class Curves(Protocol):
    """Takes a cell's curves as they grow."""

    def point(self, step: int, nll: Sequence[float]) -> None:
        """NLL (nats per token) of train_start, valid and test after so many optimiser steps."""

    def step(self, step: int, nll: float, learning_rate: float) -> None:
        """A training step's NLL (nats per token) and learning rate."""


Watch = Callable[[str, str, Mapping[str, Any]], AbstractContextManager[Curves]]
"""(model, domain, made_from) -> a context for as long as the cell is in work."""


class _Nobody:
    def point(self, step: int, nll: Sequence[float]) -> None:
        pass

    def step(self, step: int, nll: float, learning_rate: float) -> None:
        pass


@contextmanager
def nobody(model: str, domain: str, made_from: Mapping[str, Any]) -> Iterator[Curves]:
    """Nobody looks on."""
    yield _Nobody()
