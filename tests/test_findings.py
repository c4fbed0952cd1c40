"""What the report says of stage `claims`' tables: sentences, rows to read and Figure 7."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from odyssey.claims import FAILS, HOLDS, OPEN, Finding
from odyssey.reporting import findings, page_claims, token_figures, words
from odyssey.science.attribution import SHARES, by_class, concentration
from odyssey.science.stopping import Curve, evaluate_rule
from odyssey.science.tokens import token_table

NAN = math.nan


def claims_of(*rows: tuple[str, str, str, float, float, float, float, int, str]) -> pd.DataFrame:
    """From (claim, model, statistic, value, low, high, p, n, verdict)."""
    found = [(row[0], f"Statement {row[0]}", "section 3", *row[1:-1], 1, row[-1], "because") for row in rows]
    return pd.DataFrame(found, columns=Finding._fields)


def joined(*rows: tuple[str, str, str], model: str = "tiny", change: float = 0.1) -> pd.DataFrame:
    """joins.csv of a model's (domain, trained, scored), whose joints have a fifth of the change."""
    names = ["domain", "trained", "scored"]
    ends = {"change_low": change - 0.05, "change_high": change + 0.05}
    rest = {"change_rest": 0.9 * change, "change_rest_low": 0.9 * change - 0.2, "change_rest_high": 0.9 * change + 0.2}
    sizes = {"joint_contribution": 0.2 * change, "bits_per_byte_before": 2.0, "bits_per_byte_after": 2.1}
    return pd.DataFrame(rows, columns=names).assign(model=model, change=change, **ends, **rest, **sizes)


def evidence_of(*rows: tuple[str, str, float, float, float, float]) -> pd.DataFrame:
    """From (model, portion, specific_change, others_change, best_fraction, lost_by_going_on)."""
    columns = ["model", "portion", "specific_change", "others_change", "best_fraction", "lost_by_going_on"]
    found = pd.DataFrame(rows, columns=columns)
    return found.assign(domain=[f"d{k}" for k in range(len(rows))], log_change=0.1, outcome="worse")


# --- verdicts


def test_claims_are_grouped_and_read_without_colour() -> None:
    found = claims_of(
        ("1", "tiny", "mean (nats/token)", -1.0751, -1.2, -0.91084, 0.0049, 10, HOLDS),
        ("1", "small", "mean (nats/token)", -0.00002, NAN, NAN, 0.0004, 1, OPEN),
        ("2", "tiny", "none", NAN, NAN, NAN, NAN, 0, OPEN),
        ("6a", "tiny", "mean number", 26.25, 12.0, 1234.5, 0.04, 4, FAILS),
    )
    first, second, third = page_claims.claim_groups(found)
    assert [first["number"], first["statement"], first["source"]] == ["1", "Statement 1", "section 3"]
    assert first["rows"][0] == {
        "model": "tiny",
        "verdict": "✓ holds",
        "statistic": "mean (nats/token)",
        "reason": "because",
        "value": "−1.08 [−1.2, −0.911]",
        "p": "0.005",
        "n": "10",
    }
    assert [first["rows"][1][key] for key in ("verdict", "value", "p")] == [
        "? not testable here",
        "−2.00e−05",
        "<0.001",
    ]
    assert [second["rows"][0][key] for key in ("statistic", "value", "p", "n")] == ["–", "–", "–", "0"]
    assert [third["rows"][0][key] for key in ("verdict", "value")] == ["✗ does not hold", "26.2 [12, 1,234.5]"]
    assert findings.verdicts(found) == (
        "A claim has a verdict for each model or pair of models. Of all 4: “holds” 1, “does not hold” 1 and “not "
        "testable here” 2."
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "+0"), (-0.00854, "−0.00854"), (0.1, "+0.1"), (1e-4, "+0.0001"), (5432.1, "+5,432.1"), (NAN, "–")],
)
def test_three_digits_are_significant(value: float, shown: str) -> None:
    assert words.significant(value) == shown


# --- tokens


