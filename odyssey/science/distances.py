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
        block = _real(x, "x", 2)
        self._expect(block.shape[1])
        if len(block) == 0:
            return self
        mean = block.mean(axis=0)
        centred = block - mean
        return self._join(len(block), mean, centred.T @ centred)

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
        self._scatter = self._scatter + scatter + np.outer(shift, shift) * (self._n * n / total)
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

    ||mean_x - mean_y||^2 + tr(cov_x + cov_y - 2 (cov_x cov_y)^(1/2)), from Dowson and Landau
    (1982), "The Frechet distance between multivariate normal distributions".

    Real, finite and never negative for finite input, also with fewer samples than dimensions.
    Only the symmetric part of a covariance counts, and eigenvalues up to d * 2.2e-16 times the
    largest, which cannot be told from rounding, count as 0; negative ones too.

    Raises ValueError if a shape does not fit or a value is not finite.
    """
    shift = mmd_linear(mean_x, mean_y)
    d = len(np.asarray(mean_x))
    factors = []
    for name, cov in (("cov_x", cov_x), ("cov_y", cov_y)):
        matrix = _real(cov, name, 2)
        if matrix.shape != (d, d):
            raise ValueError(f"{name} has shape {matrix.shape}; the means' dimension asks for {(d, d)}")
        factors.append(_factor(matrix))
    return shift + _procrustes(*factors)


def _factor(cov: Array) -> Array:
    """F (d, d) with F F^T = cov, from the eigendecomposition: it exists for singular matrices too."""
    values, vectors = scipy.linalg.eigh((cov + cov.T) / 2)  # ascending
    # The usual numerical rank. What rounding leaves in a null space is 1e-16 of the largest
    # eigenvalue, but its root 1e-8, which would show wherever the other covariance is not null.
    noise = len(values) * np.finfo(np.float64).eps * values[-1]
    return np.asarray(vectors * np.sqrt(np.where(values > max(noise, 0), values, 0)))


def _procrustes(x: Array, y: Array) -> float:
    """min over orthogonal U of ||x - y U||_F^2, for factors x and y (d, d).

    The trace in the Frechet distance, as the trace of the root is the sum of the singular values
    of x^T y (Bhatia, Jain and Lim 2019, "On the Bures-Wasserstein distance between positive
    definite matrices"). Summing those instead of squares would leave the difference of large
    numbers where the covariances are close: it can be negative, and all its digits can be lost.
    """
    left, _, right = scipy.linalg.svd(y.T @ x)
    return float(np.sum((x - y @ (left @ right)) ** 2))


def _real(value: Any, name: str, dimensions: int) -> Array:
    """`value` as float64; raises ValueError unless it is real, finite and of that many dimensions."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold real numbers, found dtype {array.dtype}")
    if array.ndim != dimensions or array.shape[-1] == 0:
        wanted = "(d,)" if dimensions == 1 else "two-dimensional"
        raise ValueError(f"{name} must be {wanted} with d >= 1, found shape {array.shape}")
    # Widened before it is checked, so that extended precision beyond float64 is refused too.
    wide = array.astype(np.float64)
    if not np.isfinite(wide).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return wide
