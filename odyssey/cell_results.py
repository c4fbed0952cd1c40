"""What a cell's run shows of each stage's results: files in, metrics, tables and tags into its record.

Called inside of `written.as_written`, which makes one error of what a file has not or has otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odyssey.errors import OdysseyError
from odyssey.frames import read_frame
from odyssey.layout import CURVES, SUMMARY
from odyssey.record import Metric, Record, as_text, flatten, read_rows
from odyssey.science.perplexity import Score
from odyssey.store import digest, read_json, read_manifest
from odyssey.written import check_rows

if TYPE_CHECKING:
    import pandas as pd

CHANGE, ZERO_SHOT, ADAPTED, MMD, FD = "Change", "PPL zero-shot", "PPL adapted", "MMD", "FD"
"""Metrics that answer the study's question: perplexities, adapted minus zero-shot, distances to the source corpus.

MLflow's page of compared runs draws the first metric by name against the first parameter by name, and its
tables have no room for longer heads: hence the capitals, which come before all other names.
"""
CURVE_METRICS = (*(f"nll/{name}" for name in CURVES), "nll/train", "learning_rate")
"""Metrics by optimiser step."""
TRAINED = "odyssey.trained"
"""Tag with the digest of what a cell was trained from: by it a run that was live is found again."""


def _add_similarity(record: Record, folder: Path) -> None:
    """Distances of the cell's domain to the source corpus, with the n and d they depend on."""
    rows = {row["domain"]: row for row in read_rows(folder / "similarity.csv")}
    domain = record.tags["domain"]
    if domain not in rows:
        raise OdysseyError(f"{folder / 'similarity.csv'}: no domain '{domain}'; run `dvc repro similarity`")
    row = rows[domain]
    for name, column in ((FD, "fd"), (MMD, "mmd")):
        record.metrics.append(Metric(name, _shown(float(row[column]))))
        record.params[name] = f"{float(row[column]):.4f}"
    record.metrics += [Metric(f"similarity/{column}", float(row[column])) for column in ("n_source", "n_target", "d")]


def _add_adapt(record: Record, folder: Path) -> None:
    """Curves by optimiser step: NLL in nats per token, learning rate."""
    for row in _some(folder / "curves.csv"):
        record.metrics += curve_point(int(row["step"]), [float(row[name]) for name in CURVES])
    for loss in _some(folder / "loss.csv"):
        record.metrics += loss_point(int(loss["step"]), float(loss["nll"]), float(loss["learning_rate"]))
    record.tags[TRAINED] = trained(record.tags["model"], record.tags["domain"], read_manifest(folder)["made_from"])
    for name in ("curves.csv", "loss.csv"):
        record.files[f"results/{name}"] = folder / name


def _some(path: Path) -> list[dict[str, str]]:
    rows = read_rows(path)
    if not rows:
        raise ValueError(f"no rows in {path.name}")
    return rows


def trained(model: str, domain: str, made_from: Mapping[str, Any]) -> str:
    """Digest of what a cell's model is trained from."""
    return digest([model, domain, made_from])


def curve_point(step: int, nll: Sequence[float]) -> list[Metric]:
    """A point of the curves after so many optimiser steps: NLL of CURVES' texts, in nats per token, test first."""
    return [Metric(f"nll/{name}", value, step) for name, value in zip(CURVES, nll, strict=True)][::-1]


def loss_point(step: int, nll: float, learning_rate: float) -> list[Metric]:
    """A training step's NLL, in nats per token, and its learning rate."""
    return [Metric("nll/train", nll, step), Metric("learning_rate", learning_rate, step)]


def _add_evaluate(record: Record, folder: Path) -> None:
    """Sums and counts, and the ratios derived from them; a change above 0 means that the domain got worse."""
    scores = read_json(folder / "scores.json")
    before, after = (Score(**scores[name]) for name in ("zero_shot", "adapted"))
    values = {
        CHANGE: _shown(after.perplexity - before.perplexity),
        ZERO_SHOT: _shown(before.perplexity),
        ADAPTED: _shown(after.perplexity),
        "change/ratio": after.perplexity / before.perplexity,
        "bits_per_byte/zero_shot": before.bits_per_byte,
        "bits_per_byte/adapted": after.bits_per_byte,
        "bits_per_byte/change": after.bits_per_byte - before.bits_per_byte,
        "nll_sum/zero_shot": before.nll_sum,
        "nll_sum/adapted": after.nll_sum,
        "scored/tokens": after.tokens,
        "scored/bytes": after.bytes,
    }
    record.metrics += [Metric(key, float(value)) for key, value in values.items()]
    record.params["evaluate.context"] = as_text(scores["context"])
    record.files["results/scores.json"] = folder / "scores.json"


def _shown(value: float) -> float:
    """Seven significant digits: tables of MLflow show every digit there is. All of them are in the files."""
    return float(f"{value:.7g}")


def _add_tokens(record: Record, folder: Path) -> None:
    """Token tables of train and test, and what they sum to."""
    summary = read_json(folder / SUMMARY)
    record.params["tokens.newline_ids"] = as_text(summary.pop("newline_ids", []))
    for key, value in flatten(summary, "_"):
        record.metrics.append(Metric(f"token_analysis/{key}", float(value)))
    for split in ("test", "train"):  # the first one is what opens
        record.tables[f"tokens/{split}.json"] = _token_table(folder, split)


def _token_table(folder: Path, split: str) -> pd.DataFrame:
    """A split's tokens, the most harmful first, to be read in MLflow's UI; NLL and changes in nats.

    Tokens are quoted: the UI swallows blanks, and takes a token that is a number for a place in
    the list. All digits are in the stage's own file.
    """
    columns = ["token", "contribution", "change", "nll_before", "nll_after", "count", "token_id"]
    table = read_frame(folder / f"{split}.csv")
    check_rows(table, columns)
    table = table.sort_values("contribution", ascending=False, kind="stable")
    table["token"] = [f"'{token}'" for token in table["token"]]
    return table[columns].round({"contribution": 5, "change": 3, "nll_before": 3, "nll_after": 3})


def _add_claims(record: Record, folder: Path) -> None:
    """Intervals of the cell's changes, and which tokens carry them."""
    rows = [row for row in read_rows(folder / "evidence.csv") if _is_of(record, row)]
    if not rows:
        raise OdysseyError(f"{folder / 'evidence.csv'}: nothing of this model and domain; run `dvc repro claims`")
    row = rows[0]
    names = {"change": "change/perplexity", "log_change": "change/log"}
    values = {"change/log": row["log_change"], "best_fraction": row["best_fraction"]}
    values |= {f"{key}_{end}": row[f"{column}_{end}"] for column, key in names.items() for end in ("low", "high")}
    # A test split of one document has no interval.
    record.metrics += [Metric(key, float(value)) for key, value in values.items() if value]
    record.tags["outcome"] = row["outcome"]
    classes = [row for row in read_rows(folder / "classes.csv") if _is_of(record, row)]
    record.metrics += [
        Metric(f"contribution/{row['class'].replace(' ', '_')}", float(row["contribution"])) for row in classes
    ]


def _is_of(record: Record, row: Mapping[str, str]) -> bool:
    return all(row[key] == record.tags[key] for key in ("model", "domain"))


READERS: dict[str, Callable[[Record, Path], None]] = {
    "similarity": _add_similarity,
    "adapt": _add_adapt,
    "evaluate": _add_evaluate,
    "tokens": _add_tokens,
    "claims": _add_claims,
}
