"""The answer and the figures' captions: what they show, in words made from the numbers at hand.

Every sentence is true whatever the numbers are. No results are read here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from odyssey.claims import BETTER, SAME, WORSE
from odyssey.reporting.tables import COUNTS, DISTANCES, most_degraded
from odyssey.reporting.words import bounds, listed, number, percent, signed, span

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


def answer(headline: pd.DataFrame, portions: pd.DataFrame, correlations: pd.DataFrame) -> list[str]:
    """Three sentences: how often adaptation made a domain worse, by how much, and whether distance tells."""
    return [_how_often(portions), _how_much(headline), _where(correlations)]


def noise(headline: pd.DataFrame, confidence: float) -> str:
    """What the intervals are and what is called noise."""
    return (
        f"Brackets hold {percent(confidence)} intervals: of a change, over the {tested(headline)} of its "
        "domain; of a correlation, over domains. A change is called worse or better only if its interval leaves out 0; "
        "otherwise it is within noise."
    )


def tested(headline: pd.DataFrame) -> str:
    """ "25 to 30 test documents": what was drawn again for the intervals of changes."""
    units = listed((f"{unit}s" for unit in dict.fromkeys(headline["unit"])), " or ")
    return f"{span(headline['units'])} test {units}"


def _how_often(portions: pd.DataFrame) -> str:
    domains, *counts = (int(portions[column].sum()) for column in ("domains", *COUNTS))
    worse, _, within = counts
    if worse in (0, domains):
        opening = "Always here" if worse else "Not here beyond noise" if within else "Not here"
    else:
        opening = "Sometimes"
    parts = [
        f"{listed(map(_outcomes, own.itertuples()))} with {model}"
        for model, own in portions.groupby("model", sort=False)
    ]
    return f"{opening}: after adaptation, test perplexity was higher, beyond noise, on {listed(parts, '; on ')}."


def _outcomes(row: Any) -> str:
    rest = {"better": f"lower on {row.better}", "within_noise": f"within noise on {row.within_noise}"}
    named = listed(text for column, text in rest.items() if getattr(row, column))
    return f"{row.worse} of {row.domains} {row.portion} domains" + (f" ({named})" if named else "")


def _how_much(headline: pd.DataFrame) -> str:
    """The extremes among the changes beyond noise; among all domains, if all are."""
    if len(headline) == 1:
        return f"The change was {_change(headline.iloc[0])}."
    worse, better = (headline[headline["outcome"] == outcome] for outcome in (WORSE, BETTER))
    top = bottom = ""
    if len(worse):
        top = f"the largest rise was {_change(worse.loc[worse['ratio'].idxmax()])}"
    elif len(better) == len(headline):
        top = f"the smallest fall was {_change(better.loc[better['ratio'].idxmax()])}"
    if len(better):
        bottom = f"the largest fall was {_change(better.loc[better['ratio'].idxmin()])}"
    elif len(worse) == len(headline):
        bottom = f"the smallest rise was {_change(worse.loc[worse['ratio'].idxmin()])}"
    return f"Beyond noise, {top or 'nothing rose'}, and {bottom or 'nothing fell'}."


def _change(row: pd.Series) -> str:
    perplexities = f"{number(row['zero_shot'])} to {number(row['adapted'])}"
    change = f"{signed(row['change'], None)} {change_bounds(row)}"
    return f"×{row['ratio']:.3f} ({row['domain']} with {row['model']}: {perplexities}, {change})"


def change_bounds(row: Any) -> str:
    """The interval of a row's change in perplexity."""
    return bounds(signed(row.change_low, None), signed(row.change_high, None))


