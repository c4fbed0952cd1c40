"""The figures' captions: what to see in them, in words made from the numbers at hand.

Every sentence is true whatever the numbers are. No results are read here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from odyssey.claims import SAME, WORSE
from odyssey.reporting.answer import rank
from odyssey.reporting.tables import DISTANCES, most_degraded
from odyssey.reporting.words import listed, percent, span

MOST_NAMES = 12
"""Domains that a caption names at most."""


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


def change_caption(own: pd.DataFrame, confidence: float) -> str:
    """What to see in Figure 1 of a model, from its rows of the headline table."""
    worse = own[own["outcome"] == WORSE].sort_values("ratio", ascending=False)["domain"].tolist()
    named = worse if len(worse) <= MOST_NAMES else [*worse[:MOST_NAMES], f"{len(worse) - MOST_NAMES} more"]
    below = f"Worse beyond noise, below the dashed line: {listed(named)}" if worse else "None got worse beyond noise"
    pale = " Pale, hatched bars are within noise." if (own["outcome"] == SAME).any() else ""
    return (
        f"{below}. Bars: zero-shot minus adapted test perplexity, with {percent(confidence)} intervals over "
        f"{tested(own)}.{pale} Diamonds and dots: MMD and FD, each rescaled from its nearest to its farthest domain, "
        "to compare shapes only. Ids: places in the study's adapt_to."
    )


def similarity_caption(own: pd.DataFrame, correlations: pd.DataFrame, confidence: float) -> str:
    """What to see in Figure 8 of a model, from its rows of the evidence and of the correlations."""
    rows = {
        row.distance: row for row in correlations.itertuples() if (row.change, row.portion) == ("log_change", "all")
    }
    known = [name for name in DISTANCES if not math.isnan(rows[name].spearman)]
    about = f"Spearman's r is {listed(f'{rank(rows[name])} with {name.upper()}' for name in known)}. " if known else ""
    hollow = " Hollow: within noise." if (own["outcome"] == SAME).any() else ""
    return (
        f"{about}A point is a domain: to the left those most like the source corpus, above the dashed line those whose "
        f"test perplexity rose, with {percent(confidence)} intervals.{hollow} Points that fall from left to right: "
        "the nearer a domain, the less it gained. Named are domains that came off worst."
    )


def curves_caption(curves: Mapping[str, pd.DataFrame]) -> str:
    """What to see in Figure 3, from the curves of the domains that it shows."""
    rose = [domain for domain, curve in curves.items() if curve["test"].iloc[-1] > curve["test"].iloc[0]]
    fell = [domain for domain in curves if domain not in rose]
    ends = {"higher": rose, "lower": fell}
    told = listed(f"{how} than it began on {listed(domains)}" for how, domains in ends.items() if domains)
    return (
        f"Test perplexity (dash-dotted) ended {told}. Where it climbs, the model unlearns the domain while it trains "
        "on it. The first rows of train (solid) are not seen again within an epoch. The domains were drawn with the "
        "study's seed, two of each portion where there are as many, the same for every model."
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
        f"{worst} is the domain that {place} with {model}. To the right, hatched: the tokens that raise its loss most; "
        "to the left those that lower it most. A bar is a token's share of all tokens times its change in NLL: the "
        f"bars of all tokens add up to the change of the mean. Made from {chunks}."
    )


def sizes(similarity: pd.DataFrame) -> str:
    """n and d of the distances, in words."""
    source, target, d = similarity["n_source"].max(), similarity["n_target"], similarity["d"].max()
    warning = "" if target.nunique() == 1 else " FD shrinks as n grows, so compare domains of like n."
    # No line ends inside "n = 1,500".
    return f"n = {source:,} source rows and {span(target)} of each domain, d = {d}.{warning}".replace(
        " = ", "\u00a0=\u00a0"
    )
