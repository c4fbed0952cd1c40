"""Intervals and p values: answers worked out by hand, SciPy's where it has them, properties, and coverage."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from odyssey.science.stats import (
    UNDEFINED,
    Array,
    Change,
    Estimate,
    Interval,
    average,
    correlation,
    crossed_mean,
    over_seeds,
    paired_change,
)

SEEDS = st.integers(0, 2**32 - 1)
KINDS: list[Literal["spearman", "pearson"]] = ["spearman", "pearson"]
STATISTICS: list[Literal["mean", "median"]] = ["mean", "median"]
nan = math.nan


def changes(
    tokens: Any, before: Any, after: Any, *, seed: int = 0, resamples: int = 999, confidence: float = 0.95
) -> Change:
    return paired_change(
        tokens, before, after, confidence=confidence, resamples=resamples, rng=np.random.default_rng(seed)
    )


def correlate(x: Any, y: Any, kind: Any, seed: int = 0, resamples: int = 999) -> Estimate:
    return correlation(x, y, kind, confidence=0.95, resamples=resamples, rng=np.random.default_rng(seed))


def averaged(
    x: Any, statistic: Any = "mean", seed: int = 0, resamples: int = 999, confidence: float = 0.95
) -> Estimate:
    return average(x, statistic, confidence=confidence, resamples=resamples, rng=np.random.default_rng(seed))


def documents(
    rng: np.random.Generator, n: int, change: float = -0.02, spread: float = 0.1
) -> tuple[Array, Array, Array]:
    """Tokens and NLL sums before and after, each (n,); some documents are much longer than others."""
    tokens = np.ceil(rng.lognormal(5, 0.5, n))
    before = rng.normal(4, 0.4, n)
    return tokens, tokens * before, tokens * (before + rng.normal(change, spread, n))


def holds(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high


def undefined(interval: Interval) -> bool:
    return math.isnan(interval.low) and math.isnan(interval.high)


def flat(result: Change | Estimate) -> list[float]:
    """All numbers of a result."""
    return [float(v) for part in result for v in (part if isinstance(part, Interval) else [part])]


def percentiles(statistic: Any, columns: Any, widen: bool) -> tuple[float, float]:
    """SciPy's percentile interval for 0.95, of columns that are drawn together; widened for n as stated."""
    n, tail = len(columns[0]), 0.025
    if widen:
        tail = stats.norm.sf(stats.t.isf(tail, n - 1) * math.sqrt(n / (n - 1)))
    result = stats.bootstrap(
        columns, statistic, paired=True, confidence_level=1 - 2 * tail, n_resamples=20_000, method="percentile", rng=1
    )
    low, high = result.confidence_interval
    return low, high


# -- Change in perplexity


def test_change_by_hand() -> None:
    # (ln 2 + 3 ln 2) / 4 tokens before, (5 ln 2 + 7 ln 2) / 4 after: perplexity 2 and 8
    change = changes([1, 3], np.log(2) * np.array([1, 3]), np.log(2) * np.array([5, 7]))
    assert change.perplexity == pytest.approx(6)
    assert change.log == pytest.approx(math.log(4))
    assert change.n == 2


def test_interval_of_two_documents_by_hand() -> None:
    # Every draw is the first twice, the second twice or one of each; Student's t with 1 degree of
    # freedom asks for the ends: 2 to 4 for the first document alone, 2 to 8 for the second.
    change = changes([10, 10], 10 * np.log([2, 2]), 10 * np.log([4, 8]))
    assert change.perplexity_interval == pytest.approx((2, 6))
    assert change.log_interval == pytest.approx((math.log(2), math.log(4)))


def test_interval_agrees_with_scipys_percentiles() -> None:
    columns = documents(np.random.default_rng(0), 8)
    expected = percentiles(
        lambda t, b, a, axis: np.exp(a.sum(axis) / t.sum(axis)) - np.exp(b.sum(axis) / t.sum(axis)), columns, widen=True
    )
    change = changes(*columns, resamples=20_000)
    assert change.perplexity_interval == pytest.approx(expected, abs=0.02 * (expected[1] - expected[0]))


