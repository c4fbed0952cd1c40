"""The question, and its answer in three sentences made from the numbers at hand.

Every sentence is true whatever the numbers are. No results are read here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from odyssey.claims import HANDFUL, WORSE
from odyssey.reporting.tables import COUNTS, most_degraded
from odyssey.reporting.words import bounds, listed, number, signed, span

QUESTION = (
    "Can training a language model further on a domain’s texts make it worse at that same domain, "
    "and does the domain’s similarity to what the model has read say where?"
)

NAMED_TOKENS = 3
"""Tokens that are named of the worst domain."""


class Worst(NamedTuple):
    """The domain that came off worst with a model, and what to say of it."""

    model: str
    domain: str
    worse: bool
    """Whether it got worse beyond noise."""
    change: str
    tokens: list[str]
    """Those that raise the mean NLL of its test text most."""


def answer(portions: pd.DataFrame, claims: Mapping[str, pd.DataFrame]) -> list[tuple[str, str]]:
    """Three times (what is asked, a sentence): how often it got worse, whether distance says where, by which tokens.

    `claims` has stage `claims`' tables, of which correlations and evidence are used.
    """
    return [
        ("Does it get worse?", _how_often(portions)),
        ("Does similarity say where?", _where(claims["correlations"])),
        ("Through which tokens?", _through(claims["evidence"])),
    ]


def worst_domains(headline: pd.DataFrame, top_tokens: pd.DataFrame) -> list[Worst]:
    """For each model the domain that came off worst: see `most_degraded`."""
    found = []
    for model in dict.fromkeys(headline["model"]):
        domain = most_degraded(headline, model)
        row = headline[(headline["model"] == model) & (headline["domain"] == domain)].iloc[0]
        own = top_tokens[(top_tokens["model"] == model) & (top_tokens["domain"] == domain)]
        up = own[(own["split"] == "test") & (own["direction"] == "up")].sort_values("rank")
        names = up["token"].head(NAMED_TOKENS).str.replace(" ", "␣").tolist()
        found.append(Worst(model, domain, row["outcome"] == WORSE, _change(row), names))
    return found


def _change(row: pd.Series) -> str:
    change = f"{signed(row['change'], None)} {change_bounds(row)}"
    return f"{number(row['zero_shot'])} to {number(row['adapted'])}, ×{row['ratio']:.3f}, {change}"


def change_bounds(row: Any) -> str:
    """The interval of a row's change in perplexity."""
    return bounds(signed(row.change_low, None), signed(row.change_high, None))


def rank(row: Any) -> str:
    """Spearman's correlation with its interval."""
    return f"{signed(row.spearman)} {bounds(signed(row.spearman_low), signed(row.spearman_high))}"


def _how_often(portions: pd.DataFrame) -> str:
    domains, *counts = (int(portions[column].sum()) for column in ("domains", *COUNTS))
    worse, better, _ = counts
    if worse in (0, domains):
        opening = "Always here" if worse else "Not here" if better == domains else "Not here beyond noise"
    else:
        opening = "Sometimes"
    told: list[str] = []
    for model, own in portions.groupby("model", sort=False):
        parts = [_outcomes(row, first=not told and not place) for place, row in enumerate(own.itertuples())]
        told.append(f"with {model}, {listed(parts)}")
    return f"{opening}: {listed(told, '; ')}."


def _outcomes(row: Any, first: bool) -> str:
    """What became of a portion; `first` says what the figures are."""
    noise, ratio = (" beyond noise", "median ratio of perplexities ") if first else ("", "")
    counts = f"{row.worse} of {row.domains} {row.portion} domains got worse{noise} and {row.better} better"
    return f"{counts} ({ratio}×{row.median_ratio:.3f})"


def _where(correlations: pd.DataFrame) -> str:
    """What Spearman's correlation of the log change with MMD and FD says; the paper expects it to be negative."""
    used = correlations[correlations["change"] == "log_change"]
    whole, parts = used[used["portion"] == "all"], used[used["portion"] != "all"].dropna(subset=["spearman"])
    if whole["spearman"].isna().any():
        return "Whether distance to the source corpus goes with the change cannot be said of domains so few or alike."
    if (whole["spearman_high"] < 0).all():
        opening, meaning = (
            "Overall yes",
            ": the nearer a domain is to the source corpus, the less adaptation tended to help",
        )
    elif (whole["spearman_low"] > 0).all():
        opening, meaning = (
            "Overall yes",
            ": the nearer a domain is to the source corpus, the more adaptation tended to help",
        )
    else:
        clear = int(((whole["spearman_low"] > 0) | (whole["spearman_high"] < 0)).sum())
        opening, meaning = "Not clearly", f", with {clear} of {len(whole)} intervals clear of 0"
    values = listed(
        f"{listed(f'{rank(row)} with {str(row.distance).upper()}' for row in own.itertuples())} ({model})"
        for model, own in whole.groupby("model", sort=False)
    )
    within = ""
    if len(parts):
        clear = int(((parts["spearman_low"] > 0) | (parts["spearman_high"] < 0)).sum())
        extremes = f"from {signed(parts['spearman'].min())} to {signed(parts['spearman'].max())}"
        within = f"; inside single portions r runs {extremes}, with {clear} of {len(parts)} intervals clear of 0"
    return (
        f"{opening}: over {whole['n'].iloc[0]} domains, Spearman’s r between the distance to the source corpus and the "
        f"change in log perplexity is {values}{meaning}{within}."
    )


def _through(evidence: pd.DataFrame) -> str:
    """How many token ids carry the rise where there is one; up to `claims.HANDFUL` are a handful."""
    worse = evidence[evidence["outcome"] == WORSE]
    if worse.empty:
        return f"No token carries a rise, as none of the {len(evidence)} adaptations got worse beyond noise."
    fewest, most = worse["tokens_50"].min(), worse["tokens_50"].max()
    opening = "Through a handful" if most <= HANDFUL else "Through no handful"
    if fewest <= HANDFUL < most:
        opening = "Through a handful on some domains only"
    counts = listed(
        f"{span(own['tokens_50'].astype(int))} token ids on the {_domains(len(own))} that got worse with {model}"
        for model, own in worse.groupby("model", sort=False)
    )
    row = worse.loc[worse["log_change"].idxmax()]
    newline, other = (f"{max(row[name], 0) / row['log_change']:.1%}" for name in ("newline", "other"))
    lead = "it has no newline" if math.isnan(row["newline"]) else f"the newline that adds most has {newline} of it"
    return (
        f"{opening}: half of the rise in loss takes {counts}; where it rose most, on "
        f"{row['domain']} with {row['model']}, {lead} and the other token that adds most has {other}."
    )


def _domains(count: int) -> str:
    return f"{count} domain{'s' * (count != 1)}"
