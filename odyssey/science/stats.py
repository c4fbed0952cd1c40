"""Intervals and p values: of a change in perplexity over documents, and of what is seen over domains and seeds.

`confidence` is the share of repetitions whose interval would hold the true value, such as 0.95.
Generators are passed: the same state gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

# scipy.stats is imported where it is called: it takes half a second, and `odyssey claims` that only shows needs none.

Array = NDArray[np.float64]
Counts = NDArray[np.intp]
Kind = Literal["spearman", "pearson"]
Statistic = Literal["mean", "median"]

BLOCK = 2**20
"""Numbers drawn at a time: tens of MB, whatever the number of documents, domains and resamples."""


class Interval(NamedTuple):
    """Both ends belong to it; NaN where it is undefined."""

    low: float
    high: float


UNDEFINED = Interval(np.nan, np.nan)


class Change(NamedTuple):
    """Over n documents: perplexity after minus before, and log(after / before), in nats per token."""

    perplexity: float
    perplexity_interval: Interval
    log: float
    log_interval: Interval
    n: int


class Estimate(NamedTuple):
    """A value over n domains; p is two-sided, against its being 0."""

    value: float
    interval: Interval
    p: float
    n: int


def paired_change(
    tokens: ArrayLike, before: ArrayLike, after: ArrayLike, *, confidence: float, resamples: int, rng: Generator
) -> Change:
    """Change in perplexity, exp(sum of NLL / sum of tokens), between two scores of the same documents.

    `tokens` (n_documents,) counts scored tokens, `before` and `after` (n_documents,) sum their NLL in
    nats. Documents without tokens are ignored; with fewer than 2 others the intervals are NaN.

    Documents are resampled, each with both scores (paired bootstrap), and both changes taken from
    the same draws. Their signs agree in every draw, so the order statistics of equal rank that
    `_interval` takes agree too. BCa intervals (Efron 1987, "Better bootstrap confidence
    intervals") would have ranks of their own for each change, and cover less at 30 to 70 documents.

    Raises ValueError if shapes differ, a value is not finite, tokens are negative or all 0.
    """
    _check(confidence, resamples)
    columns = np.stack(_alike(tokens=tokens, before=before, after=after, dimensions=1))  # (3, n_documents)
    if np.isnan(columns).any() or (columns[0] < 0).any():
        raise ValueError("tokens, before and after must be finite, and tokens not negative")
    count, start, end = (column[columns[0] > 0] for column in columns)
    if (n := len(count)) == 0:
        raise ValueError("perplexity is undefined: no document has tokens")
    documents = np.stack([count, start, end - start])  # (3, n)
    perplexity, log = _changes(documents.sum(axis=-1)).tolist()
    if n == 1:
        return Change(perplexity, UNDEFINED, log, UNDEFINED, n)
    draws = _draws(lambda rows: _changes(documents.take(rng.integers(n, size=(rows, n)), 1).sum(-1)), resamples, 4 * n)
    of_perplexity, of_log = (_interval(of, confidence, n) for of in draws)
    return Change(perplexity, of_perplexity, log, of_log, n)


def over_seeds(values: ArrayLike, confidence: float) -> tuple[float, Interval]:
    """Mean of values (n_seeds,) and its interval, by Student's t (1908): values are taken to be normal.

    Seeds that are NaN are ignored; with fewer than 2 others the interval is NaN. Raises ValueError
    if values are empty or infinite.
    """
    _check(confidence)
    (array,) = _alike(values=values, dimensions=1)
    array = array[~np.isnan(array)]
    mean = float(array.mean()) if len(array) else np.nan
    if (n := len(array)) < 2:
        return mean, UNDEFINED
    from scipy import stats

    reach = float(stats.t.isf((1 - confidence) / 2, n - 1) * array.std(ddof=1) / np.sqrt(n))
    return mean, Interval(mean - reach, mean + reach)


def correlation(
    x: ArrayLike, y: ArrayLike, kind: Kind, *, confidence: float, resamples: int, rng: Generator
) -> Estimate:
    """Correlation over domains of x and y, both (n_domains, n_seeds) or (n_domains,), averaged over seeds first.

    A seed that is NaN in x or y is ignored in both, and so is a domain without seeds. With fewer
    than 3 domains, or x or y constant, all but n is NaN. Spearman's ranks are average ranks.

    The interval is from resampled domains and seeds (`_redraw`), of which those where x or y is
    constant are left out; p from permutations of the domains of both, against no association.

    Raises ValueError if shapes differ or are empty, a value is infinite, or `kind` is another.
    """
    _check(confidence, resamples)
    if kind not in ("spearman", "pearson"):
        raise ValueError(f"kind must be spearman or pearson, found {kind!r}")
    values, seeds = _present(*_alike(x=x, y=y, dimensions=2))
    n = len(seeds)
    means = _seed_means(values, seeds)  # (2, n)
    value = float(_r(means, kind)) if n > 2 else np.nan
    if np.isnan(value):
        return Estimate(np.nan, UNDEFINED, np.nan, n)
    null = _draws(lambda rows: _r(rng.permuted(np.repeat(means[:, None], rows, 1), axis=-1), kind), resamples, 2 * n)
    draws = _draws(lambda rows: _r(_redraw(values, seeds, rows, rng), kind), resamples, values.size)
    return Estimate(value, _interval(draws, confidence, n if kind == "pearson" else None), _p_value(value, null), n)


def average(x: ArrayLike, statistic: Statistic, *, confidence: float, resamples: int, rng: Generator) -> Estimate:
    """Mean or median over domains of x, (n_domains, n_seeds) or (n_domains,), averaged over seeds first.

    Seeds that are NaN are ignored, and so is a domain without seeds. The interval is from resampled
    domains and seeds (`_redraw`), NaN with fewer than 2 domains; p from random signs of the domains
    (Fisher 1935, "The design of experiments", section 21), against values symmetric about 0.

    Raises ValueError if x is empty, a value is infinite, or `statistic` is another.
    """
    _check(confidence, resamples)
    if statistic not in ("mean", "median"):
        raise ValueError(f"statistic must be mean or median, found {statistic!r}")
    centre = np.mean if statistic == "mean" else np.median
    values, seeds = _present(*_alike(x=x, dimensions=2))
    if (n := len(seeds)) == 0:
        return Estimate(np.nan, UNDEFINED, np.nan, 0)
    (means,) = _seed_means(values, seeds)  # (n,)
    value, scale = float(centre(means)), float(abs(means).max()) or 1.0
    null = _draws(lambda rows: centre(means * rng.choice([-1, 1], size=(rows, n)), axis=-1), resamples, n)
    p = _p_value(value / scale, null / scale)
    if n == 1:
        return Estimate(value, UNDEFINED, p, n)
    draws = _draws(lambda rows: centre(_redraw(values, seeds, rows, rng)[0], axis=-1), resamples, values.size)
    return Estimate(value, _interval(draws, confidence, n if statistic == "mean" else None), p, n)


def crossed_mean(x: ArrayLike, confidence: float) -> Estimate:
    """Mean over domains of x, (n_domains, n_seeds) or (n_domains,), averaged over seeds first, with Student's interval.

    What a seed does to all domains at once does not average out over them, so both spreads count:
    the variance of the mean is taken as that of the domains' means over their number plus that of
    the seeds' means over theirs (what neither explains is in both: on the safe side), with the
    degrees of freedom of Satterthwaite (1946), "An approximate distribution of estimates of
    variance components". One seed has no spread, and the interval holds for other domains only.
    NaN are missing; with fewer than 2 domains everything but the value is NaN.

    Raises ValueError if x is empty or a value is infinite.
    """
    _check(confidence)
    (values,) = _alike(2, x=x)
    values = values[~np.isnan(values).all(axis=1)][:, ~np.isnan(values).all(axis=0)]
    domains, seeds = (np.nanmean(values, axis=axis) for axis in (1, 0)) if values.size else (np.empty(0), np.empty(0))
    value = float(domains.mean()) if len(domains) else np.nan
    if len(domains) < 2:
        return Estimate(value, UNDEFINED, np.nan, len(domains))
    parts = [(means.var(ddof=1) / len(means), len(means) - 1) for means in (domains, seeds) if len(means) > 1]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Estimate(value, Interval(value, value), float(value == 0), len(domains))
    from scipy import stats

    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    reach = float(stats.t.isf((1 - confidence) / 2, freedom) * np.sqrt(variance))
    p = float(2 * stats.t.sf(abs(value) / np.sqrt(variance), freedom))
    return Estimate(value, Interval(value - reach, value + reach), p, len(domains))


def _changes(sums: Array) -> Array:
    """Changes of perplexity and its log (2, ...), from sums of tokens, NLL before and change in NLL (3, ...)."""
    log = sums[2] / sums[0]
    # exp(after) - exp(before), in a form that has the sign of the log also after rounding.
    return np.stack([np.exp(sums[1] / sums[0]) * np.expm1(log), log])


def _interval(draws: Array, confidence: float, widen: int | None) -> Interval:
    """Percentiles of bootstrap draws (resamples,), outward to the next draw; those that are NaN are left out.

    `widen` is the sample size n of a mean, or of a smooth function of means. Its draws spread too
    little, by sqrt((n - 1) / n), and their tails are shorter than Student's t: the percentiles move
    outward by both (the expanded percentile interval of Hesterberg 2015, "What teachers should know
    about the bootstrap"). Medians and ranks cover enough without.
    """
    draws, tail = draws[~np.isnan(draws)], (1 - confidence) / 2
    if len(draws) == 0:
        return UNDEFINED
    if widen:
        from scipy import stats

        tail = stats.norm.cdf(stats.t.ppf(tail, widen - 1) * np.sqrt(widen / (widen - 1)))
    low, high = np.quantile(draws, tail, method="lower"), np.quantile(draws, 1 - tail, method="higher")
    return Interval(float(low), float(high))


def _p_value(value: float, null: Array) -> float:
    """(1 + #{|null| >= |value|}) / (1 + resamples), equal up to rounding being equal, for values of up to 1.

    Phipson and Smyth (2010), "Permutation p-values should never be zero".
    """
    return float((1 + np.sum(abs(null) >= abs(value) - 1e-12)) / (1 + len(null)))


def _r(xy: Array, kind: str) -> Array:
    """Correlations (...) of x and y, stacked (2, ..., n); NaN where one of them is constant up to rounding."""
    varies = np.all(np.ptp(xy, axis=-1) > 1e-12 * abs(xy).max(axis=-1), axis=0)
    if kind == "spearman":
        from scipy import stats

        xy = stats.rankdata(xy, axis=-1)
    xy = xy - xy.mean(axis=-1, keepdims=True)
    unit = xy / np.where(varies, np.linalg.norm(xy, axis=-1), np.nan)[..., None]
    return np.asarray(np.clip(np.prod(unit, axis=0).sum(axis=-1), -1, 1))


def _present(*arrays: Array) -> tuple[Array, Counts]:
    """Arrays (n_domains, n_seeds) as one (k, n, n_seeds), with each domain's seeds without NaN first.

    Also returns how many these are (n,). Domains without any are left out.
    """
    values = np.stack(arrays)
    missing = np.isnan(values).any(axis=0)  # (n_domains, n_seeds)
    values = np.take_along_axis(values, np.argsort(missing, axis=1, kind="stable")[None], axis=2)
    seeds = np.sum(~missing, axis=1)
    return values[:, seeds > 0], seeds[seeds > 0]


def _seed_means(values: Array, seeds: Counts) -> Array:
    """Means (k, ...) of the first `seeds` (...) of values (k, ..., n_seeds)."""
    held = np.arange(values.shape[-1]) < seeds[..., None]
    # Sorted, so that the same seeds have the same mean to the last digit, and ties stay ties.
    return np.asarray(np.sort(np.where(held, values, 0), axis=-1).sum(axis=-1) / seeds)


def _redraw(values: Array, seeds: Counts, resamples: int, rng: Generator) -> Array:
    """Seed means (k, resamples, n) of domains drawn with replacement, and of seeds drawn so within each.

    The hierarchical bootstrap of Davison and Hinkley (1997), "Bootstrap methods and their
    application", section 3.8. Drawing seeds too counts their spread, which the domains' means hold
    already, once more: intervals are somewhat wide, and draws of a correlation nearer to 0.
    """
    n, n_seeds = values.shape[1:]
    domains = rng.integers(n, size=(resamples, n))
    drawn = seeds[domains]
    within = rng.integers(drawn[..., None], size=(resamples, n, n_seeds))
    return _seed_means(values[:, domains[..., None], within], drawn)


def _draws(draw: Callable[[int], Array], resamples: int, size: int) -> Array:
    """Results (..., resamples) of `draw`, called with as many at a time as fit a block; one takes `size` numbers."""
    rows = max(1, BLOCK // size)
    return np.concatenate([draw(min(rows, resamples - start)) for start in range(0, resamples, rows)], axis=-1)


def _check(confidence: float, resamples: int = 1) -> None:
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(f"confidence must be between 0 and 1, found {confidence}; resamples > 0, found {resamples}")


def _alike(dimensions: int, **values: ArrayLike) -> list[Array]:
    """Values as float64 of one shape with 1 or 2 dimensions, of which the second may be missing; NaN is allowed."""
    arrays = [np.asarray(value, dtype=np.float64) for value in values.values()]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1 or arrays[0].size == 0 or not 1 <= arrays[0].ndim <= dimensions:
        raise ValueError(f"{', '.join(values)}: expected one shape of at most {dimensions} dimensions, found {shapes}")
    if np.isinf(arrays).any():
        raise ValueError(f"{', '.join(values)}: infinity is no value")
    return [array[:, None] if array.ndim < dimensions else array for array in arrays]
