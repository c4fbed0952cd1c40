"""Mean and covariance of 1M x 384 float32 rows, by blocks from a file, against NumPy's with all rows in memory.

Ours is what the stage `similarity` does, reading included; NumPy's rows are read before its time starts, once as
they are (widened by np.cov) and once widened beforehand. Every run is a process of its own, for its peak of
memory. About 3 minutes on 2 cores; needs 2 GB of disk and 8 GB of memory (for the peers).
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import OURS, Run

from odyssey.science.distances import Moments
from odyssey.stages.similarity import read_moments

N, D = 1_000_000, 384
PART = 50_000
WITHIN = 1e-12
"""Of the largest value: how far the ways may be apart."""


def main() -> None:
    """Measure, and record; with what ours takes for a tenth of the rows."""
    with tempfile.TemporaryDirectory() as folder:
        rows, few = Path(folder, "rows.npy"), Path(folder, "few.npy")
        write(rows, N)
        write(few, N // 10)
        ways = {name: lambda name=name: child(name, rows) for name in (OURS, "numpy float32", "numpy float64")}
        result = harness.alternate(
            f"moments of {N:,} x {D} float32 rows", "same speed, constant memory, float64 accuracy", ways, same
        )
        grown = result.peak_mb[OURS][-1] / (child(OURS, few).peak_mb or 0)
    exact = exactness()
    result.note = (
        "ours reads the file within its time, NumPy's rows are in memory before it starts; with ten times the rows "
        f"ours peaks at {grown:.2f} times; where means are 5e5 spreads, covariances are off by {exact[OURS]:.0e} of "
        f"the largest, NumPy's by {exact['numpy']:.0e}"
    )
    print(f"  {result.note}")
    assert grown < 1.1, grown
    # A merged mean is as exact as float64 is at its own size: 5e5 spreads cost that share of the 16 digits.
    assert exact[OURS] <= 1e-11, exact
    harness.record("moments", [result])


def write(path: Path, n: int) -> None:
    """Random rows with a mean of their own and spreads over a decade; part by part, so that this process stays small.

    A process that is started counts what its parent had as its own peak.
    """
    rng = np.random.default_rng(0)
    middle = rng.normal(size=D).astype(np.float32)
    spreads = np.logspace(0, -1, D).astype(np.float32)
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, D))
    rows.flush()
    del rows
    with path.open("r+b") as file:
        file.seek(-n * D * 4, 2)
        for start in range(0, n, PART):
            size = (min(PART, n - start), D)
            file.write((rng.standard_normal(size, dtype=np.float32) * spreads + middle).tobytes())


def child(way: str, rows: Path) -> Run:
    """One way in a process of its own: the seconds that it says, and its peak."""
    run = harness.process([sys.executable, __file__, way, rows])
    return Run(run.value["seconds"], run.value["peak_mb"], run.value)


def work(way: str, path: Path) -> None:
    """In that process: print seconds, peak of memory, and some of the moments."""
    if way == OURS:
        start = time.perf_counter()
        moments = read_moments(path)
        mean, cov = moments.mean, moments.cov
    else:
        x = np.load(path)
        if way == "numpy float64":
            x = x.astype(np.float64)
        start = time.perf_counter()
        mean, cov = in_memory(x)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "mean": mean.tolist(), "cov": cov[::7].tolist()}))


def in_memory(x: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """As NumPy's user would."""
    return x.mean(axis=0, dtype=np.float64), np.cov(x, rowvar=False, dtype=np.float64)


def same(values: Mapping[str, Any]) -> str:
    """The largest difference to ours, beside the largest value."""
    apart = 0.0
    for name, value in values.items():
        for key in ("mean", "cov"):
            one, other = np.array(values[OURS][key]), np.array(value[key])
            apart = max(apart, float(abs(one - other).max() / abs(one).max()))
            assert apart <= WITHIN, (name, key, apart)
    return f"the same within {apart:.0e} of the largest value"


def exactness() -> dict[str, float]:
    """Largest error of the covariance over its largest value, for whole numbers about 2^20, known exactly."""
    whole = np.random.default_rng(1).integers(-3, 4, size=(100_000, 16))
    n, sums = len(whole), whole.sum(axis=0)
    known = (n * (whole.T @ whole) - np.outer(sums, sums)) / (n * (n - 1))  # whole numbers until divided
    rows = (whole + 2**20).astype(np.float32)
    ways = {OURS: Moments().update(rows).cov, "numpy": in_memory(rows)[1]}
    return {name: float(abs(cov - known).max() / known.max()) for name, cov in ways.items()}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        work(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
