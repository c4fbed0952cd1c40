"""Change of the NLL by the id of the predicted token."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


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
    a positive contribution makes the text's perplexity worse. Raises ValueError if the
    arrays differ in length or are empty.
    """
    if not len(token_ids) == len(before) == len(after) or not len(token_ids):
        raise ValueError(f"lengths differ or are 0: {len(token_ids)}, {len(before)}, {len(after)}")
    ids, inverse, counts = np.unique(token_ids.astype(np.int64), return_inverse=True, return_counts=True)
    mean_before = np.bincount(inverse, weights=before.astype(np.float64)) / counts
    mean_after = np.bincount(inverse, weights=after.astype(np.float64)) / counts
    change = mean_after - mean_before
    contribution = counts / len(token_ids) * change
    order = np.lexsort((ids, -contribution))
    return TokenTable(*(a[order] for a in (ids, counts, mean_before, mean_after, change, contribution)))
