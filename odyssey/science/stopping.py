"""When to stop adapting a model to a domain, and what it costs to go on.

All losses are mean NLL of a split, natural logarithm, nats per token; the change of a perplexity
is the exponential of a difference of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

OUTCOMES = ("harm_saved", "gain_cost", "harm_not_saved", "gain_kept")
"""Stopped and would have ended worse; stopped and would not have; went on and ended worse; went on and did not."""


class Curve(NamedTuple):
    """One model on one domain, all (points,); the first point is before training, the last at its end."""

    fraction: NDArray[np.float64]
    """Of the training that is over, rising from 0."""
    valid: NDArray[np.float64]
    test: NDArray[np.float64]


class Best(NamedTuple):
    """Where validation would have one stop, and what that is worth on test."""

    point: int
    """Place on the curve, from 0: of the lowest `valid`, the first of equal ones."""
    fraction: float
    valid: float
    test: float
    lost_by_going_on: float
    """Test at the end minus test at this point: above 0, the rest of the training did harm."""
    against_zero_shot: float
    """Test at this point minus zero-shot test: above 0, worse than no adaptation at all."""
    end_against_zero_shot: float
    """The same of the end; the sum of the two before it."""


def best_step(curve: Curve) -> Best:
    """The point with the lowest validation loss, and what was lost by going on from there.

    Test has no say in the choice. Raises ValueError for what is not a curve.
    """
    fraction, valid, test = _checked(curve)
    k = int(np.argmin(valid))
    return Best(
        k,
        float(fraction[k]),
        float(valid[k]),
        float(test[k]),
        lost_by_going_on=float(test[-1] - test[k]),
        against_zero_shot=float(test[k] - test[0]),
        end_against_zero_shot=float(test[-1] - test[0]),
    )


def evaluate_rule(curves: Mapping[tuple[str, str], Curve], at: Iterable[float] | None = None) -> pd.DataFrame:
    """What a rule would have done for the (model, domain) cells: a row per fraction x of the training.

    The rule: "after x of the training, if the validation loss is not below its zero-shot value, stop and
    keep the model as it was before". It is held against always adapting to the end; better and worse are
    the test loss against zero-shot. `at` are the x; without, the points of the longest curve between its
    ends, evenly spaced as they are meant to be. As steps are whole, curves have their points only about
    there: each cell is asked at its point nearest to x that is not the first.

    Columns: at; cells; stopped; for each of OUTCOMES the number of cells, `<outcome>`, their sum of nats,
    `<outcome>_sum`, and the mean, `<outcome>_mean` (NaN for none); net, the nats per token that the rule
    saves on the average of all cells: (harm_saved_sum - gain_cost_sum) / cells, above 0 if it is better
    than always adapting. Nats are the size of the change from zero-shot to the end, and never negative.

    Raises ValueError for what is not a curve, no curve, or an x outside (0, 1].
    """
    checked = [_checked(curve) for curve in curves.values()]
    if not checked:
        raise ValueError("no curves")
    if at is None:
        at = np.linspace(0, 1, max(len(curve.fraction) for curve in checked))[1:-1].tolist()
    return pd.DataFrame([_row(checked, float(x)) for x in at], columns=_columns())


def _columns() -> list[str]:
    outcomes = [f"{outcome}{ending}" for outcome in OUTCOMES for ending in ("", "_sum", "_mean")]
    return ["at", "cells", "stopped", *outcomes, "net"]


def _row(curves: list[Curve], at: float) -> dict[str, float]:
    if not 0 < at <= 1:
        raise ValueError(f"a fraction of the training is above 0 and at most 1, not {at}")
    stop = np.array([_not_below_zero_shot(curve, at) for curve in curves])
    change = np.array([curve.test[-1] - curve.test[0] for curve in curves])
    worse = change > 0
    row: dict[str, float] = {"at": at, "cells": len(curves), "stopped": int(stop.sum())}
    for outcome, cells in zip(OUTCOMES, (stop & worse, stop & ~worse, ~stop & worse, ~stop & ~worse), strict=True):
        nats = np.abs(change[cells])
        row |= {outcome: len(nats), f"{outcome}_sum": float(nats.sum())}
        row[f"{outcome}_mean"] = float(nats.mean()) if len(nats) else np.nan
    row["net"] = (row["harm_saved_sum"] - row["gain_cost_sum"]) / len(curves)
    return row


def _not_below_zero_shot(curve: Curve, at: float) -> bool:
    """Whether the rule stops; never asked at the first point, where the loss always equals itself."""
    k = 1 + int(np.argmin(np.abs(curve.fraction[1:] - at)))
    return bool(curve.valid[k] >= curve.valid[0])


def _checked(curve: Curve) -> Curve:
    fraction, valid, test = (np.asarray(values, np.float64) for values in curve)
    if not len(fraction) == len(valid) == len(test) or len(fraction) < 2:
        raise ValueError(f"a curve has two points or more, not {len(fraction)}, {len(valid)} and {len(test)}")
    if fraction[0] != 0 or not (np.diff(fraction) > 0).all():
        raise ValueError(f"a curve begins before training and goes on, not at {fraction.tolist()}")
    if not (np.isfinite(valid).all() and np.isfinite(test).all()):
        raise ValueError("a curve's losses must be finite numbers")
    return Curve(fraction, valid, test)
