"""The paper's claims, what a study's evidence for them consists of, and what a verdict says. No files here.

The evidence has a row for each (seed, model, domain); see `COLUMNS`. `verdicts` judges.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd

from odyssey.science.stats import Interval

HOLDS, FAILS, OPEN = "holds", "does not hold", "not testable here"

COLUMNS = (
    *("seed", "model", "parameters", "domain", "portion", "mmd", "fd"),
    *("change", "change_low", "change_high", "log_change", "log_change_low", "log_change_high", "outcome"),
    *("rise_train_start", "rise_valid", "rise_test", "tokens_50", "newline_change", "newline", "other"),
)
"""What is read of the evidence. Changes are adapted minus zero-shot, of perplexity and of the mean NLL
(nats per token); rises are of the mean NLL over the epoch; `tokens_50` is the fewest token ids that carry
half of the rise, `newline_change` the change of the newline tokens' own mean NLL, `newline` the part (nats) in
the change of the one newline token that raises it most, and `other` that of the one other token."""

CURVES = {"rise_train_start": "the start of train", "rise_valid": "valid", "rise_test": "test"}
COUNTED = ("6a",)
"""Claims whose statistic is a count, and has no sign."""
HANDFUL = 10
"""Tokens that still are a handful: a reading of ours."""
CHANCE = 0.05
"""Probability below which domains that go the other way are no chance, all domains looked at."""

WORSE, BETTER, SAME, UNKNOWN = "worse", "better", "within noise", "no interval"


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
        Claim("5a", "Where a domain degrades, the loss on the first rows of train rises", "section 3, Figure 3"),
        Claim("5b", "Where a domain degrades, the loss on valid rises", "section 3, Figure 3"),
        Claim("5c", "Where a domain degrades, the loss on test rises", "section 3, Figure 3"),
        Claim("6a", "A handful of tokens carries the degradation", "abstract; section 3, Figure 4"),
        Claim("6b", "Newlines get worse, whatever the domain", "section 3, Token-level observations"),
        Claim("6c", "Of the tokens that carry it, a newline comes first", "section 4, Going beyond perplexity"),
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
    """Whether a change is beyond its interval: worse, better, or within noise; a change without one is unknown."""
    if math.isnan(interval.low):
        return UNKNOWN
    return WORSE if interval.low > 0 else BETTER if interval.high < 0 else SAME


def near_and_far(evidence: pd.DataFrame) -> tuple[str, str] | None:
    """The portions that are nearest to the source corpus and farthest, by median FD; None if there is only one."""
    medians = evidence.groupby("portion", sort=False)["fd"].median().sort_values(kind="stable")
    return (str(medians.index[0]), str(medians.index[-1])) if len(medians) > 1 else None