def test_classes_add_up_to_the_change() -> None:
    # 4 tokens: newlines rise by 2 and 0, one full stop falls by 1, one word rises by 1; the mean by 2 / 4.
    before, after = np.array([1.0, 3.0, 2.0, 2.0]), np.array([3.0, 3.0, 1.0, 3.0])
    table = token_table(np.array([7, 7, 8, 9]), before, after)
    kinds = {7: "newline", 8: "punctuation", 9: "rest"}
    classes = by_class(table, [kinds[token] for token in table.token_id])
    change = math.exp(2.5) - math.exp(2.0)
    shown = page_claims.class_rows(classes, change)
    rows = shown["rows"]
    assert rows[0] == ["newline", "2", "50.0%", "+1.000", "+0.5000", "+0.00"]
    assert rows[1] == ["white space", "0", "0.0%", "–", "+0.0000", words.signed(change)]
    assert len(rows) == len(classes)
    assert shown["foot"] == ["all", "4", "100.0%", "+0.500", "+0.5000", f"{words.signed(change)} (with all)"]
    assert findings.adds_up(classes, "pandas", "tiny") == (
        "pandas with tiny: the classes' contributions add up exactly to the change of the mean NLL, +0.5 nats per "
        "token, the highest being that of newline (+0.5), the lowest that of punctuation (−0.25)."
    )


