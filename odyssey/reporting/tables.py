"""The report's tables: results in, pandas frames out. No files here.

Everywhere, a change is adapted minus zero-shot: positive means that the domain got worse.
Perplexity is per token, exp(sum of NLL / tokens); the ratio of two perplexities of one text
is exp(difference of the mean NLLs), so its logarithm is in nats per token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from odyssey.claims import BETTER, FAILS, HOLDS, OPEN, SAME, WORSE
from odyssey.science.perplexity import Score

Cell = tuple[str, str]
"""(model, domain)"""

DISTANCES = ("mmd", "fd")
COUNTS = {"worse": WORSE, "better": BETTER, "within_noise": SAME}
"""Columns that count domains, and the outcome that each of them counts."""
VERDICTS = {"hold": HOLDS, "fail": FAILS, "open": OPEN}
"""What metrics call the verdicts."""
OF_ALL = "the claims"
"""Where metrics are not of one model: no model can be called so."""


def headline(
    scores: Mapping[Cell, Mapping[str, Any]], similarity: pd.DataFrame, evidence: pd.DataFrame
) -> pd.DataFrame:
    """One row a cell: perplexities, change with its interval, ratio, bits per byte, distances with n and d.

    `scores[model, domain]` holds nll_sum (nats), tokens and bytes of "zero_shot" and "adapted";
    `similarity` has one row a domain, and `evidence` one a cell, with change_low, change_high, outcome
    (worse or better beyond noise, or within it), and units, the number of documents or blocks
    (unit) that the interval was made from. Models keep their order; within one, rows are sorted by
    portion (in the order of `similarity`) and then by change, the largest gain first.
    """
    rows = []
    for (model, domain), score in scores.items():
        before, after = Score(**score["zero_shot"]), Score(**score["adapted"])
        row = {"model": model, "domain": domain, "zero_shot": before.perplexity, "adapted": after.perplexity}
        row |= {"change": after.perplexity - before.perplexity, "ratio": after.perplexity / before.perplexity}
        row |= {"bits_per_byte_zero_shot": before.bits_per_byte, "bits_per_byte_adapted": after.bits_per_byte}
        rows.append(row)
    known = evidence[["model", "domain", "change_low", "change_high", "outcome", "units", "unit"]]
    table = pd.DataFrame(rows).merge(known, on=["model", "domain"], validate="one_to_one")
    table = table.merge(similarity, on="domain", validate="many_to_one")
    first = ("portion", "zero_shot", "adapted", "change", "change_low", "change_high", "outcome")
    for place, column in enumerate(first):
        table.insert(2 + place, column, table.pop(column))
    models, portions = list(dict.fromkeys(m for m, _ in scores)), list(dict.fromkeys(similarity["portion"]))
    order = sorted(
        range(len(table)),
        key=lambda i: (
            models.index(table["model"][i]),
            portions.index(table["portion"][i]),
            table["change"][i],
            table["domain"][i],
        ),
    )
    return table.iloc[order].reset_index(drop=True)


def portions(headline: pd.DataFrame) -> pd.DataFrame:
    """Per model and portion: domains that got worse or better beyond noise, or neither; median ratio of perplexity."""
    rows = []
    for (model, portion), group in headline.groupby(["model", "portion"], sort=False):
        counts = {column: int((group["outcome"] == outcome).sum()) for column, outcome in COUNTS.items()}
        row = {"model": model, "portion": portion, "domains": len(group)} | counts
        rows.append(row | {"median_ratio": float(group["ratio"].median())})
    return pd.DataFrame(rows)


def top_tokens(tables: Mapping[tuple[str, str, str], pd.DataFrame], top: int) -> pd.DataFrame:
    """The tokens that raise and that lower the mean NLL most, `top` together, of each table.

    `tables[model, domain, split]` has token_id, token, count, nll_before, nll_after, change and
    contribution (nats). `rank` 1 is the largest contribution of its direction, "up" being worse.
    """
    parts = []
    for (model, domain, split), table in tables.items():
        ranked = table.sort_values(["contribution", "token_id"], ascending=[False, True])
        up = ranked[ranked["contribution"] > 0].head(math.ceil(top / 2))
        down = ranked[ranked["contribution"] < 0].tail(top // 2).iloc[::-1]
        for direction, part in (("up", up), ("down", down)):
            key = {"model": model, "domain": domain, "split": split, "direction": direction}
            parts.append(part.assign(**key, rank=range(1, len(part) + 1)))
    columns = ["model", "domain", "split", "direction", "rank"]
    table = pd.concat(parts, ignore_index=True)
    return table[columns + [column for column in table.columns if column not in columns]]


def curves(cells: Mapping[Cell, pd.DataFrame], portion_of: Mapping[str, str]) -> pd.DataFrame:
    """Every cell's curve with its portion, and test_change, the mean NLL on test minus that before adaptation.

    `cells[model, domain]` has fraction, and train_start, valid and test in nats per token.
    """
    columns = ["fraction", "train_start", "valid", "test"]
    return pd.concat(
        [
            curve[columns].assign(
                model=model,
                domain=domain,
                portion=portion_of[domain],
                test_change=curve["test"] - curve["test"].iloc[0],
            )[["model", "domain", "portion", *columns, "test_change"]]
            for (model, domain), curve in cells.items()
        ],
        ignore_index=True,
    )


def metrics(portions: pd.DataFrame, correlations: pd.DataFrame, claims: pd.DataFrame) -> dict[str, Any]:
    """What one run is compared with another by: few, as each is a column of `dvc exp show`.

    For each model, by portion, how many domains got worse beyond noise and the median ratio of perplexities, and
    Spearman's r of the log change by distance, over all domains; undefined ones are left out. Beside the
    models, under OF_ALL, how many verdicts of each kind there are, a claim having one for each model.
    """
    found: dict[str, Any] = {}
    for model, own in portions.groupby("model", sort=False):
        of_model = correlations[correlations["model"] == model]
        found[str(model)] = {
            "worse": {row.portion: int(row.worse) for row in own.itertuples()},
            "ratio": {row.portion: round(float(row.median_ratio), 4) for row in own.itertuples()},
            "r": {distance: round(r, 3) for distance in DISTANCES if not math.isnan(r := spearman(of_model, distance))},
        }
    verdicts = {name: int((claims["verdict"] == verdict).sum()) for name, verdict in VERDICTS.items()}
    return found | {OF_ALL: verdicts}


def spearman(correlations: pd.DataFrame, distance: str, column: str = "spearman", portion: str = "all") -> float:
    """A figure of one model's correlations of the log change with `distance`."""
    own = correlations[(correlations["change"] == "log_change") & (correlations["portion"] == portion)]
    return float(own.loc[own["distance"] == distance, column].iloc[0])


def most_degraded(headline: pd.DataFrame, model: str) -> str:
    """Of the domains that got worse beyond noise, or else of all, the one with the largest change in perplexity."""
    own = headline[headline["model"] == model]
    worse = own[own["outcome"] == WORSE]
    chosen = own if worse.empty else worse
    return str(chosen.loc[chosen["change"].idxmax(), "domain"])
