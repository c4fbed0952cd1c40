"""To which tokens a change of the mean NLL is due.

The change is a sum over token ids of (share of the tokens) x (mean change), as
`odyssey.science.tokens.token_table` has it, and so a sum over any classes of token ids.
All losses are natural logarithms, nats per token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from odyssey.science.token_classes import CLASSES, SPECIFIC
from odyssey.science.tokens import TokenTable

SHARES = (0.5, 0.8, 0.95)
"""Shares of a rise whose tokens are counted."""
OTHERS = "all others"
"""In the place of a class, the tokens that are not domain-specific."""
ROUNDING = 1e-12
"""Relative; a sum that falls short of a share by less has reached it."""


class Concentration(NamedTuple):
    """How few token ids a rise of the mean NLL is due to."""

    gross: float
    """Sum of the contributions above 0, nats per token."""
    net: float
    """Sum of all contributions: the change of the mean NLL, nats per token."""
    rising: int
    """Token ids that contribute to the rise."""
    of_gross: dict[float, int]
    """For each of SHARES the fewest token ids that have that share of `gross`; empty if nothing rose."""
    of_net: dict[float, int]
    """The same of `net`; empty if the mean NLL did not rise."""
    curve: NDArray[np.float64]
    """(rising,): the share of `gross` that the k + 1 largest contributions have; rises to 1."""


def concentration(contribution: NDArray[np.floating]) -> Concentration:
    """How many token ids, largest contribution (n,) first, carry 50, 80 and 95 % of a rise.

    Of two rises. The gross one, what got worse whatever got better elsewhere, always has a meaning,
    and no share of it is above 1; but an id that occurs a few times rises or falls by chance too, so
    some of it is there where nothing got worse, spread over many ids. The net one is what perplexity
    shows. A few ids may have several times a net change, as others take it back: where `net` is a
    small part of `gross`, one or two ids "carry" it, and many other choices of ids would too. Take
    `of_net` for what it says only where the two are close.

    Raises ValueError if a contribution is not a finite number.
    """
    values = np.sort(np.asarray(contribution, np.float64))[::-1]
    if not np.isfinite(values).all():
        raise ValueError("contributions must be finite numbers")
    sums = np.cumsum(values[values > 0])
    gross, net = float(sums[-1]) if len(sums) else 0.0, float(values.sum())
    return Concentration(
        gross, net, len(sums), _fewest(sums, gross), _fewest(sums, net), sums / gross if gross else sums
    )


def _fewest(sums: NDArray[np.float64], total: float) -> dict[float, int]:
    """For each share of a total above 0, the place, from 1, of the first of the rising sums that reaches it."""
    if total <= 0:
        return {}
    return {share: int(np.searchsorted(sums, share * total * (1 - ROUNDING))) + 1 for share in SHARES}


def classes_of(token_ids: NDArray[np.integer], classes: Mapping[int, str]) -> NDArray[np.str_]:
    """The class of each token id (n,), from a vocabulary's; raises ValueError if it lacks one."""
    try:
        return np.array([classes[token] for token in token_ids.tolist()], dtype=np.str_)
    except KeyError as error:
        raise ValueError(f"the vocabulary has no class for token id {error}") from None


def by_class(table: TokenTable, classes: Sequence[str] | NDArray[np.str_]) -> pd.DataFrame:
    """What each class of tokens does to a text's mean NLL: a row per class of CLASSES, in their order.

    `classes` (n_distinct,) is the class of each of the table's token ids. Columns:

    - class, tokens, share: how many of the text's tokens are of it
    - nll_before, nll_after, change: mean NLL of these; NaN without any
    - contribution: share x change, which sums over the classes to the change of the text's mean NLL
    - rise, fall: the parts of it above and below 0, summed over token ids; `rise` sums over the
      classes to the gross rise
    - perplexity_before_without, perplexity_after_without, perplexity_change_without: exp of the mean
      NLL of the text's other tokens; NaN without any. These come from the same forward pass: the
      model reads the class's tokens, and only the average leaves them out

    Raises ValueError if the lengths differ or a class is not among CLASSES.
    """
    return _rows(table, _checked(table, classes), tuple(CLASSES))


def specific_and_others(table: TokenTable, classes: Sequence[str] | NDArray[np.str_]) -> pd.DataFrame:
    """What domain-specific tokens and all others (SPECIFIC, OTHERS) gain or lose: two rows, all as in `by_class`."""
    groups = np.where(_checked(table, classes) == SPECIFIC, SPECIFIC, OTHERS)
    return _rows(table, groups, (SPECIFIC, OTHERS))


def _checked(table: TokenTable, classes: Sequence[str] | NDArray[np.str_]) -> NDArray[np.str_]:
    names = np.asarray(classes, np.str_)
    if len(names) != len(table.token_id):
        raise ValueError(f"{len(names)} classes for {len(table.token_id)} token ids")
    if unknown := set(names.tolist()) - set(CLASSES):
        raise ValueError(f"no such class of tokens: {', '.join(sorted(unknown))}")
    return names


def _rows(table: TokenTable, groups: NDArray[np.str_], names: Sequence[str]) -> pd.DataFrame:
    place = {name: k for k, name in enumerate(names)}
    member = np.array([place[name] for name in groups.tolist()])

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums: NDArray[np.float64] = np.bincount(member, weights=values, minlength=len(names)).astype(np.float64)
        return sums

    counts = total(table.counts)
    sums = [total(table.counts * mean) for mean in (table.before, table.after)]
    others = 1 - np.eye(len(names))  # sums the other rows, without the cancellation of whole - row
    with np.errstate(invalid="ignore"):  # 0 / 0 where there is no token: NaN
        before, after = (nll / counts for nll in sums)
        before_without, after_without = (np.exp(others @ nll / (others @ counts)) for nll in sums)
    return pd.DataFrame(
        {
            "class": names,
            "tokens": counts.astype(np.int64),
            "share": counts / counts.sum(),
            "nll_before": before,
            "nll_after": after,
            "change": after - before,
            "contribution": total(table.contribution),
            "rise": total(np.maximum(table.contribution, 0)),
            "fall": total(np.minimum(table.contribution, 0)),
            "perplexity_before_without": before_without,
            "perplexity_after_without": after_without,
            "perplexity_change_without": after_without - before_without,
        }
    )
