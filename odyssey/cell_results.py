"""What a cell's run shows of each stage's results: files in, metrics, tables and tags into its record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from odyssey.errors import OdysseyError
from odyssey.layout import SUMMARY
from odyssey.record import Metric, Record, as_text, flatten, read_rows
from odyssey.science.perplexity import Score
from odyssey.store import read_json

CURVES = ("train_start", "valid", "test")


def _add_similarity(record: Record, folder: Path) -> None:
    """Distances of the cell's domain to the source corpus, with the n and d they depend on."""
    rows = {row["domain"]: row for row in read_rows(folder / "similarity.csv")}
    domain = record.tags["domain"]
    if domain not in rows:
        raise OdysseyError(f"{folder / 'similarity.csv'}: no domain '{domain}'; run `dvc repro similarity`")
    columns = ("mmd", "fd", "n_source", "n_target", "d")
    record.metrics += [Metric(f"similarity/{column}", float(rows[domain][column])) for column in columns]


def _add_adapt(record: Record, folder: Path) -> None:
    """Curves by optimiser step: NLL in nats per token, learning rate."""
    record.curves = [{key: float(value) for key, value in row.items()} for row in read_rows(folder / "curves.csv")]
    for row in record.curves:
        record.metrics += [Metric(f"nll/{name}", row[name], int(row["step"])) for name in CURVES]
    for loss in read_rows(folder / "loss.csv"):
        step = int(loss["step"])
        record.metrics.append(Metric("nll/train", float(loss["nll"]), step))
        record.metrics.append(Metric("learning_rate", float(loss["learning_rate"]), step))
    for name in ("curves.csv", "loss.csv"):
        record.files[f"results/{name}"] = folder / name


def _add_evaluate(record: Record, folder: Path) -> None:
    """Sums and counts, and the ratios derived from them; a change above 0 means that the domain got worse."""
    scores = read_json(folder / "scores.json")
    before, after = (Score(**scores[name]) for name in ("zero_shot", "adapted"))
    values = {
        "nll_sum/zero_shot": before.nll_sum,
        "nll_sum/adapted": after.nll_sum,
        "scored/tokens": after.tokens,
        "scored/bytes": after.bytes,
        **_compare("perplexity", before.perplexity, after.perplexity),
        **_compare("bits_per_byte", before.bits_per_byte, after.bits_per_byte),
    }
    record.metrics += [Metric(key, float(value)) for key, value in values.items()]
    record.params["evaluate.context"] = as_text(scores["context"])
    record.files["results/scores.json"] = folder / "scores.json"


def _compare(name: str, before: float, after: float) -> dict[str, float]:
    return {
        f"{name}/zero_shot": before,
        f"{name}/adapted": after,
        f"{name}/change": after - before,
        f"{name}/ratio": after / before,
    }


def _add_tokens(record: Record, folder: Path) -> None:
    """Token tables of train and test, and what they sum to."""
    summary = read_json(folder / SUMMARY)
    record.params["tokens.newline_ids"] = as_text(summary.pop("newline_ids", []))
    for key, value in flatten(summary, "_"):
        record.metrics.append(Metric(f"token_analysis/{key}", float(value)))
    for split in ("train", "test"):
        record.tables[f"tokens/{split}.json"] = folder / f"{split}.csv"


def _add_claims(record: Record, folder: Path) -> None:
    """Intervals of the cell's changes, and which tokens carry them."""
    rows = [row for row in read_rows(folder / "evidence.csv") if _is_of(record, row)]
    if not rows:
        raise OdysseyError(f"{folder / 'evidence.csv'}: nothing of this model and domain; run `dvc repro claims`")
    row = rows[0]
    names = {"change": "perplexity/change", "log_change": "log_change"}
    values = {f"{key}_{end}": row[f"{column}_{end}"] for column, key in names.items() for end in ("low", "high")}
    values |= {key: row[key] for key in ("log_change", "best_fraction")}
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
