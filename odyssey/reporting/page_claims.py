"""The page's tables of what stage `claims` found: frames in, rows of text to read out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from odyssey.claims import COUNTED, FAILS, HOLDS, OPEN
from odyssey.reporting.findings import grid, way
from odyssey.reporting.page_tables import Table, table
from odyssey.reporting.words import DASH, bounds, number, p_value, percent, signed, significant

SIGNS = {HOLDS: "✓", FAILS: "✗", OPEN: "?"}
"""Before the words of a verdict: neither takes a colour to be told apart."""


def claim_groups(claims: pd.DataFrame) -> list[dict[str, Any]]:
    """Each claim with number, statement, source and a row for each model, cells by name."""
    groups = []
    for (number_, statement, source), own in claims.groupby(["claim", "statement", "source"], sort=False):
        rows = [_claim_row(row) for row in own.itertuples()]
        groups.append({"number": number_, "statement": statement, "source": source, "rows": rows})
    return groups


MINUS = re.compile(r"(?<![\w.])-(?=\d)")
"""The sign of a number within words."""


def _claim_row(row: Any) -> dict[str, str]:
    sign = "" if row.claim in COUNTED else "+"
    value, low, high = (significant(figure, sign) for figure in (row.value, row.low, row.high))
    return {
        "model": row.model,
        "verdict": f"{SIGNS[row.verdict]} {row.verdict}",
        "statistic": DASH if value == DASH else row.statistic,
        "value": value if DASH in (value, low) else f"{value} {bounds(low, high)}",
        "p": p_value(row.p),
        "n": str(row.n),
        "reason": MINUS.sub("−", row.reason),
    }


def class_rows(classes: pd.DataFrame, change: float) -> Table:
    """A domain's classes of tokens to read, and all of them; `change` is that of its perplexity."""
    header = ["class", "tokens", "share", "change", "contribution", "perplexity change\nwithout the class"]
    rows = [
        [
            *(row.name, f"{row.tokens:,}", f"{row.share:.1%}", signed(row.change, 3), signed(row.contribution, 4)),
            signed(row.perplexity_change_without, None),
        ]
        for row in classes.rename(columns={"class": "name"}).itertuples()
    ]
    whole = float(classes["contribution"].sum())
    total = ["all", f"{classes['tokens'].sum():,}", "100.0%", signed(whole, 3), signed(whole, 4)]
    return table(header, rows, words=1, foot=[*total, f"{signed(change, None)} (with all)"])


def apart_rows(evidence: pd.DataFrame) -> Table:
    """What domain-specific tokens and all others changed by, for every cell."""
    header = ["domain", "portion", "model", "outcome", "domain-specific", "all others", "all"]
    rows = [
        [
            *(row.domain, row.portion, row.model, row.outcome),
            *(signed(value, 3) for value in (row.specific_change, row.others_change, row.log_change)),
        ]
        for row in evidence.itertuples()
    ]
    return table(header, rows, words=4)


def stopping_rows(stopping: pd.DataFrame) -> Table:
    """What the stopping rule does at each share of the training."""
    header = [
        "asked after",
        "cells",
        "stopped",
        "harm saved\ncells",
        "nats",
        "gain lost\ncells",
        "nats",
        "net\nnats/token",
    ]
    rows = [
        [
            *(percent(round(row.at, 4)), str(row.cells), str(row.stopped)),
            *(str(row.harm_saved), number(row.harm_saved_sum), str(row.gain_cost), number(row.gain_cost_sum)),
            significant(row.net),
        ]
        for row in stopping.itertuples()
    ]
    return table(header, rows, words=1)


def join_grids(joins: pd.DataFrame, ways: Sequence[str]) -> list[tuple[str, Table]]:
    """Means over domains, trained by scored, as (what of, table)."""
    header = ["model", "joined in training by", *(f"in the test by\n{way(scored)}" for scored in ways)]
    named = {
        "change": "Change of the mean NLL over all tokens",
        "joint_contribution": "The joints' part of that change",
        "change_rest": "Change of the mean NLL over the rows' own tokens",
    }
    found = []
    for column, what in named.items():
        cells = grid(joins, column, ways)
        rows = [[model, way(trained), *(signed(v, 3) for v in values)] for (model, trained), values in cells.items()]
        found.append((f"{what}, nats per token, mean over domains.", table(header, rows, words=2)))
    return found


def join_rows(joins: pd.DataFrame) -> Table:
    """Every domain, joined in every way."""
    header = ["domain", "model", "in training", "in the test", "change", "interval", "joints' part"]
    header += ["change of\nthe rest", "interval", "bits/byte\nbefore", "bits/byte\nafter"]
    rows = [
        [
            *(row.domain, row.model, way(row.trained), way(row.scored)),
            *(signed(row.change, 3), _nats(row.change_low, row.change_high), signed(row.joint_contribution, 4)),
            *(signed(row.change_rest, 3), _nats(row.change_rest_low, row.change_rest_high)),
            *(f"{row.bits_per_byte_before:.3f}", f"{row.bits_per_byte_after:.3f}"),
        ]
        for row in joins.itertuples()
    ]
    return table(header, rows, words=4)


def _nats(low: float, high: float) -> str:
    return bounds(signed(low, 3), signed(high, 3))
