"""The page's tables of results: frames in, rows of text to read out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from odyssey.claims import WORSE
from odyssey.reporting.answer import change_bounds
from odyssey.reporting.tables import most_degraded
from odyssey.reporting.words import bounds, number, p_value, signed

Table = dict[str, Any]
"""header, rows of cells, `words`, the number of columns of text that come first, marks, which rows to set off, foot,
a row that stays last, and model, of which each row's first cell is a domain with tokens to look up, or None."""

MOST_TOKENS = 3000
"""Rows of tokens that the page has room for, about."""


def table(
    header: list[str],
    rows: list[list[str]],
    words: int,
    marks: Sequence[bool] = (),
    foot: Sequence[str] = (),
    model: str | None = None,
) -> Table:
    """`words` columns of text, then numbers; `marks` says which rows to set off."""
    shown = list(marks) or [False] * len(rows)
    return {"header": header, "rows": rows, "words": words, "marks": shown, "foot": list(foot), "model": model}


def headline_rows(headline: pd.DataFrame, ids: Mapping[str, int]) -> dict[str, Table]:
    """A model's rows of the headline table to read, by model; those that got worse are marked. `ids` are Figure 1's."""
    # n and d stand above the table, n of each domain in that of the distance figure.
    header = ["domain", "portion", "outcome", "zero-shot", "adapted", "change", "interval", "ratio", "MMD", "FD"]
    header += ["bits/byte\nzero-shot", "bits/byte\nadapted", "id"]
    found = {}
    for model, own in headline.groupby("model", sort=False):
        rows = [
            [
                *(row.domain, row.portion, row.outcome),
                *(number(row.zero_shot), number(row.adapted), signed(row.change, None), change_bounds(row)),
                *(f"×{row.ratio:.3f}", f"{row.mmd:.4f}", f"{row.fd:.4f}"),
                *(f"{row.bits_per_byte_zero_shot:.3f}", f"{row.bits_per_byte_adapted:.3f}", str(ids[row.domain])),
            ]
            for row in own.itertuples()
        ]
        marks = (own["outcome"] == WORSE).tolist()
        found[str(model)] = table(header, rows, words=3, marks=marks, model=str(model))
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
    """The tokens that changed most, cell by cell, those of each model's worst domain first, and marked.

    Of these all are shown, of other cells as many of each split and direction as there is room for; see `shown_of`.
    """
    header = ["token", "got", "contribution", "change", "NLL before", "after", "count", "model", "domain", "split"]
    worst = {str(model): most_degraded(headline, str(model)) for model in dict.fromkeys(headline["model"])}
    marks = tokens["domain"] == tokens["model"].map(worst)
    order = {key: place for place, key in enumerate(headline[["model", "domain"]].itertuples(index=False, name=None))}
    places = [order[key] for key in zip(tokens["model"], tokens["domain"], strict=True)]
    keys = {"rest": ~marks, "place": places, "second": tokens["split"] != "test", "down": tokens["direction"] == "down"}
    kept = tokens.assign(**keys, uses=tokens["count"])[marks | (tokens["rank"] <= shown_of(tokens))]
    kept = kept.sort_values([*keys, "rank"], kind="stable")
    rows = [
        [
            *(row.token.replace(" ", "␣"), "worse" if row.direction == "up" else "better"),
            *(signed(row.contribution, 4), signed(row.change, 3), f"{row.nll_before:.3f}", f"{row.nll_after:.3f}"),
            *(f"{row.uses:,}", row.model, row.domain, row.split),
        ]
        for row in kept.itertuples()
    ]
    return table(header, rows, words=2, marks=(~kept["rest"]).tolist())


def shown_of(tokens: pd.DataFrame) -> int:
    """How many tokens of each split and direction the page has room for, of every cell."""
    groups = len(tokens[["model", "domain", "split", "direction"]].drop_duplicates())
    return max(1, MOST_TOKENS // max(groups, 1))


def input_rows(inputs: Mapping[str, str]) -> tuple[dict[str, str], Table]:
    """Digests of the contents of whole stages, and a table of those of cells, named "stage/model/domain"."""
    whole = {name: found[:12] for name, found in inputs.items() if "/" not in name}
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for name, found in inputs.items():
        if name not in whole:
            stage, model, domain = name.split("/")
            cells.setdefault((model, domain), {})[stage] = found[:12]
    stages = list(next(iter(cells.values())))
    return whole, table(
        ["model", "domain", *stages], [[*cell, *cells[cell].values()] for cell in cells], words=2 + len(stages)
    )