def test_interval_of_equally_long_documents_is_close_to_students() -> None:
    # The log change is then a mean; with normal values Student's interval is exact.
    rng = np.random.default_rng(2)
    before, difference = rng.normal(4, 1, 30), rng.normal(0.1, 0.5, 30)
    change = changes(np.full(30, 7), 7 * before, 7 * (before + difference), resamples=20_000)
    expected = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    assert change.log_interval == pytest.approx((expected.low, expected.high), abs=0.03)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(2, 60), st.floats(-0.1, 0.1), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_both_intervals_agree_about_the_sign(seed: int, n: int, shift: float, confidence: float) -> None:
    change = changes(*documents(np.random.default_rng(seed), n, shift), seed=seed, resamples=199, confidence=confidence)
    for attribute in ("low", "high"):
        ends = [getattr(v, attribute) for v in (change.log_interval, change.perplexity_interval)]
        assert np.sign(ends[0]) == np.sign(ends[1])
    assert np.sign(change.log) == np.sign(change.perplexity)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(2, 60))
def test_intervals_hold_the_value_and_widen_with_confidence(seed: int, n: int) -> None:
    columns = documents(np.random.default_rng(seed), n)
    wide, narrow = (changes(*columns, confidence=confidence) for confidence in (0.99, 0.8))
    assert holds(wide.log_interval, wide.log)
    assert holds(wide.perplexity_interval, wide.perplexity)
    for outer, inner in zip(wide[1::2], narrow[1::2], strict=False):
        assert isinstance(outer, Interval)
        assert isinstance(inner, Interval)
        assert outer.low <= inner.low <= inner.high <= outer.high


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(2, 60))
def test_exchanging_before_and_after_exchanges_signs(seed: int, n: int) -> None:
    tokens, before, after = documents(np.random.default_rng(seed), n)
    there, back = changes(tokens, before, after), changes(tokens, after, before)
    assert back.log == pytest.approx(-there.log, rel=1e-9)
    assert back.perplexity == pytest.approx(-there.perplexity, rel=1e-9)
    assert back.log_interval == pytest.approx((-there.log_interval.high, -there.log_interval.low), rel=1e-9)
    mirrored = -there.perplexity_interval.high, -there.perplexity_interval.low
    assert back.perplexity_interval == pytest.approx(mirrored, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(2, 60))
def test_repeated_text_and_the_order_of_documents(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    columns = documents(rng, n)
    change = changes(*columns)
    assert flat(changes(*(4 * column for column in columns))) == pytest.approx(flat(change), rel=1e-12)
    order = rng.permutation(n)
    shuffled = changes(*(column[order] for column in columns))
    assert (shuffled.log, shuffled.perplexity) == pytest.approx((change.log, change.perplexity), rel=1e-9)


def test_the_order_of_documents_hardly_moves_the_interval() -> None:
    columns = documents(np.random.default_rng(4), 50)
    there, back = (changes(*(c[::step] for c in columns), resamples=10_000) for step in (1, -1))
    width = there.log_interval.high - there.log_interval.low
    assert back.log_interval == pytest.approx(there.log_interval, abs=0.03 * width)


def test_documents_without_tokens_are_ignored() -> None:
    with_empty = changes([0, 4, 5, 0, 6], [0, 8, 9, 3, 7], [0, 7, 9, 0, 5])
    assert with_empty == changes([4, 5, 6], [8, 9, 7], [7, 9, 5])
    assert with_empty.n == 3


def test_one_document_has_no_interval() -> None:
    change = changes([4, 0], [8, 0], [4, 0])
    assert change.log == -1
    assert change.perplexity == pytest.approx(math.e - math.e**2)
    assert undefined(change.log_interval)
    assert undefined(change.perplexity_interval)
    assert change.n == 1


@pytest.mark.parametrize("n", [2, 9, 57, 1000])
def test_identical_documents_leave_no_doubt(n: int) -> None:
    change = changes(np.full(n, 3), np.full(n, 0.7), np.full(n, 0.1))
    assert change.perplexity_interval == (change.perplexity, change.perplexity)
    assert change.log_interval == (change.log, change.log)


def test_no_change_is_zero() -> None:
    tokens, before, _ = documents(np.random.default_rng(3), 20)
    assert flat(changes(tokens, before, before)) == [0, 0, 0, 0, 0, 0, 20]


def test_the_generator_decides() -> None:
    columns = documents(np.random.default_rng(5), 20)
    assert changes(*columns, seed=1) == changes(*columns, seed=1) != changes(*columns, seed=2)


def test_memory_stays_bounded() -> None:
    columns = documents(np.random.default_rng(6), 20_000)
    tracemalloc.start()
    try:
        changes(*columns, resamples=1000)  # 640 MB if drawn at once
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_coverage_of_the_change() -> None:
    # 400 repetitions of 40 documents: a standard error of 0.011 at 0.95. BCa's reach 0.92 here (3,000 repetitions).
    population = np.stack(documents(np.random.default_rng(7), 50_000, change=0.03, spread=0.15))
    true = changes(*population[:, :50_000], resamples=1)
    rng = np.random.default_rng(8)
    covered = np.zeros(2)
    for _ in range(400):
        change = paired_change(*population[:, rng.integers(50_000, size=40)], confidence=0.95, resamples=499, rng=rng)
        covered += [holds(change.log_interval, true.log), holds(change.perplexity_interval, true.perplexity)]
    assert (abs(covered / 400 - 0.95) < 0.03).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], [1, 2], [1]), "tokens, before, after: expected one shape"),
        (([], [], []), "expected one shape"),
        (([[1]], [[1]], [[1]]), "at most 1 dimensions"),
        (([1, 2], [1, nan], [1, 2]), "must be finite"),
        (([1, 2], [1, math.inf], [1, 2]), "infinity"),
        (([1, -2], [1, 2], [1, 2]), "not negative"),
        (([0, 0], [0, 0], [0, 0]), "no document has tokens"),
    ],
)
def test_change_refuses_bad_input(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changes(*arguments)


# -- Seeds


def test_over_seeds_by_hand() -> None:
    # standard deviation 1; 97.5 % of Student's t with 2 degrees of freedom lie below 4.302653
    mean, interval = over_seeds([1, nan, 2, 3], 0.95)
    assert mean == 2
    assert interval == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), rel=1e-6)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_over_seeds_agrees_with_scipy(confidence: float) -> None:
    values = np.random.default_rng(9).normal(3, 2, 6)
    expected = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    mean, interval = over_seeds(values, confidence)
    assert mean == pytest.approx(values.mean())
    assert interval == pytest.approx((expected.low, expected.high))


