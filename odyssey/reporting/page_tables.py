"""The page's tables of results: frames in, rows of text to read out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from odyssey.claims import WORSE
from odyssey.reporting.captions import change_bounds
from odyssey.reporting.tables import most_degraded
from odyssey.reporting.words import bounds, number, p_value, signed

Table = dict[str, Any]
"""header, rows of cells, `words`, the number of columns of text that come first, and marks, which rows to set off."""


def table(header: list[str], rows: list[list[str]], words: int, marks: Sequence[bool] = ()) -> Table:
    """`words` columns of text, then numbers; `marks` says which rows to set off."""
    return {"header": header, "rows": rows, "words": words, "marks": list(marks) or [False] * len(rows)}


def headline_rows(headline: pd.DataFrame, ids: Mapping[str, int]) -> dict[str, Table]:
    """A model's rows of the headline table to read, by model; those that got worse are marked. `ids` are Figure 1's."""
    # n and d stand above the table, n of each domain in that of the distance figure.
    header = ["domain", "portion", "id", "outcome", "zero-shot", "adapted", "change", "interval", "ratio", "MMD", "FD"]
    header += ["bits/byte\nzero-shot", "bits/byte\nadapted"]
    found = {}
    for model, own in headline.groupby("model", sort=False):
        rows = [
            [
                *(row.domain, row.portion, str(ids[row.domain]), row.outcome),
                *(number(row.zero_shot), number(row.adapted), signed(row.change, None), change_bounds(row)),
                *(f"×{row.ratio:.3f}", f"{row.mmd:.4f}", f"{row.fd:.4f}"),
                *(f"{row.bits_per_byte_zero_shot:.3f}", f"{row.bits_per_byte_adapted:.3f}"),
            ]
            for row in own.itertuples()
        ]
        found[str(model)] = table(header, rows, words=4, marks=(own["outcome"] == WORSE).tolist())
    return found


def distance_rows(similarity: pd.DataFrame) -> Table:
    """Every measured domain by its id in the distance figure."""
    rows = [
        [str(row.id), row.display, row.portion, f"{row.mmd:.4f}", f"{row.fd:.4f}", f"{row.n_target:,}"]
        for row in similarity.itertuples()
    ]
    return table(["id", "domain", "portion", "MMD", "FD", "n"], rows, words=3)


def portion_rows(portions: pd.DataFrame) -> Table:
    """Domains that got worse, better, or neither, per model and portion."""
    rows = [
        [
            *(row.model, row.portion, str(row.domains), str(row.worse), str(row.better), str(row.within_noise)),
            f"×{row.median_ratio:.3f}",
        ]
        for row in portions.itertuples()
    ]
    return table(["model", "portion", "domains", "worse", "better", "within noise", "median ratio"], rows, words=2)


def correlation_rows(correlations: pd.DataFrame) -> Table:
    """Correlations with their intervals to read; a dash where there is none."""
    header = ["model", "portion", "of", "with", "n", "Spearman", "interval", "p", "Pearson", "interval", "p"]
    names = {"change": "change", "log_change": "log change"}
    rows = []
    for row in correlations.itertuples():
        cells = [row.model, row.portion, names[row.change], row.distance.upper(), str(row.n)]
        for kind in ("spearman", "pearson"):
            value, low, high, p = (getattr(row, f"{kind}{end}") for end in ("", "_low", "_high", "_p"))
            cells += [signed(value), bounds(signed(low), signed(high)), p_value(p)]
        rows.append(cells)
    return table(header, rows, words=4)


def token_rows(tokens: pd.DataFrame, headline: pd.DataFrame) -> Table:
    """Of the domain that came off worst with each model, the tokens of the test split that changed most."""
    header = ["model", "domain", "", "token", "count", "NLL before", "after", "change", "contribution"]
    rows = [
        [
            *(row.model, row.domain, "worse" if row.direction == "up" else "better", row.token.replace(" ", "␣")),
            *(f"{row.uses:,}", f"{row.nll_before:.3f}", f"{row.nll_after:.3f}"),
            *(signed(row.change, 3), signed(row.contribution, 4)),
        ]
        for row in tokens.rename(columns={"count": "uses"}).itertuples()
        if row.split == "test" and row.domain == most_degraded(headline, row.model)
    ]
    return table(header, rows, words=4)


def input_rows(inputs: Mapping[str, str]) -> tuple[dict[str, str], Table]:
    """Digests of the contents of whole stages, and a table of those of cells, named "stage/model/domain"."""
    whole = {name: found[:12] for name, found in inputs.items() if "/" not in name}
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for name, found in inputs.items():
        if name not in whole:
            stage, model, domain = name.split("/")
            cells.setdefault((model, domain), {})[stage] = found[:12]
    stages = list(next(iter(cells.values())))
    return whole, table(["model", "domain", *stages], [[*cell, *cells[cell].values()] for cell in cells], words=5)
