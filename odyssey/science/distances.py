"""Distances between two sets of embeddings: MMD with a linear kernel, and Frechet distance.

Both are squared Euclidean quantities: with unit vectors they have no unit and lie in [0, 4].
Both depend on the sample sizes, so n belongs beside every value.

Shapes: n rows, d dimensions. Everything is computed in float64; float32 errs by 5e-3 in FD.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

ROWS = 2048
"""Rows that `Moments` widens and centres at a time: what they take stays in the cache."""
CLOSE = 1e-3
"""Share of the traces under which FD is not taken as their difference, in which 5e-16 of them are lost. Ours."""
LOST = 1e-11
"""Share of FD's trace that may be lost, by a bound of which a hundredth is reached, in taking roots. Ours."""


class Moments:
    """Number, mean and covariance of rows that come block by block.

    The sums of squares are kept about the running mean and merged by Chan, Golub and LeVeque
    (1979), "Updating formulae and a pairwise algorithm for computing sample variances": unlike
    sums of x and x^2 they lose nothing when the mean is large beside the spread.
    """

    def __init__(self, d: int | None = None) -> None:
        """Moments of no rows yet; without `d`, the first block or merge sets the dimension."""
        self._n = 0
        self._set_dimension(d or 0)

    def update(self, x: ArrayLike) -> Moments:
        """Take in a block of rows x (k, d), k >= 0, of any real dtype; returns self.

        Raises ValueError, leaving the moments as they were, if x is not two-dimensional, has
        another d than before, or holds NaN or infinity.
        """
        rows = _shaped(x, "x", 2)
        self._expect(rows.shape[1])
        taken = Moments(rows.shape[1])
        for start in range(0, len(rows), ROWS):
            centred = _widened(rows[start : start + ROWS], "x")
            mean = centred.mean(axis=0)
            centred -= mean
            taken._join(len(centred), mean, centred.T @ centred)
        return self.merge(taken)

    def merge(self, other: Moments) -> Moments:
        """Take in all rows that `other` has seen; returns self, `other` stays as it is.

        Raises ValueError if their dimensions differ.
        """
        if len(other._mean):
            self._expect(len(other._mean))
        return self._join(other._n, other._mean, other._scatter) if other._n else self

    @property
    def n(self) -> int:
        """Rows taken in so far."""
        return self._n

    @property
    def mean(self) -> Array:
        """Sample mean (d,); raises ValueError before the first row."""
        if self._n < 1:
            raise ValueError("the mean of no rows is undefined: update with at least 1 row first")
        return self._mean.copy()

    @property
    def cov(self) -> Array:
        """Sample covariance (d, d), unbiased: divided by n - 1. Raises ValueError for n < 2."""
        if self._n < 2:
            raise ValueError(f"the sample covariance needs at least 2 rows, found {self._n}")
        return self._scatter / (self._n - 1)

    def gaussian(self) -> Gaussian:
        """The Gaussian of this mean and covariance, as they are now. Raises ValueError for n < 2."""
        return Gaussian(self.mean, self.cov)

    def _expect(self, d: int) -> None:
        """Set the dimension, or refuse another one than was set."""
        if len(self._mean) == 0:
            self._set_dimension(d)
        elif len(self._mean) != d:
            raise ValueError(f"expected rows of dimension {len(self._mean)}, found {d}")

    def _set_dimension(self, d: int) -> None:
        self._mean: Array = np.zeros(d)  # (d,)
        self._scatter: Array = np.zeros((d, d))  # sum of (x - mean)(x - mean)^T

    def _join(self, n: int, mean: Array, scatter: Array) -> Moments:
        total = self._n + n
        shift = mean - self._mean  # (d,)
        self._scatter += scatter
        self._scatter += np.outer(shift, shift) * (self._n * n / total)
        self._mean = self._mean + shift * (n / total)
        self._n = total
        return self


def mmd_linear(mean_x: ArrayLike, mean_y: ArrayLike) -> float:
    """Squared maximum mean discrepancy with the linear kernel, of two means (d,).

    ||mean_x - mean_y||^2, the biased estimate of Gretton et al. (2012), "A kernel two-sample
    test", with k(x, y) = <x, y>. It is what the paper calls MMD.

    Raises ValueError if a mean is not (d,), is not finite, or their dimensions differ.
    """
    x, y = _real(mean_x, "mean_x", 1), _real(mean_y, "mean_y", 1)
    if x.shape != y.shape:
        raise ValueError(f"mean_x has dimension {len(x)}, mean_y {len(y)}; they must be equal")
    return float(np.sum((x - y) ** 2))


def frechet_distance(mean_x: ArrayLike, cov_x: ArrayLike, mean_y: ArrayLike, cov_y: ArrayLike) -> float:
    """Squared Frechet (2-Wasserstein) distance between two Gaussians; means (d,), covariances (d, d).

    See `Gaussian.frechet_distance`; for several distances from the same Gaussian, keep a `Gaussian`.

    Raises ValueError if a shape does not fit or a value is not finite.
    """
    mmd_linear(mean_x, mean_y)  # refuses means that do not fit each other
    return Gaussian(mean_x, cov_x, "_x").frechet_distance(Gaussian(mean_y, cov_y, "_y"))