def test_few_seeds() -> None:
    assert over_seeds([5, nan], 0.95)[0] == 5
    assert undefined(over_seeds([5, nan], 0.95)[1])
    assert math.isnan(over_seeds([nan], 0.95)[0])
    assert over_seeds([5, 5, 5], 0.95) == (5, (5, 5))
    with pytest.raises(ValueError, match="expected one shape"):
        over_seeds([], 0.95)


# -- Correlation


@pytest.mark.parametrize("seed", range(3))
def test_correlation_agrees_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 6, 20).astype(np.float64)  # with ties
    y = x + rng.normal(0, 3, 20).round()
    assert correlate(x, y, "spearman").value == pytest.approx(stats.spearmanr(x, y).statistic, rel=1e-12)
    assert correlate(x, y, "pearson").value == pytest.approx(stats.pearsonr(x, y).statistic, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_p_agrees_with_all_permutations(kind: Literal["spearman", "pearson"]) -> None:
    rng = np.random.default_rng(10)
    x = rng.normal(size=6)
    y = x + rng.normal(size=6)
    ranked = stats.rankdata if kind == "spearman" else np.asarray
    exact = stats.permutation_test(
        (ranked(y),),
        lambda v: abs(np.corrcoef(ranked(x), v)[0, 1]),
        permutation_type="pairings",
        alternative="greater",
        vectorized=False,
    ).pvalue  # of 6! = 720
    p = correlate(x, y, kind, resamples=20_000).p
    assert p == pytest.approx(exact, abs=4 * math.sqrt(exact / 20_000))


def test_p_by_hand() -> None:
    # of 4! permutations, two (all in order, all reversed) reach a rank correlation of 1
    assert correlate([1, 2, 3, 4], [1, 5, 6, 60], "spearman", resamples=20_000).p == pytest.approx(1 / 12, abs=0.01)
    # and p is never 0: 1 / (1 + 999) where no permutation comes near
    assert correlate(range(20), range(20), "pearson").p == 1 / 1000


def test_seeds_are_averaged_first() -> None:
    x = [[1, 3], [5, nan], [4, 8], [nan, nan], [2, nan]]
    y = [[4, 2], [1, 7], [3, 1], [9, 9], [nan, 3]]
    # What is missing in x or y is missing in both: x 2, 5, 6 and y 3, 1, 2; nothing of the last two is left.
    for kind in KINDS:
        estimate = correlate(x, y, kind)
        assert estimate.value == pytest.approx(correlate([2, 5, 6], [3, 1, 2], kind).value)
        assert estimate.n == 3
        assert holds(estimate.interval, estimate.value)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(4, 25))