def _where(correlations: pd.DataFrame) -> str:
    """What Spearman's correlation of the log change with MMD says; the paper expects it to be negative."""
    used = correlations[(correlations["change"] == "log_change") & (correlations["distance"] == "mmd")]
    whole, parts = used[used["portion"] == "all"], used[used["portion"] != "all"].dropna(subset=["spearman"])
    if whole["spearman"].isna().any():
        return "Whether distance to the source corpus goes with the change cannot be said of domains so few or alike."
    values = listed(f"{rank(row)} ({row.model})" for row in whole.itertuples())
    if (whole["spearman_high"] < 0).all():
        meaning = "the nearer a domain is to the source corpus, the less adaptation tended to help"
    elif (whole["spearman_low"] > 0).all():
        meaning = "the nearer a domain is to the source corpus, the more adaptation tended to help"
    else:
        meaning = "no direction that is clear, which takes an interval without 0 in every model"
    within = ""
    if len(parts):
        clear = int(((parts["spearman_low"] > 0) | (parts["spearman_high"] < 0)).sum())
        extremes = f"from {signed(parts['spearman'].min())} to {signed(parts['spearman'].max())}"
        within = f"; within single portions the correlation runs {extremes}, and {clear} of {len(parts)} are clear of 0"
    over = f"Over {whole['n'].iloc[0]} domains, the change in log perplexity"
    return f"{over} has rank correlation {values} with MMD: {meaning}{within}."


def rank(row: Any) -> str:
    """Spearman's correlation with its interval."""
    return f"{signed(row.spearman)} {bounds(signed(row.spearman_low), signed(row.spearman_high))}"


def change_caption(own: pd.DataFrame, correlations: pd.DataFrame, confidence: float) -> str:
    """What to see in Figure 1 of a model, from its rows of the headline table."""
    worse = own[own["outcome"] == WORSE].sort_values("ratio", ascending=False)["domain"].tolist()
    named = worse if len(worse) <= MOST_NAMES else [*worse[:MOST_NAMES], f"{len(worse) - MOST_NAMES} more"]
    below = f"below the dashed line beyond noise, so worse: {listed(named)}" if worse else "none got worse beyond noise"
    pale = " Pale, hatched bars are within noise." if (own["outcome"] == SAME).any() else ""
    model = own["model"].iloc[0]
    used = correlations[(correlations["model"] == model) & (correlations["change"] == "log_change")]
    rows = {row.distance: row for row in used[used["portion"] == "all"].itertuples()}
    known = [name for name in DISTANCES if not math.isnan(rows[name].spearman)]
    about = listed(f"{rank(rows[name])} with {name.upper()}" for name in known)
    correlation = f" The change in log perplexity has rank correlation {about}." if about else ""
    return (
        f"Bars: zero-shot minus adapted test perplexity, with {percent(confidence)} intervals over {tested(own)}; "
        f"{below}.{pale} Diamonds and dots: MMD and FD, each rescaled from its nearest to its farthest domain, to "
        f"compare shapes only.{correlation} Ids: places in the study's adapt_to."
    )


def distance_caption(similarity: pd.DataFrame, ids: str) -> str:
    """What to see in Figure 2, 5 or 6: how the portions differ, with n and d, and what the ids are."""
    means = similarity.groupby("portion", sort=False)[list(DISTANCES)].mean()
    parts = listed((f"{row.mmd:.3f} and {row.fd:.3f} ({row.Index})" for row in means.itertuples()), "; ")
    return f"Mean MMD and FD by portion: {parts}. {sizes(similarity)} Ids: {ids}."


def token_caption(own: pd.DataFrame, summary: Mapping[str, Any]) -> str:
    """What Figure 4 shows of a model's worst domain, from its rows of the headline table and the tokens' summary."""
    model = own["model"].iloc[0]
    worst = most_degraded(own, model)
    place = "got worse most" if (own["outcome"] == WORSE).any() else "came off worst (none got worse beyond noise)"
    chunks = listed(
        f"{split}, {about['chunks']} of {about['chunks_wanted']} chunks with {about['tokens']:,} tokens scored, "
        f"mean NLL from {about['nll_before']:.3f} to {about['nll_after']:.3f}"
        for split, about in ((split, summary[split]) for split in ("train", "test"))
    )
    return (
        f"{worst} is the domain that {place} with {model}. A bar is a token's share of all tokens "
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
