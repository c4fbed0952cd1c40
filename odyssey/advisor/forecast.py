"""What the full adaptation will do, from what was measured: a regression on the mini-study's cells.

The outcome is the change of mean NLL (log perplexity, nats per token) on texts that are kept out, after one
epoch over all the others; below 0 the model got better. Calibration: calibration.csv beside this module,
written by benchmarks/advisor.py, one row a (seed, model, domain) of the mini-study with what the advisor
measured and what the study did.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Array = NDArray[np.float64]
Verdict = Literal["adapt", "do not adapt", "unclear"]
Cell = Mapping[str, Any]
"""What was measured for one (model, domain): numbers by the names of calibration.csv's columns."""

CALIBRATION = Path(__file__).with_name("calibration.csv")
FORMS: Mapping[str, tuple[str, ...]] = {
    "probe and similarity": ("change", "log_fd_ratio"),
    "similarity": ("log_fd_ratio",),
}
"""Predictors of each forecast, beside a constant: few, as there are 20 domains. Chosen on seed 0 of the mini-study.
There the probe's trend, the model's size, the zero-shot loss or shared n-grams as one more, or MMD instead of FD did
not help; a spread that grows with the change did, as with one spread for all 80 % intervals of the near half held
90 % of outcomes, and of the far half 65 %."""
LEAST_SPREAD = 0.5
"""Of the error over all, that no forecast's spread is below. Ours."""
RANGES = {
    "parameters": 2.0,
    "tokens": 1.5,
    "learning_rate": 1.5,
    "share": 1.25,
    "zero_shot": 1.1,
    "rows": 1.1,
    "fd_ratio": 1.1,
}
"""What a model and texts have to be like for the calibration to speak of them: within what it has seen, or
beyond by at most this factor. Factors are ours."""
KINDS = ("encoder",)
"""What has to be the same."""
NEAR = 1.2
"""FD ratio below which texts are near the source corpus: on seed 0 of the mini-study there was a gap. Ours."""
FEWEST_PRECEDENTS = 8
"""Adaptations that went alike, for an answer by them. Ours."""
PROBE_ALONE, NOTHING = "the probe alone, not calibrated", "nothing that is calibrated"


class Precedents(NamedTuple):
    """Adaptations of the calibration whose probes went alike."""

    so_far: str
    """How they went."""
    worse: int
    """Those that ended worse."""
    total: int

    def verdict(self, confidence: float) -> Verdict:
        """How at least this share of them ended."""
        if self.total < FEWEST_PRECEDENTS:
            return "unclear"
        if self.total - self.worse >= confidence * self.total:
            return "adapt"
        return "do not adapt" if self.worse >= confidence * self.total else "unclear"


@dataclass(frozen=True)
class Forecast:
    """The expected change of mean NLL, nats per token, with its interval; below 0 the model gets better."""

    basis: str
    """What it is made from."""
    change: float
    interval: tuple[float, float]
    p_worse: float | None
    """Probability that the change is above 0; None if not calibrated."""
    outside: tuple[str, ...]
    """In what the case is unlike all that the calibration has seen."""
    precedents: Precedents | None
    """None without a probe."""
    verdict: Verdict


@dataclass(frozen=True)
class Fit:
    """Coefficients, and how far the forecast of a domain that was left out is from what happened."""

    names: tuple[str, ...]
    coefficients: Array
    """(1 + names,), the constant first."""
    error: float
    """Root of the mean squared error of domains left out."""
    growth: tuple[float, float]
    """Their squared error at a forecast of 0, and what a nat of forecast change adds to it."""
    freedom: int
    """Degrees of freedom of the spread: domains less coefficients."""

    def predict(self, cell: Cell) -> float:
        """Expected change."""
        return float(_row(cell, self.names) @ self.coefficients)

    def interval(self, cell: Cell, confidence: float) -> tuple[float, float]:
        """Where the change lies with this probability."""
        centre = self.predict(cell)
        reach = float(stats.t.isf((1 - confidence) / 2, self.freedom)) * self.spread(centre)
        return centre - reach, centre + reach

    def p_worse(self, cell: Cell) -> float:
        """Probability of a change above 0."""
        centre = self.predict(cell)
        return float(stats.t.cdf(centre / self.spread(centre), self.freedom))

    def spread(self, change: float) -> float:
        """Standard deviation of what happens about a forecast change: the larger one is, the less exact."""
        variance = self.growth[0] + self.growth[1] * abs(change)
        return max(math.sqrt(variance), LEAST_SPREAD * self.error)


