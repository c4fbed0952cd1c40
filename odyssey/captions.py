"""The report's sentences: what the tables and figures show, in words made from the numbers at hand.

Every sentence is true whatever the numbers are. No results are read here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from odyssey.tables import DISTANCES, number

QUESTION = (
    "Can training a language model further on the texts of a domain make it worse at that same domain, "
    "and does the domain's similarity to what the model has read say where?"
)

CURVES = (
    "Domains drawn with the study's seed, two of each portion where there are as many, the same for every model. A "
    "test curve (dash-dotted) that climbs is a model that unlearns the domain while it trains on it. The first rows "
    "of train (solid) are not seen again within an epoch."
)
"""What to see in Figure 3."""

MOST_NAMES = 12
"""Domains that a caption names at most."""

CLEAR = 0.05
"""Two-sided p-value below which the answer gives a correlation's direction in words."""


def answer(headline: pd.DataFrame, portions: pd.DataFrame, correlations: pd.DataFrame) -> list[str]:
    """Three sentences: how often adaptation made a domain worse, by how much, and whether distance tells."""
    return [_how_often(portions), _how_much(headline), _where(correlations)]


def _how_often(portions: pd.DataFrame) -> str:
    worse, domains = int(portions["worse"].sum()), int(portions["domains"].sum())
    opening = "Not here" if worse == 0 else "Always here" if worse == domains else "Sometimes"
    counts = [
        f"{listed(f'{row.worse} of {row.domains} {row.portion} domains' for row in own.itertuples())} with {model}"
        for model, own in portions.groupby("model", sort=False)
    ]
    return f"{opening}: after adaptation, test perplexity was higher on {listed(counts, '; on ')}."


def _how_much(headline: pd.DataFrame) -> str:
    worst, best = (headline.loc[index] for index in (headline["ratio"].idxmax(), headline["ratio"].idxmin()))
    top = "largest rise" if worst["ratio"] > 1 else "smallest fall"
    bottom = "largest fall" if best["ratio"] < 1 else "smallest rise"
    return f"The {top} was {_change(worst)}, and the {bottom} {_change(best)}."


def _change(row: pd.Series) -> str:
    perplexities = f"{number(row['zero_shot'])} to {number(row['adapted'])}"
    return f"×{row['ratio']:.3f} ({row['domain']} with {row['model']}: {perplexities})"


def _where(correlations: pd.DataFrame) -> str:
    """What Spearman's correlation of the log change with MMD says; the paper expects it to be negative."""
    used = correlations[(correlations["change"] == "log_change") & (correlations["distance"] == "mmd")]
    whole, parts = used[used["portion"] == "all"], used[used["portion"] != "all"]
    if whole["spearman"].isna().any():
        return "Whether distance to the source corpus goes with the change cannot be said of so few domains."
    values = listed(f"{signed(row.spearman)} ({row.model})" for row in whole.itertuples())
    clear = (whole["spearman_p"] < CLEAR).all()
    if clear and (whole["spearman"] < 0).all():
        meaning = "the nearer a domain is to the source corpus, the less adaptation tended to help"
    elif clear and (whole["spearman"] > 0).all():
        meaning = "the nearer a domain is to the source corpus, the more adaptation tended to help"
    else:
        meaning = f"no direction that is clear (p < {CLEAR}) in every model"
    within = parts["spearman"].dropna()
    span = f"{signed(within.min())} to {signed(within.max())}" if len(within) else ""
    only = f"; within single portions the correlation runs from {span}" if span else ""
    over = f"Over {whole['n'].iloc[0]} domains, the change in log perplexity"
    return f"{over} has rank correlation {values} with MMD: {meaning}{only}."


def change_caption(own: pd.DataFrame, correlations: pd.DataFrame) -> str:
    """What to see in Figure 1 of a model, from its rows of the headline table."""
    worse = own[own["change"] > 0].sort_values("ratio", ascending=False)["domain"].tolist()
    named = worse if len(worse) <= MOST_NAMES else [*worse[:MOST_NAMES], f"{len(worse) - MOST_NAMES} more"]
    below = f"below the dashed line, so worse after adaptation: {listed(named)}" if worse else "none got worse"
    model = own["model"].iloc[0]
    used = correlations[(correlations["model"] == model) & (correlations["change"] == "log_change")]
    rank = {row.distance: row.spearman for row in used[used["portion"] == "all"].itertuples()}
    about = listed(f"{signed(rank[name])} with {name.upper()}" for name in DISTANCES if not math.isnan(rank[name]))
    correlation = f" The change in log perplexity has rank correlation {about}." if about else ""
    return (
        f"Bars: zero-shot minus adapted test perplexity; {below}. Diamonds and dots: MMD and FD, each rescaled from "
        f"its nearest to its farthest domain, to compare shapes only.{correlation} Ids: places in the study's adapt_to."
    )


def distance_caption(similarity: pd.DataFrame, ids: str) -> str:
    """What to see in Figure 2, 5 or 6: how the portions differ, with n and d, and what the ids are."""
    means = similarity.groupby("portion", sort=False)[list(DISTANCES)].mean()
    parts = listed((f"{row.mmd:.3f} and {row.fd:.3f} ({row.Index})" for row in means.itertuples()), "; ")
    return f"Mean MMD and FD by portion: {parts}. {sizes(similarity)} Ids: {ids}."


def token_caption(own: pd.DataFrame, summary: Mapping[str, Any]) -> str:
    """What Figure 4 shows of a model's worst domain, from its rows of the headline table and the tokens' summary."""
    row = own.loc[own["ratio"].idxmax()]
    place = "got worse most" if row["ratio"] > 1 else "gained least (none got worse)"
    chunks = listed(
        f"{split}, {about['chunks']} of {about['chunks_wanted']} chunks with {about['tokens']:,} tokens scored, "
        f"mean NLL from {about['nll_before']:.3f} to {about['nll_after']:.3f}"
        for split, about in ((split, summary[split]) for split in ("train", "test"))
    )
    return (
        f"{row['domain']} is the domain that {place} with {row['model']}. A bar is a token's share of all tokens "
        f"times its change in NLL: the bars of all tokens add up to the change of the mean. Made from {chunks}."
    )


def sizes(similarity: pd.DataFrame) -> str:
    """n and d of the distances, in words."""
    source, target, d = similarity["n_source"].max(), similarity["n_target"], similarity["d"].max()
    warning = "" if target.nunique() == 1 else " FD shrinks as n grows, so compare domains of like n."
    # No line ends inside "n = 1,500".
    return f"n = {source:,} source rows and {span(target)} of each domain, d = {d}.{warning}".replace(
        " = ", "\u00a0=\u00a0"
    )


def signed(value: float, decimals: int | None = 2) -> str:
    if math.isnan(value):
        return "–"
    return (number(value, "+") if decimals is None else f"{value:+.{decimals}f}").replace("-", "−")


def p_value(value: float) -> str:
    return "–" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def span(counts: Sequence[int] | pd.Series) -> str:
    """ "5" or "5 to 7"."""
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def listed(items: Iterable[str], separator: str = ", ") -> str:
    """ "a, b and c"; with a longer separator, that one between all; "" of nothing."""
    *first, last = [*items] or [""]
    final = " and " if separator == ", " else separator
    return separator.join(first) + final + last if first else last
