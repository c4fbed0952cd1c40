"""Frechet distance against SciPy's sqrtm, pytorch-fid and torchmetrics: one pair, and one source against 199 domains.

    python benchmarks/frechet.py [D ...]

D is the dimension, 384, 768 and 1024 if none is given; with more rows than dimensions (4 D) and fewer (D / 2).
Every distance is known beforehand: rows x moved to T x, T symmetric positive definite, are moved in the shortest
way (Brenier), so that FD is the mean of ||T x - x||^2, and what each way errs by is measured, not only that all
agree. About 10 minutes on 2 cores, nearly all of them the peers' at 1024.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import harness
import numpy as np
import scipy.linalg
import torch
from harness import OURS, Result, Run, timed
from numpy.typing import NDArray

from odyssey.science.distances import Gaussian, Moments, frechet_distance

harness.mend_torchvision()
from pytorch_fid.fid_score import calculate_frechet_distance  # type: ignore[import-not-found]  # noqa: E402
from torchmetrics.image.fid import _compute_fid  # type: ignore[import-not-found]  # noqa: E402

Array = NDArray[np.float64]

DIMENSIONS = (384, 768, 1024)
DOMAINS = 199
TIMED = 20
"""Of the 199 domains, so many are run; what they take is scaled, what the source's decomposition takes is not."""
DIFFERENT = 4
"""Domains that are different ones: the work does not depend on the values."""
FAR, NEAR = 0.9, 1e-3
"""How far rows are moved at most, beside their own length."""


@dataclass(frozen=True)
class Pair:
    """Two samples' moments, and the distance that they have."""

    mean_x: Array
    cov_x: Array
    mean_y: Array
    cov_y: Array
    known: float

    @property
    def moments(self) -> tuple[Array, Array, Array, Array]:
        """In the order that all ways take."""
        return self.mean_x, self.cov_x, self.mean_y, self.cov_y


def main(dimensions: Sequence[int]) -> None:
    """Measure and record each dimension, with more rows and with fewer."""
    results: list[Result] = []
    for d in dimensions:
        for n in (4 * d, d // 2):
            pair, all_domains = measure(d, n)
            pair.note = near(d, n)
            results += pair, all_domains
    harness.record("frechet", results)


def sqrtm(mean_x: Array, cov_x: Array, mean_y: Array, cov_y: Array) -> float:
    """The textbook's sum."""
    root = scipy.linalg.sqrtm(cov_x @ cov_y).real
    return float(np.sum((mean_x - mean_y) ** 2) + np.trace(cov_x) + np.trace(cov_y) - 2 * np.trace(root))


def pytorch_fid(*moments: Array) -> float:
    """As pytorch-fid compares two files of moments."""
    return float(calculate_frechet_distance(*moments))


def torchmetrics(*moments: Array) -> float:
    """As torchmetrics does at the end, of its float64 state."""
    return float(_compute_fid(*map(torch.from_numpy, moments)))


WAYS: dict[str, Callable[..., float]] = {
    OURS: frechet_distance,
    "scipy sqrtm": sqrtm,
    "pytorch-fid": pytorch_fid,
    "torchmetrics": torchmetrics,
}


def measure(d: int, n: int) -> tuple[Result, Result]:
    """One pair, and one source against all domains, of n rows each."""
    pairs = make_pairs(np.random.default_rng(d + n), n, d, FAR)
    first = pairs[0]
    many: list[float] = []

    def ours() -> Run:
        many.append(domains(pairs))
        return timed(lambda: frechet_distance(*first.moments))

    def peer(way: Callable[..., float]) -> Callable[[], Run]:
        return lambda: timed(lambda: way(*first.moments))

    def same(values: Mapping[str, Any]) -> str:
        return agreement(values, first.known, full=n > d)

    ways = {OURS: ours, **{name: peer(way) for name, way in WAYS.items() if name != OURS}}
    sizes = f"d = {d}, {n} rows of each"
    pair = harness.alternate(f"FD of one pair, {sizes}", "3x sqrtm at d = 768", ways, same)
    all_domains = Result(f"FD of one source and {DOMAINS} domains, {sizes}", "5x sqrtm", agreement=pair.agreement)
    all_domains.seconds = {name: [DOMAINS * seconds for seconds in pair.seconds[name]] for name in pair.peers}
    all_domains.seconds = {OURS: many[-len(pair.seconds[OURS]) :], **all_domains.seconds}
    all_domains.note = (
        f"ours: {TIMED} domains are run and scaled; the peers keep nothing of the source, so that "
        f"{DOMAINS} domains are taken to cost them {DOMAINS} times the round's pair"
    )
    print(harness.line(all_domains), flush=True)
    return pair, all_domains


def domains(pairs: Sequence[Pair]) -> float:
    """Seconds for all domains, from covariances to distances; each is checked."""
    start = time.perf_counter()
    source = Gaussian(pairs[0].mean_x, pairs[0].cov_x)
    decomposed = time.perf_counter()
    run = list(islice(cycle(pairs), TIMED))
    found = [source.frechet_distance(Gaussian(pair.mean_y, pair.cov_y)) for pair in run]
    end = time.perf_counter()
    np.testing.assert_allclose(found, [pair.known for pair in run], rtol=1e-10)
    return decomposed - start + (end - decomposed) * DOMAINS / TIMED


def agreement(values: Mapping[str, float], known: float, full: bool) -> str:
    """How far each is from the known distance: ours within 1e-10 of it, or 1e-9 where the rank is not full."""
    errors = {name: abs(value - known) for name, value in values.items()}
    assert errors[OURS] <= (1e-10 * known if full else 1e-9), errors
    assert max(errors.values()) <= 1e-4 * known, errors
    return f"FD {known:.4f}, errors: " + ", ".join(f"{name} {error:.0e}" for name, error in errors.items())


def near(d: int, n: int) -> str:
    """What the relative error of each way is where the two samples are nearly the same; not timed."""
    pair = make_pairs(np.random.default_rng(d), n, d, NEAR)[0]
    errors = {name: way(*pair.moments) / pair.known - 1 for name, way in WAYS.items()}
    assert abs(errors[OURS]) <= 1e-9, errors
    told = ", ".join(f"{name} {error:+.0e}" for name, error in errors.items())
    note = f"d = {d}, {n} rows, relative errors where FD is {pair.known:.1e}: {told}"
    print(f"  {note}", flush=True)
    return note


def make_pairs(rng: np.random.Generator, n: int, d: int, step: float) -> list[Pair]:
    """A sample with variances over three decades, as embeddings have, about unit length, and samples moved from it."""
    x = rng.normal(size=(n, d)) * np.logspace(0, -1.5, d)
    x = turn(rng, x / np.sqrt(np.mean(np.sum(x**2, axis=1))))[0] + rng.normal(size=d) / d
    source = Moments().update(x)
    pairs = []
    for _ in range(DIFFERENT):
        turned, axes = turn(rng, x)
        moves = (turned * rng.uniform(-step, step, size=d)) @ axes.T
        middle = moves.mean(axis=0)
        known = np.sum((moves - middle) ** 2) / (n - 1) + np.sum(middle**2)
        moved = Moments().update(x + moves)
        pairs.append(Pair(source.mean, source.cov, moved.mean, moved.cov, float(known)))
    return pairs


def turn(rng: np.random.Generator, x: Array) -> tuple[Array, Array]:
    """Rows in random axes, and these (d, d)."""
    axes = np.linalg.qr(rng.normal(size=(x.shape[1], x.shape[1])))[0]
    return x @ axes, axes


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or DIMENSIONS)