def test_monotone_transforms_leave_spearmans_as_it_is(seed: int, n: int) -> None:
    x, y = np.random.default_rng(seed).normal(size=(2, n))
    estimate = correlate(x, y, "spearman", seed, 199)
    assert correlate(np.exp(x), y**3, "spearman", seed, 199) == estimate
    assert estimate.interval.low <= estimate.interval.high


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(4, 25), st.integers(1, 4), st.sampled_from(KINDS))
@example(7, 7, 4, "spearman")  # where a domain is drawn twice with the same seeds in another order
def test_correlation_under_change_of_units_and_sign(seed: int, n: int, n_seeds: int, kind: Any) -> None:
    x, y = np.random.default_rng(seed).normal(size=(2, n, n_seeds))
    estimate = correlate(x, y, kind, seed, 199)
    assert -1 <= estimate.interval.low <= estimate.interval.high <= 1
    assert 0 < estimate.p <= 1
    assert flat(correlate(3 * x - 1, y / 7, kind, seed, 199)) == pytest.approx(flat(estimate), abs=1e-9)
    negated = correlate(-x, y, kind, seed, 199)
    assert (negated.value, negated.p) == pytest.approx((-estimate.value, estimate.p))
    assert negated.interval == pytest.approx((-estimate.interval.high, -estimate.interval.low), abs=1e-9)


def test_the_order_of_seeds_makes_no_difference() -> None:
    x = [[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.2, 0.1, 0.3], [1, 2, 3]]  # three of them tied
    assert correlate(x, np.arange(12).reshape(4, 3), "spearman").value == pytest.approx(math.sqrt(0.6))


def test_two_seeds_that_disagree_widen_the_interval() -> None:
    x = np.arange(20.0)[:, None] + np.zeros(2)
    y = np.random.default_rng(11).normal(size=(20, 1)) + x
    noise = np.array([-9.0, 9.0])
    calm, noisy = (correlate(x, y + shift, "pearson") for shift in (np.zeros(2), noise))
    assert calm.value == pytest.approx(noisy.value)
    assert noisy.interval.high - noisy.interval.low > 2 * (calm.interval.high - calm.interval.low)


@pytest.mark.parametrize("kind", KINDS)
def test_interval_of_a_correlation_agrees_with_scipys_percentiles(kind: Any) -> None:
    x, y = np.random.default_rng(17).multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 9).T

    def statistic(*columns: Array, axis: int) -> Any:
        if kind == "spearman":
            columns = tuple(stats.rankdata(column, axis=axis) for column in columns)
        return stats.pearsonr(*columns, axis=axis).statistic

    expected = percentiles(statistic, (x, y), widen=kind == "pearson")
    assert correlate(x, y, kind, resamples=20_000).interval == pytest.approx(expected, abs=0.02)