def fit(cells: Sequence[Cell], names: tuple[str, ...]) -> Fit:
    """Least squares of the outcome, with the spread of errors on domains left out one by one.

    Cells of a domain are alike, whatever the seed and the model: errors of a fit to all of them would
    promise too much for a domain that is none of them (Stone 1974, "Cross-validatory choice and
    assessment of statistical predictions", with domains as the units). Their squares are fitted in turn, by
    a line in the size of the forecast that nowhere falls; Student's t counts domains, not cells.

    Raises ValueError with fewer domains than coefficients and two more.
    """
    domains = np.array([cell["domain"] for cell in cells])
    unique = np.unique(domains)
    if len(unique) < len(names) + 3:
        raise ValueError(f"{len(unique)} domains are too few for {len(names) + 1} coefficients")
    x = np.array([_row(cell, names) for cell in cells])  # (cells, 1 + names)
    y = np.array([float(cell["outcome"]) for cell in cells])
    forecasts = np.empty(len(y))
    for domain in unique:
        out = domains == domain
        forecasts[out] = x[out] @ _solve(x[~out], y[~out])
    squares = (y - forecasts) ** 2
    (at_zero, slope), _ = optimize.nnls(np.column_stack([np.ones(len(y)), abs(forecasts)]), squares)
    error = float(np.sqrt(squares.mean()))
    return Fit(names, _solve(x, y), error, (float(at_zero), float(slope)), len(unique) - len(names) - 1)


def _solve(x: Array, y: Array) -> Array:
    return np.asarray(np.linalg.lstsq(x, y, rcond=None)[0])


def _row(cell: Cell, names: Sequence[str]) -> Array:
    """Predictors of a cell (1 + names,)."""
    return np.array([1.0, *(math.log(cell["fd_ratio"]) if name == "log_fd_ratio" else cell[name] for name in names)])


@cache
def calibration(path: Path = CALIBRATION) -> tuple[Cell, ...]:
    """The mini-study's cells; numbers as numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        words = ("model", "domain", "portion", *KINDS)
        return tuple({k: v if k in words else float(v) for k, v in row.items()} for row in csv.DictReader(file))


def unlike(cell: Cell, cells: Sequence[Cell]) -> tuple[str, ...]:
    """In what a cell lies outside of what `cells` span, `RANGES` allowed for."""
    found = [f"{name} {cell[name]}" for name in KINDS if cell[name] not in {other[name] for other in cells}]
    for name, factor in RANGES.items():
        if name not in cell:  # what only a probe has
            continue
        seen = [float(other[name]) for other in cells]
        if not min(seen) / factor <= cell[name] <= max(seen) * factor:
            found.append(f"{name.replace('_', ' ')} {cell[name]:.3g} (seen: {min(seen):.3g} to {max(seen):.3g})")
    return tuple(found)


def outcome_so_far(cell: Cell) -> str:
    """What the probe did to the held-out part, as far as its interval tells.

    A model that got worse often recovers with more texts, but seldom where it is no longer
    getting better and has little to learn, as the texts are like those that it has read.
    """
    if cell["change_high"] < 0:
        return "better"
    if cell["change_low"] <= 0:
        return "neither better nor worse"
    if cell["change"] < cell["half"]:
        return "worse but falling"
    return "worse, not falling, near the source" if cell["fd_ratio"] < NEAR else "worse, not falling"


def precedents(cell: Cell, cells: Sequence[Cell]) -> Precedents:
    """How often adaptations ended worse whose probes went as this one."""
    so_far = outcome_so_far(cell)
    alike = [other for other in cells if outcome_so_far(other) == so_far]
    return Precedents(so_far, sum(other["outcome"] > 0 for other in alike), len(alike))


def forecast(cell: Cell, cells: Sequence[Cell], confidence: float) -> Forecast:
    """The calibrated forecast or, outside of what the calibration has seen, what the probe itself found.

    `cell` has what a probe gives only if there was one. Outside of the calibration the change expected is
    the probe's own, after its share of the texts, with its interval by document. That is an
    answer only if at least `confidence` of the calibration's adaptations whose probes went like it ended alike:
    sizes cannot be carried over to other models, but how far a beginning can be trusted may be.
    """
    probed = "change" in cell
    outside = unlike(cell, cells)
    like = precedents(cell, cells) if probed else None
    basis = "probe and similarity" if probed else "similarity"
    if not outside:
        found = fit(cells, FORMS[basis])
        low, high = found.interval(cell, confidence)
        answer = verdict(low, high)
        return Forecast(basis, found.predict(cell), (low, high), found.p_worse(cell), outside, like, answer)
    if like is None:
        return Forecast(NOTHING, math.nan, (math.nan, math.nan), None, outside, like, "unclear")
    interval = cell["change_low"], cell["change_high"]
    return Forecast(PROBE_ALONE, cell["change"], interval, None, outside, like, like.verdict(confidence))


def verdict(low: float, high: float) -> Verdict:
    """Adapt if the whole interval is below 0, do not if it is above."""
    if high < 0:
        return "adapt"
    return "do not adapt" if low > 0 else "unclear"
