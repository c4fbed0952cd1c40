"""When to stop: worked-out answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odyssey.science.stopping import OUTCOMES, Curve, best_step, evaluate_rule


def curve(valid: list[float], test: list[float], fraction: list[float] | None = None) -> Curve:
    places = np.linspace(0, 1, len(valid)) if fraction is None else np.array(fraction)
    return Curve(places, np.array(valid), np.array(test))


NATS = st.floats(0, 20)
CURVES = st.lists(
    st.lists(st.tuples(NATS, NATS), min_size=5, max_size=5).map(
        lambda points: curve(*(list(column) for column in zip(*points, strict=True)))
    ),
    min_size=1,
    max_size=12,
)


def test_best_step_worked_out() -> None:
    found = best_step(curve([4.0, 3.5, 3.7], [4.2, 3.9, 4.5]))
    assert (found.point, found.fraction, found.valid, found.test) == (1, 0.5, 3.5, 3.9)
    assert found.lost_by_going_on == pytest.approx(0.6)
    assert found.against_zero_shot == pytest.approx(-0.3)
    assert found.end_against_zero_shot == pytest.approx(0.3)
    # Test gets no say, and of equal points the first is taken: not to adapt at all.
    found = best_step(curve([3.0, 3.5, 3.0], [4.0, 3.0, 2.0]))
    assert (found.point, found.against_zero_shot, found.lost_by_going_on) == (0, 0, -2)


@given(CURVES)
def test_losses_add_up(curves: list[Curve]) -> None:
    for one in curves:
        found = best_step(one)
        assert found.valid == one.valid.min()
        assert found.lost_by_going_on + found.against_zero_shot == pytest.approx(found.end_against_zero_shot)


CELLS = {
    # valid against its start at a half; test at the end against its start
    ("m", "stopped, would have been worse"): curve([3, 3.1, 3], [3, 9, 3.4]),
    ("m", "stopped, would have been better"): curve([3, 3, 2], [3, 9, 2.9]),
    ("m", "went on, worse"): curve([3, 2.9, 3], [3, 9, 3.2]),
    ("m", "went on, better"): curve([3, 2, 1], [3, 9, 1]),
    ("n", "went on, better"): curve([3, 2, 1], [3, 9, 2]),
}


def test_the_rule_worked_out() -> None:
    found = evaluate_rule(CELLS)
    assert found["at"].tolist() == [0.5]
    row = found.iloc[0]
    assert (row["cells"], row["stopped"]) == (5, 2)
    assert [row[outcome] for outcome in OUTCOMES] == [1, 1, 1, 2]
    assert [row[f"{outcome}_sum"] for outcome in OUTCOMES] == pytest.approx([0.4, 0.1, 0.2, 3])
    assert [row[f"{outcome}_mean"] for outcome in OUTCOMES] == pytest.approx([0.4, 0.1, 0.2, 1.5])
    assert row["net"] == pytest.approx((0.4 - 0.1) / 5)


def test_an_outcome_that_nothing_had_has_no_mean() -> None:
    row = evaluate_rule({("m", "a"): CELLS["m", "went on, better"]}).iloc[0]
    assert (row["harm_saved"], row["harm_saved_sum"], row["net"]) == (0, 0, 0)
    assert np.isnan(row["harm_saved_mean"])


def test_points_that_are_not_quite_where_they_should_be_are_found() -> None:
    # Steps are whole: quarters of 33 steps are at 8, 16 and 25. The longest curve says where to ask.
    uneven = curve([3, 2, 4, 2, 2], [3, 3, 3, 3, 4], [0, 8 / 33, 16 / 33, 25 / 33, 1])
    short = curve([3, 4], [3, 5])  # one step: asked at its end, never at its start
    found = evaluate_rule({("m", "a"): uneven, ("m", "b"): short})
    assert found["at"].tolist() == [0.25, 0.5, 0.75]
    assert found["stopped"].tolist() == [1, 2, 1]
    assert evaluate_rule({("m", "a"): uneven}, at=[0.01, 0.4, 1]).stopped.tolist() == [0, 1, 0]


@given(CURVES)
def test_every_cell_has_one_outcome(curves: list[Curve]) -> None:
    cells = {("m", str(k)): one for k, one in enumerate(curves)}
    found = evaluate_rule(cells)
    assert found["at"].tolist() == [0.25, 0.5, 0.75]
    assert (found[list(OUTCOMES)].sum(axis=1) == len(curves)).all()
    assert (found["stopped"] == found["harm_saved"] + found["gain_cost"]).all()
    sums = found[[f"{outcome}_sum" for outcome in OUTCOMES]]
    np.testing.assert_allclose(sums.sum(axis=1), sum(abs(c.test[-1] - c.test[0]) for c in curves), atol=1e-9)
    # The net is what the rule's outcome is better than always adapting's, on the average.
    always = np.mean([c.test[-1] for c in curves])
    for row, k in zip(found.itertuples(), (1, 2, 3), strict=True):
        ruled = np.mean([c.test[0] if c.valid[k] >= c.valid[0] else c.test[-1] for c in curves])
        assert row.net == pytest.approx(always - ruled, abs=1e-9)


def test_curves_of_two_points_have_nothing_between() -> None:
    found = evaluate_rule({("m", "a"): curve([3, 4], [3, 5])})
    assert isinstance(found, pd.DataFrame)
    assert len(found) == 0
    assert {"at", "harm_saved", "net"} <= set(found.columns)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (curve([3], [3]), "two points or more"),
        (Curve(np.array([0, 1]), np.array([1.0, 2.0]), np.array([1.0])), "two points or more, not 2, 2 and 1"),
        (curve([3, 2], [3, 2], [0.1, 1]), "begins before training"),
        (curve([3, 2, 1], [3, 2, 1], [0, 0.5, 0.5]), "begins before training and goes on"),
        (curve([3, float("nan")], [3, 2]), "finite"),
    ],
)
def test_what_is_no_curve_is_refused(bad: Curve, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        best_step(bad)
    with pytest.raises(ValueError, match=message):
        evaluate_rule({("m", "a"): bad})


def test_questions_without_an_answer_are_refused() -> None:
    with pytest.raises(ValueError, match="no curves"):
        evaluate_rule({})
    for at in (0, 1.1):
        with pytest.raises(ValueError, match=r"above 0 and at most 1"):
            evaluate_rule(CELLS, at=[at])
