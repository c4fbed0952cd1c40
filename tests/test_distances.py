"""Distances: answers worked out by hand, an independent high-precision value, and properties."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odyssey.science.distances import ROWS, Array, Gaussian, Moments, frechet_distance, mmd_linear

SEEDS = st.integers(0, 2**32 - 1)


def sample(rng: np.random.Generator, n: int, d: int) -> Array:
    """Correlated rows (n, d) with a mean of their own."""
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


def rotation(rng: np.random.Generator, d: int) -> Array:
    return np.linalg.qr(rng.normal(size=(d, d)))[0]


def fd_of(x: Array, y: Array) -> float:
    a, b = Moments().update(x), Moments().update(y)
    return frechet_distance(a.mean, a.cov, b.mean, b.cov)


def exact_fd(mean_x: Array, cov_x: Array, mean_y: Array, cov_y: Array) -> float:
    """With 60 digits and by another formula: tr (R cov_y R)^(1/2), R the root of cov_x."""
    with mpmath.workdps(60):
        a, b = mpmath.matrix(cov_x.tolist()), mpmath.matrix(cov_y.tolist())
        values, vectors = mpmath.eigsy(a)
        root = vectors * mpmath.diag([mpmath.sqrt(v) for v in values]) * vectors.T
        inner = mpmath.eigsy(root * b * root, eigvals_only=True)
        shift = mpmath.matrix(mean_x.tolist()) - mpmath.matrix(mean_y.tolist())
        trace = sum(a[i, i] + b[i, i] for i in range(a.rows)) - 2 * sum(mpmath.sqrt(v) for v in inner)
        return float((shift.T * shift)[0] + trace)


# -- MMD and FD: answers worked out by hand


def test_mmd_is_the_squared_mean_shift() -> None:
    assert mmd_linear([1, 2, 3], [4, 6, 3]) == 25  # 3^2 + 4^2


def test_equal_covariances_leave_the_squared_mean_shift() -> None:
    cov = np.array([[2.0, 1.0], [1.0, 3.0]])
    assert frechet_distance(np.array([0, 0]), cov, np.array([3, 4]), cov) == 25


def test_one_dimension() -> None:
    # (5 - 2)^2 + (3 - 2)^2, with variances 9 and 4
    assert frechet_distance([5], [[9]], [2], [[4]]) == pytest.approx(10, rel=1e-14)


def test_diagonal_covariances() -> None:
    # (1 - 3)^2 + (2 - 2)^2 + (4 - 0)^2, with standard deviations 1, 2, 4 and 3, 2, 0
    assert frechet_distance([0] * 3, np.diag([1, 4, 16]), [0] * 3, np.diag([9, 4, 0])) == pytest.approx(20, rel=1e-14)


def test_sample_against_itself_is_zero() -> None:
    rng = np.random.default_rng(0)
    for n in (5, 500):  # fewer and more rows than dimensions
        x = sample(rng, n, 20)
        assert fd_of(x, x) == 0
        assert mmd_linear(x.mean(0), x.mean(0)) == 0


@pytest.mark.parametrize("d", [1, 2, 5, 12])
def test_full_rank_agrees_with_high_precision(d: int) -> None:
    rng = np.random.default_rng(d)
    x, y = sample(rng, 5 * d + 2, d), sample(rng, 5 * d + 2, d)
    moments = x.mean(0), np.atleast_2d(np.cov(x.T)), y.mean(0), np.atleast_2d(np.cov(y.T))
    assert frechet_distance(*moments) == pytest.approx(exact_fd(*moments), rel=1e-12)


@pytest.mark.parametrize("noise", [1e-2, 1e-4, 1e-6])
def test_close_covariances_keep_their_digits(noise: float) -> None:
    # The textbook sum tr + tr - 2 tr(root) has none left here: FD is 1e-13 of the traces at noise 1e-6.
    rng = np.random.default_rng(1)
    x = sample(rng, 60, 8)
    y = x + noise * rng.normal(size=x.shape)
    moments = np.zeros(8), np.cov(x.T), np.zeros(8), np.cov(y.T)
    assert frechet_distance(*moments) == pytest.approx(exact_fd(*moments), rel=1e-8)


def test_ill_conditioned_covariances_agree_with_high_precision() -> None:
    rng = np.random.default_rng(2)
    covs = []
    for spectrum in (np.logspace(0, -10, 8), np.logspace(-9, 0, 8)):
        q = rotation(rng, 8)
        cov = (q * spectrum) @ q.T
        covs.append((cov + cov.T) / 2)
    moments = np.zeros(8), covs[0], np.ones(8), covs[1]
    assert frechet_distance(*moments) == pytest.approx(exact_fd(*moments), rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(30, 60), (240, 60), (100, 200), (1, 3), (2, 3)])
@pytest.mark.parametrize(("step", "error"), [(0.9, 1e-12), (0.1, 1e-12), (1e-3, 1e-12), (1e-6, 1e-8)])
def test_rows_moved_by_a_positive_definite_map_are_as_far_as_they_were_moved(
    n: int, d: int, step: float, error: float
) -> None:
    # T = 1 + S carries x to y = T x in the shortest way if it is positive definite (Brenier), so that FD
    # is the mean of ||S x||^2: known without any root, above and below full rank, far apart and close.
    rng = np.random.default_rng(n)
    x, q = sample(rng, n + 1, d), rotation(rng, d)
    moves = x @ (q * rng.uniform(-step, step, size=d)) @ q.T
    known = np.sum((moves - moves.mean(0)) ** 2) / n + np.sum(moves.mean(0) ** 2)
    assert fd_of(x, x + moves) == pytest.approx(known, rel=error)
    assert fd_of(x + moves, x) == pytest.approx(known, rel=error)


def test_covariances_of_unequal_rank() -> None:
    # Along the same axes: variances 1 to 6, of which the other has the first two only. 3 + 4 + 5 + 6 = 18
    q, zero = rotation(np.random.default_rng(9), 6), np.zeros(6)
    full, part = (q * np.arange(1.0, 7)) @ q.T, (q * [1.0, 2, 0, 0, 0, 0]) @ q.T
    assert frechet_distance(zero, full, zero, part) == pytest.approx(18, abs=1e-9)
    assert frechet_distance(zero, part, zero, full) == pytest.approx(18, abs=1e-9)
    # Close ones: the four variances that the other lacks are 1e-5, and the first two differ by 1e-5.
    near = part + 1e-5 * q @ q.T
    known = sum((math.sqrt(k + 1e-5) - math.sqrt(k)) ** 2 for k in (1, 2)) + 4e-5
    assert frechet_distance(zero, part, zero, near) == pytest.approx(known, abs=1e-12)
    assert frechet_distance(zero, near, zero, part) == pytest.approx(known, abs=1e-12)


def test_negative_eigenvalues_count_as_zero() -> None:
    # [[1, 2], [2, 1]] has 3 along (1, 1) and -1 along (1, -1); [[0, 1], [1, 0]] has 1 and -1.
    zero = np.zeros((2, 2))
    for matrix, nearest in (([[1, 2], [2, 1]], 3), ([[0, 1], [1, 0]], 1), ([[-1, 0], [0, -1]], 0)):
        assert frechet_distance([0, 0], matrix, [0, 0], zero) == pytest.approx(nearest, rel=1e-14)


def test_a_covariance_of_float32_is_near_that_of_float64() -> None:
    # Rounded to 1e-7, it has many negative eigenvalues of that size beyond its rank of 9.
    rng = np.random.default_rng(10)
    x, y = rng.normal(size=(2, 10, 50))
    rounded = np.cov(x.astype(np.float32).T, dtype=np.float32)
    zero = np.zeros(50)
    assert np.linalg.eigvalsh(rounded)[0] < -1e-8
    expected = frechet_distance(zero, np.cov(x.T), zero, np.cov(y.T))
    assert frechet_distance(zero, rounded, zero, np.cov(y.T)) == pytest.approx(expected, rel=1e-3)
    assert 0 < frechet_distance(zero, rounded, zero, np.cov(x.T)) < 1e-4


def test_a_gaussian_is_as_far_from_many_as_in_pairs() -> None:
    rng = np.random.default_rng(11)
    moments = [Moments().update(sample(rng, n, 8)) for n in (30, 5, 9, 40)]
    source, *others = (each.gaussian() for each in moments)
    pairs = [frechet_distance(moments[0].mean, moments[0].cov, each.mean, each.cov) for each in moments[1:]]
    assert [source.frechet_distance(other) for other in others] == pairs
    assert source.frechet_distance(source) == 0
    with pytest.raises(ValueError, match="mean_x has dimension 8, mean_y 1"):
        source.frechet_distance(Gaussian([0], [[1]]))
    with pytest.raises(ValueError, match="at least 2 rows, found 1"):
        Moments().update([[1.0]]).gaussian()


def test_rank_one_covariances() -> None:
    # For u u^T and v v^T the trace of the root is |u . v|.
    rng = np.random.default_rng(3)
    u, v = rng.normal(size=(2, 300))
    expected = u @ u + v @ v - 2 * abs(u @ v)
    zero = np.zeros(300)
    assert frechet_distance(zero, np.outer(u, u), zero, np.outer(v, v)) == pytest.approx(expected, abs=1e-9)


def test_low_rank_covariances_in_a_rotated_subspace() -> None:
    # On shared axes, of which one belongs to x alone, one to y alone and 61 to nobody:
    # (1 - 2)^2 + (3 - 0)^2 + (0 - 2)^2 = 14
    q = rotation(np.random.default_rng(4), 64)[:, :3]
    x, y = (q * np.array([1, 3, 0]) ** 2) @ q.T, (q * np.array([2, 0, 2]) ** 2) @ q.T
    zero = np.zeros(64)
    assert frechet_distance(zero, x, zero, y) == pytest.approx(14, abs=1e-9)
    assert frechet_distance(zero, x, zero, x) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("n", "m"), [(3, 3), (4, 9), (12, 2)])
def test_fewer_samples_than_dimensions_agree_with_high_precision(n: int, m: int) -> None:
    # With centred rows A (n, d) and B (m, d), the trace of the root is the sum of the singular
    # values of A B^T / sqrt((n - 1)(m - 1)): a small matrix that never sees the null spaces.
    rng = np.random.default_rng(n)
    x, y = sample(rng, n, 40), sample(rng, m, 40)
    with mpmath.workdps(40):
        a, b = (mpmath.matrix((v - v.mean(0)).tolist()) / mpmath.sqrt(len(v) - 1) for v in (x, y))
        squares = sum(v * v for v in a) + sum(v * v for v in b)
        values = mpmath.eigsy(a * b.T * b * a.T, eigvals_only=True)
        expected = float(squares - 2 * sum(mpmath.sqrt(max(v, 0)) for v in values)) + mmd_linear(x.mean(0), y.mean(0))
    assert fd_of(x, y) == pytest.approx(expected, rel=1e-12)


def test_zero_covariances() -> None:
    zero = np.zeros((3, 3))
    assert frechet_distance([1, 0, 0], zero, [0, 0, 0], zero) == 1
    assert frechet_distance([1, 0, 0], zero, [0, 0, 0], np.diag([4, 0, 1])) == 6


# -- FD: properties


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 12), st.integers(2, 30), st.integers(2, 30))
def test_fd_is_symmetric_finite_and_never_negative(seed: int, d: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = sample(rng, n, d), sample(rng, m, d)
    fd = fd_of(x, y)
    assert isinstance(fd, float)
    assert math.isfinite(fd)
    assert fd >= mmd_linear(x.mean(0), y.mean(0)) * (1 - 1e-12) >= 0
    assert fd == pytest.approx(fd_of(y, x), rel=1e-9, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 12), st.integers(2, 30))
def test_fd_is_invariant_under_rotation(seed: int, d: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    x, y, q = sample(rng, n, d), sample(rng, n, d), rotation(rng, d)
    assert fd_of(x @ q, y @ q) == pytest.approx(fd_of(x, y), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("scale", [1e-150, 1e-12, 1e12, 1e140])
def test_fd_scales_with_the_variance(scale: float) -> None:
    rng = np.random.default_rng(5)
    x, y = np.cov(sample(rng, 4, 9).T), np.cov(sample(rng, 4, 9).T)
    zero = np.zeros(9)
    unscaled = frechet_distance(zero, x, zero, y)
    assert frechet_distance(zero, x * scale, zero, y * scale) == pytest.approx(unscaled * scale, rel=1e-9)


@pytest.mark.parametrize("n", [20, 300])
def test_unit_vectors_in_float32(n: int) -> None:
    rng = np.random.default_rng(n)
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.normal(size=(2, n, 128)))
    x32, y32 = x.astype(np.float32), y.astype(np.float32)
    assert 0 < fd_of(x32, y32) < 4
    assert fd_of(x32, y32) == pytest.approx(fd_of(x, y), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 0], np.eye(2), [0], np.eye(1)), "mean_x has dimension 2, mean_y 1"),
        (([0, 0], np.eye(3), [0, 0], np.eye(2)), "cov_x has shape"),
        (([0, 0], np.eye(2), [0, 0], [1, 1]), "cov_y must be two-dimensional"),
        (([[0, 0]], np.eye(2), [0, 0], np.eye(2)), "mean_x must be"),
        (([0, np.nan], np.eye(2), [0, 0], np.eye(2)), "mean_x holds NaN or infinity"),
        (([0, 0], np.eye(2), [0, 0], np.diag([1, np.inf])), "cov_y holds NaN or infinity"),
        (([0, 0], np.eye(2) * 1j, [0, 0], np.eye(2)), "cov_x must hold real numbers"),
        (([], np.empty((0, 0)), [], np.empty((0, 0))), "mean_x must be"),
    ],
)
def test_fd_refuses_bad_input(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        frechet_distance(*arguments)


# -- Moments


def test_moments_by_hand() -> None:
    moments = Moments().update([[1, 10], [3, 10]]).update([[5, 40]])
    assert moments.n == 3
    np.testing.assert_allclose(moments.mean, [3, 20])
    # deviations -2, 0, 2 and -10, -10, 20: squares 8 and 600, products 60; divided by n - 1 = 2
    np.testing.assert_allclose(moments.cov, [[4, 30], [30, 300]])


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(2, 60), st.integers(1, 6), st.lists(st.integers(0, 60), max_size=5))
def test_streamed_equals_batch_and_numpy(seed: int, n: int, d: int, cuts: list[int]) -> None:
    x = sample(np.random.default_rng(seed), n, d)
    moments = Moments()
    for block in np.split(x, sorted(min(cut, n) for cut in cuts)):  # some of them empty
        assert moments.update(block) is moments
    assert moments.n == n
    for value in (moments, Moments().update(x)):
        np.testing.assert_allclose(value.mean, x.mean(0), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(value.cov, np.atleast_2d(np.cov(x.T)), rtol=1e-9, atol=1e-10)


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(1, 6), st.tuples(*[st.integers(0, 20)] * 3))
def test_merge_is_associative_and_commutative(seed: int, d: int, sizes: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    x, y, z = (sample(rng, n, d) for n in sizes)
    left = Moments().update(x).merge(Moments().update(y)).merge(Moments().update(z))
    right = Moments().update(z).merge(Moments().update(y)).merge(Moments().update(x))
    nested = Moments().update(x).merge(Moments().update(y).merge(Moments().update(z)))
    for other in (right, nested):
        assert other.n == left.n == sum(sizes)
        if left.n > 1:
            np.testing.assert_allclose(other.mean, left.mean, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(other.cov, left.cov, rtol=1e-9, atol=1e-10)


def test_merge_leaves_the_other_alone_and_takes_itself() -> None:
    x, y = Moments().update([[0.0], [2.0]]), Moments().update([[5.0]])
    assert x.merge(y) is x
    assert (y.n, y.mean.tolist()) == (1, [5.0])
    z = Moments().update([[0.0], [2.0]])
    z.merge(z)
    assert (z.n, z.mean.tolist()) == (4, [1.0])
    np.testing.assert_allclose(z.cov, [[4 / 3]])


def test_empty_moments_merge() -> None:
    x = Moments().update([[1.0, 2.0], [3.0, 4.0]])
    assert x.merge(Moments()).n == 2
    assert Moments().merge(x).n == 2
    assert Moments().merge(Moments()).n == 0


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    # Sums of x and x^2 would leave nothing of a variance of 1 at 1e8 + x.
    x = np.random.default_rng(6).integers(-3, 4, size=(1000, 3)).astype(np.float64)
    moments = Moments()
    for block in np.split(x + 1e8, 10):
        moments.update(block)
    np.testing.assert_allclose(moments.cov, np.cov(x.T), rtol=1e-7, atol=1e-7)


def test_one_block_of_any_size_is_taken_in_parts_or_not_at_all() -> None:
    x = np.random.default_rng(12).normal(size=(2 * ROWS + 3, 2)).astype(np.float32) + np.float32(100)
    moments = Moments().update(x)
    wide = x.astype(np.float64)
    assert moments.n == len(x)
    np.testing.assert_allclose(moments.mean, wide.mean(0), rtol=1e-14)
    np.testing.assert_allclose(moments.cov, np.cov(wide.T), rtol=1e-12, atol=1e-14)
    x[-1, 0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        moments.update(x)
    assert moments.n == len(x)
    np.testing.assert_allclose(moments.mean, wide.mean(0), rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_every_float_dtype_is_accumulated_in_float64(dtype: Any) -> None:
    x = np.random.default_rng(7).normal(size=(50, 3)).astype(dtype)
    moments = Moments().update(x)
    assert moments.mean.dtype == moments.cov.dtype == np.float64
    np.testing.assert_allclose(moments.cov, np.cov(x.astype(np.float64).T), rtol=1e-12)


def test_covariance_is_symmetric_and_a_copy() -> None:
    moments = Moments().update(np.random.default_rng(8).normal(size=(40, 7)))
    assert (moments.cov == moments.cov.T).all()
    moments.mean[:] = moments.cov[:] = 9  # must not reach what is kept
    assert abs(moments.mean).max() < 1


def test_moments_refuse_bad_input_and_stay_as_they_were() -> None:
    moments = Moments().update([[1.0, 2.0]])
    cases: list[tuple[Any, str]] = [
        ([1.0, 2.0], "two-dimensional"),
        ([[1.0]], "expected rows of dimension 2, found 1"),
        ([[np.nan, 0.0]], "NaN or infinity"),
        ([[0.0, -np.inf]], "NaN or infinity"),
        ([["a", "b"]], "real numbers"),
    ]
    for bad, message in cases:
        with pytest.raises(ValueError, match=message):
            moments.update(bad)
    with pytest.raises(ValueError, match="dimension 2, found 3"):
        moments.merge(Moments(3))
    assert (moments.n, moments.mean.tolist()) == (1, [1.0, 2.0])


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 rows, found 1"):
        _ = Moments().update([[1.0]]).cov
    with pytest.raises(ValueError, match="at least 2 rows, found 0"):
        _ = Moments().cov
    with pytest.raises(ValueError, match="mean of no rows"):
        _ = Moments(4).mean