def degraded(**contributions: list[float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """concentration_curve.csv at 1, 2 and 5 tokens, and concentration.csv, of domains' contributions."""
    curves, counts = [], []
    for domain, values in contributions.items():
        found = concentration(np.array(values))
        curves += [(domain, float(k), found.curve[k - 1]) for k in (1, 2, 5) if k <= found.rising]
        counts.append((domain, found.rising, *(float(n) for n in found.of_gross.values())))
    names = ["domain", "rising", *findings.GROSS.values()]
    return pd.DataFrame(curves, columns=["domain", "tokens", "share"]), pd.DataFrame(counts, columns=names)


def test_degraded_curves_end_with_all_of_the_rise() -> None:
    curves, counts = degraded(a=[4, 3, 2, 1, -9], b=[1, 1], c=[5, 4, 1])
    found, median = findings.degraded_curves(curves, counts)
    assert found["a"].values.tolist() == [[1, 0.4], [2, 0.7], [4, 1]]
    assert found["b"].values.tolist() == [[1, 0.5], [2, 1]]
    # At 1: 0.4, 0.5, 0.5; at 2: 0.7, 1 and 0.9; at 4 all have come to their ends.
    assert median.values.tolist() == [[1, 0.5], [2, 0.9], [4, 1]]
    assert findings.concentration_caption(counts, "tiny") == (
        "A thin line is one of the 3 domains that got worse beyond noise with tiny. The gross rise is the sum of "
        "what raises the mean NLL, whatever other tokens take back. The fewest token ids that make up so much of it "
        "are, for 50%: 1 to 2 (median 1); 80%: 2 to 3 (median 2); 95%: 2 to 4 (median 3); all of it: 2 to 4 (median "
        "3)."
    )
    assert findings.concentration_caption(counts[1:2], "tiny").startswith(
        "The line is b, the only domain that got worse"
    )


@pytest.mark.parametrize("values", [{"one": [3.0]}, {"a": [2.0, 1.0], "b": [1.0] * 900}])
def test_figure_seven_holds_any_curve(values: dict[str, list[float]]) -> None:
    figure = token_figures.concentration(*findings.degraded_curves(*degraded(**values)), SHARES, "tiny")
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_yticks().tolist() == [0, 0.5, 0.8, 0.95, 1]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == (["one"] if len(values) == 1 else ["one domain", "median of the 2 domains"])
    longest = max(map(len, values.values()))
    assert axes.get_xlim()[0] < 1 <= longest < axes.get_xlim()[1]


def test_figure_seven_is_missed_where_nothing_got_worse() -> None:
    headline = pd.DataFrame({"model": ["x", "x", "y"], "outcome": ["better", "within noise", "worse"]})
    assert findings.no_concentration(headline).startswith("With x no domain got worse beyond noise, so there is no")
    assert findings.no_concentration(headline[2:]) == ""


def test_specific_tokens_are_held_against_all_others_by_portion() -> None:
    rows = [("x", "near", change, 0.25, 1.0, 0.0) for change in (0.1, 0.2, 0.9)]
    evidence = evidence_of(*rows, ("x", "far", NAN, -1.0, 1.0, 0.0))
    assert findings.apart(evidence).endswith(
        "each the median over domains: near +0.200 against +0.250 and far – against −1.000 with x."
    )
    assert page_claims.apart_rows(evidence)["rows"][3] == ["d3", "far", "x", "worse", "–", "−1.000", "+0.100"]


# --- stopping


def curve(*valid: float) -> Curve:
    """Test is valid."""
    return Curve(np.linspace(0, 1, len(valid)), np.array(valid), np.array(valid))


@pytest.mark.parametrize(
    ("curves", "said"),
    [
        # Stopped half way, that saves 0.4 of two cells' 0.4 nats: 0.2 on their average.
        (
            [curve(1, 1.2, 1.4), curve(1, 0.8, 0.6)],
            "It saves most if asked after 50% of the training: +0.2 nats per token ",
        ),
        ([curve(1, 0.9, 1.4), curve(1, 0.8, 0.6)], "Whenever it is asked, it stops none of the 2 cells."),
        (
            [curve(1, 1.1, 0.6)],
            "It never saves more than it costs, and costs least after 50% of the training: −0.4 nats ",
        ),
        ([curve(1, 0.6)], "The curves have no point between their ends, so the rule could not be tried."),
    ],
)
def test_the_stopping_rule_is_told_as_it_turned_out(curves: list[Curve], said: str) -> None:
    found = evaluate_rule({("x", str(k)): one for k, one in enumerate(curves)})
    assert findings.best_rule(found).startswith(said)


def test_stopping_rows_show_the_arithmetic() -> None:
    found = evaluate_rule({("x", "a"): curve(1, 1.2, 1.4), ("x", "b"): curve(1, 1.1, 0.9)})
    # 0.4 saved, 0.1 lost, over two cells.
    assert page_claims.stopping_rows(found)["rows"] == [["50%", "2", "2", "1", "0.40", "1", "0.10", "+0.15"]]


def test_going_on_counts_what_lost_nothing() -> None:
    rows: list[Any] = [("x", "p", 0, 0, best, lost) for best, lost in ((1, 0.0), (0.5, -0.1), (0.25, 0.3))]
    assert findings.going_on(evidence_of(*rows)) == (
        "The loss on valid is lowest after 50% of the training at the median cell. By going on from its lowest point "
        "to the end, 2 of 3 cells lost nothing on test; the other 1 lost 0.3 nats per token at the median."
    )
    assert findings.going_on(evidence_of(*rows[:2])).endswith("2 of 2 cells lost nothing on test.")


# --- joins


def test_joins_are_averaged_over_domains() -> None:
    both = [(trained, scored) for trained in ("newline", "space") for scored in ("newline", "space")]
    joins = pd.concat([joined(*((domain, *way) for way in both), change=c) for domain, c in (("a", 0.1), ("b", -0.3))])
    said = findings.joined(joins)
    assert said.startswith(
        "With tiny and rows joined alike in training and in the test, the mean NLL changed by −0.100 (new"
    )
    assert said.endswith("have −0.020 and −0.020 of it. Worse beyond noise: 1 and 1 of 2 domains.")
    grids = page_claims.join_grids(joins[joins["trained"] + joins["scored"] != "spacenewline"], ["newline", "space"])
    assert [rows["rows"][0][2] for _, rows in grids] == ["−0.100", "−0.020", "−0.090"]
    assert grids[0][1]["rows"][1] == ["tiny", "space", "–", "−0.100"]
    whole = page_claims.join_rows(joins)["rows"][0]
    assert whole[:7] == ["a", "tiny", "newline", "newline", "+0.100", "[+0.050, +0.150]", "+0.0200"]
    assert whole[7:] == ["+0.090", "[−0.110, +0.290]", "2.000", "2.100"]