class Gaussian:
    """A mean (d,) and a covariance (d, d), decomposed once for all distances from it."""

    def __init__(self, mean: ArrayLike, cov: ArrayLike, suffix: str = "") -> None:
        """Only the symmetric part of `cov` counts. `suffix` ends the names in messages: mean_x, cov_x.

        Raises ValueError if a shape does not fit or a value is not finite.
        """
        self.mean = _real(mean, f"mean{suffix}", 1)
        matrix = _real(cov, f"cov{suffix}", 2)
        shape = (len(self.mean), len(self.mean))
        if matrix.shape != shape:
            raise ValueError(f"cov{suffix} has shape {matrix.shape}; the mean's dimension asks for {shape}")
        self._cov = (matrix + matrix.T) / 2
        self._factor = _factor(self._cov)  # (d, rank)

    def frechet_distance(self, other: Gaussian) -> float:
        """Squared Frechet (2-Wasserstein) distance.

        ||mean_x - mean_y||^2 + tr(cov_x + cov_y - 2 (cov_x cov_y)^(1/2)), from Dowson and Landau
        (1982), "The Frechet distance between multivariate normal distributions".

        Real, finite and never negative, also with fewer samples than dimensions; equal covariances
        leave exactly the first term. What rounding leaves of a covariance beyond its rank counts as 0
        (see `_factor`), and so do negative eigenvalues.

        Raises ValueError if the dimensions differ.
        """
        shift = mmd_linear(self.mean, other.mean)
        if np.array_equal(self._cov, other._cov):
            return shift
        # The trace of the root is the sum of the singular values of x^T y (Bhatia, Jain and Lim 2019, "On the
        # Bures-Wasserstein distance between positive definite matrices"), for factors x and y: small, if ranks are.
        x, y = self._factor, other._factor
        traces = float(np.sum(x**2) + np.sum(y**2))
        spread = traces - 2 * _nuclear_norm(x.T @ y, traces)
        return shift + (spread if spread > CLOSE * traces else _procrustes(x, y))


def _factor(cov: Array) -> Array:
    """F (d, rank) with F F^T = cov, by Cholesky's decomposition with pivoting, which ends where the rank does.

    Higham (1990), "Analysis of the Cholesky decomposition of a semi-definite matrix". It ends when all
    that is left of the diagonal is up to 4 d * 2.2e-16 of the largest variance, which cannot be told from
    rounding. Left in, its root of 1e-8 would show wherever the other covariance is not null.
    """
    d = len(cov)
    noise = 4 * d * np.finfo(np.float64).eps * max(float(cov.diagonal().max()), 0.0)
    packed, pivots, rank, _ = scipy.linalg.lapack.dpstrf(cov, tol=noise, lower=1)
    # By rows of F^T, which is how they lie in memory.
    factor: Array = np.take(np.triu(packed.T[:rank]), np.argsort(pivots), axis=1).T
    if rank < d and abs(factor @ factor.T - cov).max() > 2 * noise:
        # Not a covariance but for rounding: the nearest one is without the negative eigenvalues.
        values, vectors = np.linalg.eigh(cov)
        kept = values > max(d * np.finfo(np.float64).eps * values[-1], 0)
        factor = vectors[:, kept] * np.sqrt(values[kept])
    return factor


def _nuclear_norm(matrix: Array, traces: float) -> float:
    """Sum of the singular values of a matrix (r, s), to be taken twice from `traces`.

    As the roots of the smaller Gram matrix's eigenvalues, half the work, where squaring does not show in the
    difference: an eigenvalue errs by 2.2e-16 of the largest, its root by that over twice the root.
    """
    largest = float(abs(matrix).max(initial=0))
    if largest == 0:
        return 0.0
    wide = (matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T) / largest  # squares neither over- nor underflow
    squares = np.linalg.eigvalsh(wide @ wide.T)  # ascending
    if squares[0] > 0:
        roots = np.sqrt(squares)
        total = largest * float(roots.sum())
        lost = largest * np.finfo(np.float64).eps * squares[-1] * float(np.sum(1 / roots))
        if lost <= LOST * (traces - 2 * total):
            return total
    return largest * float(np.linalg.svd(wide, compute_uv=False).sum())


def _procrustes(x: Array, y: Array) -> float:
    """min over orthogonal U of ||x - y U||_F^2, for factors x (d, r) and y (d, s), the narrower widened by zeros.

    The trace in the Frechet distance, as a sum of squares: where the covariances are close, the
    difference of traces can be negative, and all its digits can be lost.
    """
    left, _, right = np.linalg.svd(x.T @ y)
    x, y = x @ left, y @ right.T  # now as near each other as can be, column by column
    shared = min(x.shape[1], y.shape[1])
    return float(sum(np.sum(part**2) for part in (x[:, :shared] - y[:, :shared], x[:, shared:], y[:, shared:])))


def _real(value: Any, name: str, dimensions: int) -> Array:
    """`value` as float64; raises ValueError unless it is real, finite and of that many dimensions."""
    return _widened(_shaped(value, name, dimensions), name)


def _shaped(value: Any, name: str, dimensions: int) -> NDArray[Any]:
    """`value` as an array of its own dtype."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold real numbers, found dtype {array.dtype}")
    if array.ndim != dimensions or array.shape[-1] == 0:
        wanted = "(d,)" if dimensions == 1 else "two-dimensional"
        raise ValueError(f"{name} must be {wanted} with d >= 1, found shape {array.shape}")
    return array


def _widened(array: NDArray[Any], name: str) -> Array:
    """A copy in float64."""
    # Widened before it is checked, so that extended precision beyond float64 is refused too.
    wide = array.astype(np.float64)
    if not np.isfinite(wide).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return wide
