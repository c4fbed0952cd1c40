"""Change of the NLL by the id of the predicted token."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

BLOCK = 1 << 18
"""Tokens that are added up at a time: what has to be widened of them stays in the processor's cache."""


class TokenTable(NamedTuple):
    """One entry per distinct token id, largest contribution first; ties by id.

    All arrays are (n_distinct,): `token_id` and `counts` int64, the others float64:
    `before` and `after` mean NLL in nats, `change` their difference, and `contribution`
    = counts / their sum * change, which sums to the change of the mean NLL.
    """

    token_id: np.ndarray
    counts: np.ndarray
    before: np.ndarray
    after: np.ndarray
    change: np.ndarray
    contribution: np.ndarray


def token_table(token_ids: np.ndarray, before: np.ndarray, after: np.ndarray) -> TokenTable:
    """Group per-token NLL, all (n,), by token id.

    The change of the mean NLL is a sum over ids of (share of the tokens) x (mean change):
    a positive contribution makes the text's perplexity worse. Sums are float64. Memory: 24
    bytes for each id from 0 to the largest, beside the table. Raises ValueError if the arrays
    differ in length or are empty, or for a negative id.
    """
    if not len(token_ids) == len(before) == len(after) or not len(token_ids):
        raise ValueError(f"lengths differ or are 0: {len(token_ids)}, {len(before)}, {len(after)}")
    if token_ids.min() < 0:
        raise ValueError(f"a token id is negative: {token_ids.min()}")
    ids, counts, sum_before, sum_after = _sums(token_ids, before, after)
    mean_before, mean_after = sum_before / counts, sum_after / counts
    change = mean_after - mean_before
    contribution = counts / len(token_ids) * change
    order = np.argsort(-contribution, kind="stable")  # ids ascend, and so do those of ties
    return TokenTable(*(a[order] for a in (ids, counts, mean_before, mean_after, change, contribution)))


def _sums(token_ids: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, ...]:
    """Distinct ids, ascending, how often each occurs, and its sums of both NLL; all (n_distinct,)."""
    size = int(token_ids.max()) + 1
    counts, sum_before, sum_after = np.zeros(size, dtype=np.int64), np.zeros(size), np.zeros(size)
    for start in range(0, len(token_ids), BLOCK):
        block = slice(start, start + BLOCK)
        ids = token_ids[block].astype(np.int64)
        counts += np.bincount(ids, minlength=size)
        sum_before += np.bincount(ids, weights=before[block], minlength=size)
        sum_after += np.bincount(ids, weights=after[block], minlength=size)
    seen = np.flatnonzero(counts)
    return seen, counts[seen], sum_before[seen], sum_after[seen]
