"""Whether the paper's claims hold by a study's evidence: frames in, verdicts out. No files here.

Domains are the units that claims are about: estimates are means over domains of means over seeds,
and intervals say what other domains, and other seeds where there are several, would give.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from odyssey.claims import BETTER, CHANCE, CLAIMS, CURVES, FAILS, HANDFUL, HOLDS, OPEN, WORSE, Finding, near_and_far
from odyssey.estimates import by_model, by_seed, mean
from odyssey.science import stats
from odyssey.science.stats import Interval
from odyssey.sections import Claims


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
        *_follows(evidence, links, rules),
        *_size(evidence, rules, rng),
        *_curves(evidence, rules, rng),
        *_tokens(evidence, rules, rng),
    ]
    return pd.DataFrame(found, columns=Finding._fields)


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
        verdict, reason = _side(found, side, rules)
        against, along = (_clear(rows, sign, rules) for sign in (-side, side))
        if verdict == HOLDS and side < 0 and against:
            verdict, reason = FAILS, f"on average yes, but the paper says always, and not so {', '.join(against)}"
        if verdict == OPEN and against and along:
            verdict, reason = FAILS, "domains clearly move both ways, and on average neither way"
        words = {+1: WORSE, -1: BETTER}
        counts = [int((rows["outcome"] == words[sign]).sum()) for sign in (side, -side)]
        told = (
            f"beyond noise, {counts[0]} of {len(rows)} {ends[end]} cells {words[side]} and {counts[1]} {words[-side]}"
        )
        means = [f"{x:+.3f}" for x in rows.groupby("seed")["log_change"].mean()]
        seeds = f"mean by seed {', '.join(means)}" if len(means) > 1 else ""
        name = f"mean log change over {ends[end]} (nats/token)"
        yield _finding(number, model, name, found, rows, verdict, reason, told, seeds)


def _clear(rows: pd.DataFrame, side: int, rules: Claims) -> list[str]:
    """Domains that changed to this side so far that no chance would do it in as many domains (Bonferroni).

    By the width of their intervals as if normal, and the mean over seeds of a domain that has several.
    """
    from scipy.stats import norm

    reach = norm.isf((1 - rules.confidence) / 2)
    errors = (rows["log_change_high"] - rows["log_change_low"]) / (2 * reach)
    table = pd.DataFrame({"domain": rows["domain"], "change": side * rows["log_change"], "variance": errors**2})
    by_domain = table.groupby("domain", sort=False)
    z = by_domain["change"].mean() / np.sqrt(by_domain["variance"].sum()) * by_domain.size()
    return [str(domain) for domain in z.index[norm.sf(z) * len(z) < CHANCE]]


# --- 3


def _follows(evidence: pd.DataFrame, links: pd.DataFrame, rules: Claims) -> Iterator[Finding]:
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
            verdict, reason = _side(found, -1, rules)
            if verdict != OPEN and found.p >= 1 - rules.confidence:
                # A few domains that happen to be in order are so however they are drawn again.
                verdict, reason = OPEN, "undecided: so few domains can be in order by chance"
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
            if sizes[smaller] == sizes[larger]:
                yield _untestable(number, f"{smaller}, {larger}", evidence, "the models are of one size")
                continue
            sized = {name: np.abs(by_seed(own, column)) for name, own in rows.items()}
            found = mean(sized[smaller] - sized[larger], rules, rng)
            verdict, reason = _side(found, +1, rules)
            told = [f"{np.nanmean(sized[name]):.3g} with {name}" for name in (smaller, larger)]
            name = f"mean of |change| with {smaller} - with {larger} ({unit})"
            pair, sizes_told = f"{smaller}, {larger}", f"mean size {' and '.join(told)}"
            yield _finding(number, pair, name, found, rows[smaller], verdict, reason, sizes_told)


# --- 5 and 6


def _curves(evidence: pd.DataFrame, rules: Claims, rng: np.random.Generator) -> Iterator[Finding]:
    for number, (column, where) in zip(("5a", "5b", "5c"), CURVES.items(), strict=True):
        name = f"mean rise of the loss on {where} (nats/token)"
        for found in _mean_is(number, column, name, _rose, +1, evidence, rules, rng, worse_only=True):
            if number == "5c" and found.n:
                # The curve's ends are the scores that the domain was chosen by.
                yield found._replace(verdict=OPEN, reason="a domain counts as degraded because it rose")
            else:
                yield found


def _rose(rows: pd.DataFrame) -> str:
    return "rose on " + ", ".join(f"{where} in {int((rows[c] > 0).sum())}" for c, where in CURVES.items()) + _of(rows)


def _tokens(evidence: pd.DataFrame, rules: Claims, rng: np.random.Generator) -> Iterator[Finding]:
    name = "mean of the fewest token ids that make half of the rise"
    yield from _mean_is("6a", "tokens_50", name, _count, -1, evidence, rules, rng, worse_only=True, bound=HANDFUL + 0.5)
    name = "mean change of the loss on newlines (nats/newline)"
    yield from _mean_is("6b", "newline_change", name, _newlines, +1, evidence, rules, rng)
    lead = evidence.assign(lead=evidence["newline"] - evidence["other"])
    name = "mean lead of the newline over the worst other token (nats/token)"
    yield from _mean_is("6c", "lead", name, _first, +1, lead, rules, rng, worse_only=True)


def _count(rows: pd.DataFrame) -> str:
    counts = rows["tokens_50"]
    return f"{counts.min():.0f} to {counts.max():.0f} ids; a handful is up to {HANDFUL}"


def _newlines(rows: pd.DataFrame) -> str:
    return f"worse in {int((rows['newline_change'] > 0).sum())} of {len(rows)} cells"


def _first(rows: pd.DataFrame) -> str:
    return f"first in {int((rows['lead'] > 0).sum())}{_of(rows)}"


def _of(rows: pd.DataFrame) -> str:
    return f" of {len(rows)} degraded cells"


def _mean_is(
    number: str,
    column: str,
    name: str,
    tell: Callable[[pd.DataFrame], str],
    side: int,
    evidence: pd.DataFrame,
    rules: Claims,
    rng: np.random.Generator,
    *,
    worse_only: bool = False,
    bound: float = 0,
) -> Iterator[Finding]:
    """Whether a column's mean over domains, or over those that got worse beyond noise, is on one side of a bound."""
    for model, own in by_model(evidence):
        rows = own[(own["outcome"] == WORSE) | (not worse_only)]
        if rows.empty:
            yield _untestable(number, model, own, "no domain got worse beyond noise")
            continue
        rows = rows[rows[column].notna()]
        if rows.empty:
            yield _untestable(number, model, own, "the test texts have no such tokens")
            continue
        found = mean(by_seed(rows, column), rules, rng, bound)
        verdict, reason = _side(found, side, rules, bound)
        yield _finding(number, model, name, found, rows, verdict, reason, tell(rows))


# --- shared


def _side(found: stats.Estimate, side: int, rules: Claims, bound: float = 0) -> tuple[str, str]:
    """The verdict on a claim that a statistic is above (side 1) or below (-1) a bound, and why."""
    low, high = sorted((side * (found.interval.low - bound), side * (found.interval.high - bound)))
    if math.isnan(low) or math.isnan(high):
        return OPEN, "undecided: too few for an interval"
    if low <= 0 <= high:
        return OPEN, f"undecided: the interval includes {bound:g}"
    if high < 0:
        return FAILS, "it is the other way round" if bound == 0 else f"it is on the other side of {bound:g}"
    return HOLDS, ""


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
