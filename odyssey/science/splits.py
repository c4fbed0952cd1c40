"""Documents to splits, and the seeds of every draw."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def generator(seed: int, *purpose: str) -> np.random.Generator:
    """A generator of its own for each purpose, so that adding a draw changes no other one."""
    key = hashlib.sha256("\0".join(purpose).encode()).digest()[:8]
    return np.random.default_rng([seed, int.from_bytes(key, "little")])


def share_out(available: int, limits: Mapping[str, int | None]) -> dict[str, int]:
    """Rows wanted of each split of `available` rows: its limit, or where that is None an equal share of the rest.

    Beside an open split the limited ones get at most a tenth of the rows each, so that a small
    corpus still has something to train on.
    """
    if all(limit is not None for limit in limits.values()):
        return {name: limit for name, limit in limits.items() if limit is not None}
    tenth = max(1, available // 10)
    limited = {name: min(limit, tenth) for name, limit in limits.items() if limit is not None}
    rest = available - sum(limited.values())
    return {name: limited.get(name, max(1, rest // (len(limits) - len(limited)))) for name in limits}


def split_documents(
    documents: Sequence[Sequence[T]], wanted: Mapping[str, int], rng: np.random.Generator
) -> tuple[dict[str, list[T]], list[int]]:
    """Deal whole documents (sequences of rows) into splits; return the splits and the documents left over.

    Documents are taken in random order. Each split is filled up to its number of rows and
    the rest of its last document is dropped, so no document is in two splits. With fewer
    rows than wanted in all, every split shrinks in proportion. Left-over documents are
    given by index, in the random order.
    """
    available = sum(map(len, documents))
    shrink = min(1.0, available / sum(wanted.values()))
    order = iter(rng.permutation(len(documents)).tolist())
    splits: dict[str, list[T]] = {}
    for name, rows in wanted.items():
        goal = int(rows * shrink)
        taken: list[T] = []
        while len(taken) < goal and (index := next(order, None)) is not None:
            taken.extend(documents[index])
        splits[name] = taken[:goal]
    return splits, list(order)