def test_interval_of_a_correlation_is_close_to_fishers() -> None:
    x, y = np.random.default_rng(12).multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 300).T
    expected = stats.pearsonr(x, y).confidence_interval(0.95)
    assert correlate(x, y, "pearson", resamples=4000).interval == pytest.approx(tuple(expected), abs=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_correlation_that_is_undefined(kind: Any) -> None:
    for x, y in (([1, 2], [2, 1]), ([1, 2, nan], [2, 1, 3]), ([0.1] * 5, [1, 2, 3, 4, 5])):
        value, interval, p, n = correlate(x, y, kind)
        assert math.isnan(value)
        assert undefined(interval)
        assert math.isnan(p)
        assert n == np.isfinite(x).sum()
    # Constant up to rounding.
    assert math.isnan(correlate([0.3, 0.1 + 0.2, 0.3], [1, 2, 3], kind).value)


@pytest.mark.parametrize("kind", KINDS)
def test_resamples_without_a_correlation_are_left_out(kind: Any) -> None:
    # Of three domains drawn, all are the same in one of nine draws.
    estimate = correlate([1, 2, 3], [1, 2, 3], kind)
    assert estimate.interval == pytest.approx((1, 1))
    assert estimate.value == pytest.approx(1)


def test_coverage_and_level_of_correlations() -> None:
    rng = np.random.default_rng(13)
    covered = significant = 0
    for _ in range(200):
        x, y = rng.normal(size=(2, 20, 2))
        estimate = correlation(x, y, "spearman", confidence=0.9, resamples=199, rng=rng)
        covered += holds(estimate.interval, 0)
        significant += estimate.p <= 0.1
    assert 0.86 <= covered / 200 <= 0.99
    assert 0.04 <= significant / 200 <= 0.16


@pytest.mark.parametrize(
    ("x", "y", "kind", "message"),
    [
        ([1, 2, 3], [1, 2], "pearson", "x, y: expected one shape"),
        ([[1], [2], [3]], [1, 2, 3], "pearson", "expected one shape"),
        ([], [], "pearson", "expected one shape"),
        ([[[1]]], [[[1]]], "pearson", "at most 2 dimensions"),
        ([1, 2, math.inf], [1, 2, 3], "pearson", "infinity"),
        ([1, 2, 3], [1, 2, 3], "kendall", "kind must be spearman or pearson, found 'kendall'"),
    ],
)
def test_correlation_refuses_bad_input(x: Any, y: Any, kind: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        correlate(x, y, kind)


# -- Averages


def test_average_by_hand() -> None:
    x = [[1, 3], [4, nan], [9, 9]]  # means 2, 4, 9
    mean, median = averaged(x, resamples=20_000), averaged(x, "median", resamples=20_000)
    assert (mean.value, median.value, mean.n) == (5, 4, 3)
    # Of 8 signs, two leave |2 + 4 + 9|; and a median of 4 needs 4 and 9 on one side, wherever 2 is.
    assert mean.p == pytest.approx(2 / 8, abs=0.02)
    assert median.p == pytest.approx(4 / 8, abs=0.02)


def test_average_draws_domains_and_the_seeds_that_they_have() -> None:
    # With two domains Student's t asks for the ends: one domain twice, and its lowest or highest seed.
    assert averaged([[1, nan, nan], [5, 6, 7]], resamples=5000).interval == (1, 7)
    assert averaged([[nan, 1], [5, 7], [nan, nan]], resamples=5000).interval == (1, 7)


def test_seeds_that_are_missing_are_not_drawn() -> None:
    # Domains 0 and 10: of the draws a quarter is 0, which drawing the missing seed would make a ninth.
    assert averaged([[0, nan], [10, 10]], "median", confidence=0.6).interval == (0, 10)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_interval_of_an_average_agrees_with_scipys_percentiles(statistic: Any) -> None:
    values = np.random.default_rng(18).normal(size=14)
    expected = percentiles(getattr(np, statistic), (values,), widen=statistic == "mean")
    assert averaged(values, statistic, resamples=20_000).interval == pytest.approx(expected, abs=0.03)


def test_average_of_many_is_close_to_students() -> None:
    values = np.random.default_rng(14).normal(1, 2, 20)
    expected = stats.ttest_1samp(values, 0)
    mean = averaged(values, resamples=20_000)
    assert mean.interval == pytest.approx(tuple(expected.confidence_interval(0.95)), abs=0.15)
    assert mean.p == pytest.approx(expected.pvalue, abs=0.02)


def test_p_of_a_mean_agrees_with_all_signs() -> None:
    values = np.random.default_rng(15).normal(0.5, 1, 8)
    exact = stats.permutation_test(
        (values,), lambda v, axis: abs(v.mean(axis)), permutation_type="samples", alternative="greater"
    ).pvalue  # of 2^8
    assert averaged(values, resamples=20_000).p == pytest.approx(exact, abs=4 * math.sqrt(exact / 20_000))


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(2, 25), st.integers(1, 4), st.sampled_from(STATISTICS))
def test_average_under_change_of_units_and_sign(seed: int, n: int, n_seeds: int, statistic: Any) -> None:
    x = np.random.default_rng(seed).normal(size=(n, n_seeds))
    estimate = averaged(x, statistic, seed)
    assert estimate.value == pytest.approx(getattr(np, statistic)(x.mean(axis=1)))
    assert estimate.interval.low <= estimate.interval.high
    scaled = averaged(-1e-14 * x, statistic, seed)
    assert (scaled.value, scaled.p) == pytest.approx((-1e-14 * estimate.value, estimate.p))
    mirrored = -1e-14 * estimate.interval.high, -1e-14 * estimate.interval.low
    assert scaled.interval == pytest.approx(mirrored, rel=1e-6, abs=1e-20)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_average_of_few(statistic: Any) -> None:
    one = averaged([[3, 5], [nan, nan]], statistic)
    assert (one.value, one.p, one.n) == (4, 1, 1)
    assert undefined(one.interval)
    none = averaged([nan, nan], statistic)
    assert math.isnan(none.value)
    assert math.isnan(none.p)
    assert none[1] is UNDEFINED
    assert none.n == 0
    assert averaged([5, 5, 5, 5], statistic).interval == (5, 5)
    assert averaged([0, 0, 0], statistic) == (0, (0, 0), 1, 3)


@pytest.mark.parametrize("function", [lambda x: averaged(x), lambda x: correlate(x, x[::-1], "spearman")])
def test_one_seed_is_no_seeds(function: Any) -> None:
    x = np.random.default_rng(16).normal(size=12)
    assert function(x) == function(x[:, None])


def test_average_refuses_bad_input() -> None:
    shapes: list[Any] = [[], [[]], 1.0]
    for x in shapes:
        with pytest.raises(ValueError, match="expected one shape"):
            averaged(x)
    with pytest.raises(ValueError, match="infinity"):
        averaged([1, -math.inf])
    with pytest.raises(ValueError, match="statistic must be mean or median, found 'mode'"):
        averaged([1, 2], "mode")


# -- Means over domains and seeds that cross


def test_a_crossed_mean_of_one_seed_is_students() -> None:
    x = np.array([0.3, -0.1, 0.5, 0.2])
    found, peer = crossed_mean(x, 0.95), stats.ttest_1samp(x, 0)
    assert found.value == pytest.approx(x.mean())
    assert found.interval == pytest.approx(tuple(peer.confidence_interval(0.95)))
    assert found.p == pytest.approx(peer.pvalue)
    assert found.n == 4


def test_a_crossed_mean_by_hand() -> None:
    # Domains' means 1 and 3, seeds' means 1.5 and 2.5: variances 2 / 2 and 0.5 / 2, each with 1 degree of freedom.
    found = crossed_mean([[0.5, 1.5], [2.5, 3.5]], 0.9)
    freedom = 1.25**2 / (1 + 0.25**2)
    reach = stats.t.ppf(0.95, freedom) * math.sqrt(1.25)
    assert found.interval == pytest.approx((2 - reach, 2 + reach))
    assert found.p == pytest.approx(2 * stats.t.sf(2 / math.sqrt(1.25), freedom))


def test_what_a_seed_does_to_all_domains_is_not_averaged_away() -> None:
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(1000):
        x = rng.normal(0, 0.05, (20, 1)) + rng.normal(0, 0.1, 4) + rng.normal(0, 0.02, (20, 4))
        low, high = crossed_mean(x, 0.95).interval
        missed += not low <= 0 <= high
    assert 0.02 < missed / 1000 < 0.08


def test_a_crossed_mean_of_what_is_missing() -> None:
    nothing = crossed_mean([[nan, nan]], 0.95)
    assert (math.isnan(nothing.value), nothing.n) == (True, 0)
    one = crossed_mean([[1.0, 3.0], [nan, nan]], 0.95)
    assert (one.value, math.isnan(one.interval.low), one.n) == (2, True, 1)
    assert crossed_mean([[1.0, nan], [3.0, nan]], 0.95) == crossed_mean([1.0, 3.0], 0.95)
    assert crossed_mean([2.0, 2.0], 0.95) == (2, (2, 2), 0, 2)
    with pytest.raises(ValueError, match="infinity"):
        crossed_mean([1, math.inf], 0.95)


@pytest.mark.parametrize("confidence", [0, 1, 95, nan])
def test_confidence_is_a_share(confidence: float) -> None:
    rng = np.random.default_rng(0)
    for call in (
        lambda: paired_change([1, 2], [1, 2], [1, 2], confidence=confidence, resamples=9, rng=rng),
        lambda: correlation([1, 2, 3], [1, 2, 4], "pearson", confidence=confidence, resamples=9, rng=rng),
        lambda: average([1, 2, 3], "mean", confidence=confidence, resamples=9, rng=rng),
        lambda: over_seeds([1, 2], confidence),
        lambda: crossed_mean([1, 2], confidence),
    ):
        with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
            call()
    with pytest.raises(ValueError, match="resamples > 0, found 0"):
        changes([1, 2], [1, 2], [1, 2], resamples=0)
