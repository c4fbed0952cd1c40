"""The paper's claims against a study's evidence: frames in, verdicts out. No files here.

The evidence has a row for each (seed, model, domain); see `COLUMNS`. Domains are the units that
claims are about: estimates are means over domains of means over seeds, and intervals come from
drawing domains, and within a domain its seeds, again (see `science.stats`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from odyssey.estimates import by_model, by_seed, mean
from odyssey.science import stats
from odyssey.science.stats import Interval
from odyssey.sections import Claims

HOLDS, FAILS, OPEN = "holds", "does not hold", "not testable here"

COLUMNS = (
    *("seed", "model", "parameters", "domain", "portion", "mmd", "fd"),
    *("change", "change_low", "change_high", "log_change", "log_change_low", "log_change_high", "outcome"),
    *("rise_train_start", "rise_valid", "rise_test", "tokens_50", "newline", "other", "newline_first"),
)
"""What is read of the evidence. Changes are adapted minus zero-shot, of perplexity and of the mean NLL
(nats per token); rises are of the mean NLL over the epoch; `tokens_50` is the number of token ids that carry
half of the gross rise, `newline` the part (nats) of the newline tokens in the change, `other` that of the
one other token that raises it most."""

CURVES = {"rise_train_start": "the start of train", "rise_valid": "valid", "rise_test": "test"}
HANDFUL = 10
"""Tokens that still are a handful: a reading of ours."""
CHANCE = 0.05
"""An "always" is refuted where so many exceptions would come about by chance with less than this probability."""

WORSE, BETTER, SAME = "worse", "better", "within noise"


class Claim(NamedTuple):
    """A claim of the paper, in our words, and where it is made."""

    number: str
    statement: str
    source: str


CLAIMS = {
    claim.number: claim
    for claim in (
        Claim("1", "Adapting to dissimilar domains lowers test perplexity", "abstract; section 3, Figure 1"),
        Claim("2", "Adapting to similar domains raises test perplexity", "abstract; section 3, Figure 1"),
        Claim("3a", "The closer a domain is by MMD, the worse the change", "sections 3 and 4, Domain similarity"),
        Claim("3b", "The closer a domain is by FD, the worse the change", "sections 3 and 4, Domain similarity"),
        Claim("4a", "Smaller models change more, in perplexity", "section 4; Figure 1"),
        Claim("4b", "Smaller models change more, in log perplexity", "section 4; the measure is ours"),
        Claim("5a", "In degraded domains the loss on the first rows of train rises", "section 3, Figure 3"),
        Claim("5b", "In degraded domains the loss on valid rises", "section 3, Figure 3"),
        Claim("5c", "In degraded domains the loss on test rises", "section 3, Figure 3"),
        Claim("6a", "A handful of tokens carries the degradation", "abstract; section 3, Figure 4"),
        Claim("6b", "Among these tokens, newlines come first", "section 3, Token-level observations"),
    )
}


class Finding(NamedTuple):
    """One claim on one model (or pair of models): a row of claims.csv. Undefined numbers are NaN."""

    claim: str
    statement: str
    source: str
    model: str
    statistic: str
    value: float
    low: float
    high: float
    p: float
    n: int
    seeds: int
    verdict: str
    reason: str


def outcome(interval: Interval) -> str:
    """Whether a change is beyond its interval: worse, better, or within noise."""
    return WORSE if interval.low > 0 else BETTER if interval.high < 0 else SAME


def judge(evidence: pd.DataFrame, links: pd.DataFrame, rules: Claims, rng: np.random.Generator) -> pd.DataFrame:
    """A row for each claim and model, in the order of the claims.

    `evidence` has COLUMNS, `links` is what `estimates.correlations` makes of it. A claim holds if
    the interval of its statistic lies on the claimed side, does not hold if it lies on the other,
    and is not testable here if it reaches over both, or if the study has nothing that it could be
    tested on: the reason says which.
    """
    found = [
        *_direction("1", evidence, 1, -1, rules, rng),
        *_direction("2", evidence, 0, +1, rules, rng),
        *_follows(evidence, links),
        *_size(evidence, rules, rng),
        *_curves(evidence, rules, rng),
        *_tokens(evidence, rules, rng),
    ]
    return pd.DataFrame(found, columns=Finding._fields)


def near_and_far(evidence: pd.DataFrame) -> tuple[str, str] | None:
    """The portions that are nearest to the source corpus and farthest, by median FD; None if there is only one."""
    medians = evidence.groupby("portion", sort=False)["fd"].median().sort_values(kind="stable")
    return (str(medians.index[0]), str(medians.index[-1])) if len(medians) > 1 else None


# --- 1 and 2


def _direction(
    number: str, evidence: pd.DataFrame, end: int, side: int, rules: Claims, rng: np.random.Generator
) -> Iterator[Finding]:
    ends = near_and_far(evidence)
    for model, own in by_model(evidence):
        if ends is None:
            yield _untestable(number, model, evidence, "all domains are of one portion: none is nearer than another")
            continue
        rows = own[own["portion"] == ends[end]]
        found = mean(by_seed(rows, "log_change"), rules, rng)
        exceptions = int((rows["outcome"] == (WORSE if side < 0 else BETTER)).sum())
        agree = int((rows["outcome"] == (BETTER if side < 0 else WORSE)).sum())
        verdict, reason = _side(found.interval, side)
        means = [f"{x:+.3f}" for x in rows.groupby("seed")["log_change"].mean()]
        seeds = f"mean by seed {', '.join(means)}" if len(means) > 1 else ""
        counts = f"of {len(rows)} {ends[end]} cells {agree} as claimed and {exceptions} the other way, beyond noise"
        # A cell within noise of 0 still falls out of its interval on the wrong side with half of 1 - confidence.
        chance = binomtest(exceptions, len(rows), (1 - rules.confidence) / 2, "greater").pvalue
        if chance < CHANCE and side < 0 and verdict == HOLDS:
            verdict, reason = FAILS, "on average yes, but the paper says always, and there are exceptions"
        if chance < CHANCE and verdict == OPEN and agree:
            verdict, reason = FAILS, "domains move both ways, beyond noise, and on average neither way"
        name = f"mean log change over {ends[end]} (nats/token)"
        yield _finding(number, model, name, found, rows, verdict, reason, counts, seeds)


# --- 3


def _follows(evidence: pd.DataFrame, links: pd.DataFrame) -> Iterator[Finding]:
    used = links[links["change"] == "log_change"]
    for number, distance in (("3a", "mmd"), ("3b", "fd")):
        for model, own in by_model(evidence):
            rows = {
                row.portion: _spearman(row)
                for row in used.itertuples()
                if (row.model, row.distance) == (model, distance)
            }
            found = rows.pop("all")
            if math.isnan(found.value):
                yield _untestable(number, model, own, f"too few domains ({found.n}), or all alike")
                continue
            verdict, reason = _side(found.interval, -1)
            parts = [
                f"{name} {r.value:+.2f} [{r.interval.low:+.2f}, {r.interval.high:+.2f}]"
                for name, r in rows.items()
                if not math.isnan(r.value)
            ]
            told = f"within one portion: {', '.join(parts)}" if parts else ""
            name = f"Spearman's r of log change with {distance.upper()}"
            yield _finding(number, model, name, found, own, verdict, reason, told)


def _spearman(row: Any) -> stats.Estimate:
    interval = Interval(row.spearman_low, row.spearman_high)
    return stats.Estimate(row.spearman, interval, row.spearman_p, row.n)


# --- 4


def _size(evidence: pd.DataFrame, rules: Claims, rng: np.random.Generator) -> Iterator[Finding]:
    sizes = evidence.groupby("model", sort=False)["parameters"].first().sort_values(kind="stable")
    for number, column, unit in (("4a", "change", "perplexity"), ("4b", "log_change", "nats/token")):
        if len(sizes) == 1:
            yield _untestable(number, str(sizes.index[0]), evidence, "the study has one model only")
        for smaller, larger in pairwise(map(str, sizes.index)):
            rows = {name: evidence[evidence["model"] == name] for name in (smaller, larger)}
            sized = {name: np.abs(by_seed(own, column)) for name, own in rows.items()}
            found = mean(sized[smaller] - sized[larger], rules, rng)
            verdict, reason = _side(found.interval, +1)
            told = [f"{np.nanmean(sized[name]):.3g} with {name}" for name in (smaller, larger)]
            name = f"mean of |change| with {smaller} - with {larger} ({unit})"
            pair, sizes_told = f"{smaller}, {larger}", f"mean size {' and '.join(told)}"
            yield _finding(number, pair, name, found, rows[smaller], verdict, reason, sizes_told)


# --- 5 and 6: of the domains that got worse beyond noise


def _curves(evidence: pd.DataFrame, rules: Claims, rng: np.random.Generator) -> Iterator[Finding]:
    for number, (column, where) in zip(("5a", "5b", "5c"), CURVES.items(), strict=True):
        yield from _degraded(
            number, column, f"mean rise of the loss on {where} (nats/token)", _rose, +1, evidence, rules, rng
        )


def _rose(rows: pd.DataFrame, column: str) -> str:
    return f"it rose in {int((rows[column] > 0).sum())} of {len(rows)} degraded cells"


def _tokens(evidence: pd.DataFrame, rules: Claims, rng: np.random.Generator) -> Iterator[Finding]:
    few = evidence.assign(lead=evidence["newline"] - evidence["other"])
    name = "mean number of token ids for half of the gross rise"
    yield from _degraded("6a", "tokens_50", name, _count, -1, few, rules, rng, bound=HANDFUL)
    name = "mean lead of newlines over the worst other token (nats/token)"
    yield from _degraded("6b", "lead", name, _first, +1, few, rules, rng)


def _count(rows: pd.DataFrame, column: str) -> str:
    counts = rows[column]
    return f"it takes {counts.min():.0f} to {counts.max():.0f} token ids, a handful being up to {HANDFUL}"


def _first(rows: pd.DataFrame, column: str) -> str:
    return f"newlines were first in {int(rows['newline_first'].sum())} of {len(rows)} degraded cells"


def _degraded(
    number: str,
    column: str,
    name: str,
    tell: Callable[[pd.DataFrame, str], str],
    side: int,
    evidence: pd.DataFrame,
    rules: Claims,
    rng: np.random.Generator,
    bound: float = 0,
) -> Iterator[Finding]:
    for model, own in by_model(evidence):
        rows = own[own["outcome"] == WORSE]
        if rows.empty:
            yield _untestable(number, model, own, "no domain got worse beyond noise")
            continue
        found = mean(by_seed(rows, column), rules, rng, bound)
        verdict, reason = _side(found.interval, side, bound)
        yield _finding(number, model, name, found, rows, verdict, reason, tell(rows, column))


# --- shared


def _side(interval: Interval, side: int, bound: float = 0) -> tuple[str, str]:
    """The verdict on a claim that a statistic is above (side 1) or below (-1) a bound, and why."""
    low, high = sorted((side * (interval.low - bound), side * (interval.high - bound)))
    if math.isnan(low) or math.isnan(high):
        return OPEN, "undecided: one domain has no interval"
    if low > 0:
        return HOLDS, ""
    if high < 0:
        return FAILS, "it is the other way round" if bound == 0 else f"it is on the other side of {bound:g}"
    return OPEN, f"undecided: the interval includes {bound:g}"


def _finding(
    number: str,
    model: str,
    statistic: str,
    found: stats.Estimate,
    rows: pd.DataFrame,
    verdict: str,
    *reasons: str,
) -> Finding:
    reason = "; ".join(filter(None, reasons))
    low, high = found.interval
    seeds = rows["seed"].nunique()
    return Finding(*CLAIMS[number], model, statistic, found.value, low, high, found.p, found.n, seeds, verdict, reason)


def _untestable(number: str, model: str, evidence: pd.DataFrame, reason: str) -> Finding:
    seeds = evidence["seed"].nunique()
    return Finding(*CLAIMS[number], model, "none", math.nan, math.nan, math.nan, math.nan, 0, seeds, OPEN, reason)
