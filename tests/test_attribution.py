"""To which tokens a change is due: worked-out answers, and parts that sum to the whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odyssey.science.attribution import OTHERS, by_class, classes_of, concentration, specific_and_others
from odyssey.science.token_classes import CLASSES, SPECIFIC
from odyssey.science.tokens import token_table

LOSSES = st.floats(0, 30, width=32)
TEXTS = st.lists(st.tuples(st.integers(0, 9), LOSSES, LOSSES), min_size=1, max_size=200)
NAMES = st.lists(st.sampled_from(list(CLASSES)), min_size=10, max_size=10)


def columns(cells: list[tuple[int, float, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids, before, after = zip(*cells, strict=True)
    return np.array(ids), np.array(before, dtype=np.float32), np.array(after, dtype=np.float32)


# -- concentration


def test_concentration_worked_out() -> None:
    # Rises of 4, 3, 2 and 1 (10 in all), a fall of 5: half of 10 is in two, 80 % in three, 95 % in four.
    found = concentration(np.array([2.0, -5.0, 4.0, 1.0, 0.0, 3.0]))
    assert (found.gross, found.net, found.rising) == (10, 5, 4)
    assert found.of_gross == {0.5: 2, 0.8: 3, 0.95: 4}
    # The net rise of 5: 2.5 and 4 are in the first, 4.75 in two.
    assert found.of_net == {0.5: 1, 0.8: 1, 0.95: 2}
    assert found.curve.tolist() == pytest.approx([0.4, 0.7, 0.9, 1])


def test_shares_that_are_met_exactly_are_met() -> None:
    # Ten tenths, though neither 0.1 nor their sum is a float.
    assert concentration(np.full(10, 0.1)).of_gross == {0.5: 5, 0.8: 8, 0.95: 10}


def test_what_did_not_rise_has_no_carriers() -> None:
    better = concentration(np.array([1.0, -3.0]))
    assert better.net == -2
    assert better.of_net == {}
    assert better.of_gross == {0.5: 1, 0.8: 1, 0.95: 1}
    for nothing in (np.array([-1.0, 0.0]), np.array([])):
        found = concentration(nothing)
        assert found.gross == found.rising == len(found.curve) == 0
        assert found.of_gross == found.of_net == {}
    with pytest.raises(ValueError, match="finite"):
        concentration(np.array([1.0, np.nan]))


@given(st.lists(st.floats(-10, 10, allow_subnormal=False), max_size=60))
def test_carriers_are_the_fewest(values: list[float]) -> None:
    found = concentration(np.array(values))
    rises = sorted((value for value in values if value > 0), reverse=True)
    assert found.rising == len(rises)
    assert found.gross == pytest.approx(math.fsum(rises), abs=1e-9)
    assert found.net == pytest.approx(math.fsum(values), abs=1e-9)
    for total, carriers in ((found.gross, found.of_gross), (found.net, found.of_net)):
        for share, k in carriers.items():
            assert 1 <= k <= found.rising
            assert math.fsum(rises[:k]) >= share * total - 1e-9
            assert math.fsum(rises[: k - 1]) < share * total
        assert list(carriers.values()) == sorted(carriers.values())
    assert (np.diff(found.curve) >= 0).all()
    assert not len(found.curve) or found.curve[-1] == 1


# -- classes


def test_by_class_worked_out() -> None:
    # Ten tokens. Two newlines 1 -> 3, three of the domain 4 -> 2, five of the rest 2 -> 2.5 (twice) or 2 (thrice).
    ids = np.array([0, 0, 1, 1, 1, 2, 2, 3, 3, 3])
    before = np.array([1, 1, 4, 4, 4, 2, 2, 2, 2, 2], dtype=np.float32)
    after = np.array([3, 3, 2, 2, 2, 2.5, 2.5, 2, 2, 2], dtype=np.float32)
    table = token_table(ids, before, after)
    names = classes_of(table.token_id, {0: "newline", 1: SPECIFIC, 2: "rest", 3: "rest", 9: "digits"})
    found = by_class(table, names).set_index("class")
    assert list(found.index) == list(CLASSES)
    newline = found.loc["newline"]
    assert newline[["tokens", "share", "nll_before", "nll_after", "change"]].tolist() == [2, 0.2, 1, 3, 2]
    assert newline["contribution"] == pytest.approx(0.4)
    # Without them eight tokens: 12 + 10 before, 6 + 11 after.
    assert newline["perplexity_before_without"] == pytest.approx(math.exp(22 / 8))
    assert newline["perplexity_after_without"] == pytest.approx(math.exp(17 / 8))
    assert newline["perplexity_change_without"] == pytest.approx(math.exp(17 / 8) - math.exp(22 / 8))
    assert found.loc["rest", "contribution"] == pytest.approx(0.1)
    assert found.loc[SPECIFIC, ["rise", "fall"]].tolist() == pytest.approx([0, -0.6])
    assert found["contribution"].sum() == pytest.approx(-0.1)
    # A class without a token changes nothing and has no mean.
    digits = found.loc["digits"]
    assert digits[["tokens", "share", "contribution", "rise", "fall"]].tolist() == [0] * 5
    assert digits[["nll_before", "nll_after", "change"]].isna().all()
    assert digits["perplexity_before_without"] == pytest.approx(math.exp(24 / 10))
    apart = specific_and_others(table, names).set_index("class")
    assert list(apart.index) == [SPECIFIC, OTHERS]
    assert apart.loc[SPECIFIC].tolist() == found.loc[SPECIFIC].tolist()
    assert apart.loc[OTHERS, "change"] == pytest.approx(0.5 / 0.7)


def test_a_text_of_one_class_has_nothing_without_it() -> None:
    table = token_table(np.array([1, 2]), np.array([1.0, 2.0]), np.array([2.0, 2.0]))
    found = by_class(table, ["digits", "digits"]).set_index("class")
    assert found.loc["digits", "contribution"] == 0.5
    assert found.loc["digits"].filter(like="_without").isna().all()
    assert found.loc["rest", "perplexity_after_without"] == pytest.approx(math.exp(2))


@given(TEXTS, NAMES)
def test_classes_sum_to_the_whole(cells: list[tuple[int, float, float]], names: list[str]) -> None:
    ids, before, after = columns(cells)
    table = token_table(ids, before, after)
    classes = classes_of(table.token_id, dict(enumerate(names)))
    change = after.mean(dtype=float) - before.mean(dtype=float)
    of_token = np.array([names[token] for token in ids])
    for found in (by_class(table, classes), specific_and_others(table, classes)):
        assert found["tokens"].sum() == len(ids)
        assert found["share"].sum() == pytest.approx(1, abs=1e-12)
        assert found["contribution"].sum() == pytest.approx(change, abs=1e-9)
        assert found["rise"].sum() == pytest.approx(concentration(table.contribution).gross, abs=1e-9)
        np.testing.assert_allclose(found["rise"] + found["fall"], found["contribution"], atol=1e-9)
        parts = (found["share"] * found["change"]).fillna(0)
        np.testing.assert_allclose(parts, found["contribution"], atol=1e-9)
    for row in by_class(table, classes).itertuples():
        mine = of_token == row[1]
        assert row.tokens == mine.sum()
        if mine.any():
            assert row.nll_after == pytest.approx(after[mine].mean(dtype=float), abs=1e-9)
        if not mine.all():
            assert math.log(row.perplexity_before_without) == pytest.approx(before[~mine].mean(dtype=float), abs=1e-9)


def test_classes_that_do_not_fit_are_refused() -> None:
    table = token_table(np.array([1, 2]), np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match="1 classes for 2 token ids"):
        by_class(table, ["rest"])
    with pytest.raises(ValueError, match="no such class of tokens: letters"):
        specific_and_others(table, ["rest", "letters"])
    with pytest.raises(ValueError, match="no class for token id 2"):
        classes_of(table.token_id, {1: "rest"})
