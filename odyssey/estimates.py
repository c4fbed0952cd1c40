"""Estimates over a study's domains and seeds, of the evidence that `claims` describes. No files here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from odyssey.science import stats
from odyssey.science.stats import Interval
from odyssey.sections import Claims

FEW = 6
"""Domains below which a mean has Student's interval and not the bootstrap's: ours."""


def by_seed(rows: pd.DataFrame, column: str) -> np.ndarray:
    """A column of one model's evidence as (n_domains, n_seeds), NaN where a seed has no such domain."""
    table = rows.pivot(index="domain", columns="seed", values=column)
    values: np.ndarray = table.loc[list(dict.fromkeys(rows["domain"]))].to_numpy(float)
    return values


def by_model(evidence: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The evidence of each model."""
    return ((str(model), own) for model, own in evidence.groupby("model", sort=False))


def mean(x: np.ndarray, rules: Claims, rng: np.random.Generator, bound: float = 0) -> stats.Estimate:
    """Mean over domains of x (n_domains, n_seeds), and p of being the bound.

    Of several seeds, and of fewer than FEW domains, the interval is Student's: a few that are
    drawn again never reach beyond the smallest and the largest of them.
    """
    if x.shape[1] > 1 or np.sum(~np.isnan(x)) < FEW:
        found = stats.crossed_mean(x - bound, rules.confidence)
    else:
        found = stats.average(x - bound, "mean", **_how(rules), rng=rng)
    low, high = found.interval
    return found._replace(value=found.value + bound, interval=Interval(low + bound, high + bound))


def correlations(evidence: pd.DataFrame, rules: Claims, rng: np.random.Generator) -> pd.DataFrame:
    """Spearman's and Pearson's correlation of the change with MMD and with FD, over domains.

    Per model, for the change in perplexity ("change") and in its logarithm ("log_change", nats per
    token); over all domains and within each portion, because two portions that differ in both
    quantities correlate without any relation inside them. With bootstrap interval and permutation p;
    NaN where it is undefined: fewer than three domains, or a constant.
    """
    rows = []
    for model, own in by_model(evidence):
        groups = [("all", own), *own.groupby("portion", sort=False)]
        for portion, group in groups if own["portion"].nunique() > 1 else groups[:1]:
            for change in ("change", "log_change"):
                for distance in ("mmd", "fd"):
                    row = {"model": model, "portion": portion, "change": change, "distance": distance}
                    for kind in ("spearman", "pearson"):
                        x, y = by_seed(group, distance), by_seed(group, change)
                        found = stats.correlation(x, y, kind, **_how(rules), rng=rng)
                        row |= {"n": found.n, kind: found.value, f"{kind}_p": found.p}
                        row |= {f"{kind}_low": found.interval.low, f"{kind}_high": found.interval.high}
                    rows.append(row)
    return pd.DataFrame(rows)


def _how(rules: Claims) -> dict[str, Any]:
    return {"confidence": rules.confidence, "resamples": rules.resamples}
