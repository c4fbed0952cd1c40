"""Is `odyssey advise` right? Its advice on every cell of the mini-study, held against what the study did.

    python benchmarks/advisor.py 0=data/mini 1=../seed1/mini ...

Each argument is a seed of the mini-study and the folder of its results (pretrain, sample, adapt, evaluate). First the
advisor is asked about every (model, domain) as a user would ask: about the domain's training texts and the
source corpus's rows, never about the test split. What it measured, with the change that the study found on
test, becomes odyssey/advisor/calibration.csv: rows that are there are kept, so delete the file to measure
anew, and a killed run goes on. Then each domain's forecasts are made from the other domains' rows only, all
seeds and sizes of the domain left out together, and compared with simpler rules: benchmarks/advisor.csv, .md.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from advisor_report import report

from odyssey.advisor import forecast as forecasts
from odyssey.advisor import texts
from odyssey.advisor.advice import BATCH_ROWS, Request, advise
from odyssey.advisor.forecast import CALIBRATION, FORMS, Cell, Fit, calibration
from odyssey.advisor.probe import CONFIDENCE
from odyssey.advisor.similarity import measure as measure_similarity
from odyssey.encoder import PINNED, PINNED_SHA256, count_truncated, encode, load_encoder
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.science.perplexity import Score
from odyssey.store import MANIFEST, read_json

HERE = Path(__file__).parent
SUBJECT = ("seed", "model", "domain", "portion")


# --- measuring


def measure(results: Mapping[int, Path], out: Path) -> None:
    """Ask the advisor about every cell that is not in `out` yet, and append what it measured and what happened."""
    known: set[tuple[float, str, str]] = set()
    if out.is_file():
        known = {(cell["seed"], cell["model"], cell["domain"]) for cell in calibration(out)}
    encoder = _Remembering()
    for seed, folder in results.items():
        layout = Layout(folder)
        with (layout.similarity / "similarity.csv").open(encoding="utf-8", newline="") as file:
            portions = {row["domain"]: row["portion"] for row in csv.DictReader(file)}
        models = sorted(path.name for path in (folder / "pretrain").iterdir() if path.is_dir())
        for domain, portion in portions.items():
            waiting = [model for model in models if (seed, model, domain) not in known]
            for row in _ask(layout, seed, domain, waiting, encoder):
                subject = dict(zip(SUBJECT, (seed, row.pop("model"), domain, portion), strict=True))
                _append(out, {**subject, **row})


def _ask(
    layout: Layout, seed: int, domain: str, models: Sequence[str], encoder: _Remembering
) -> Iterator[dict[str, Any]]:
    similarity = None
    for model in models:
        rate = read_json(layout.adapted(model, domain) / MANIFEST)["made_from"]["settings"]["learning_rate"]
        asked = Request(
            model=str(layout.pretrained(model)),
            source=str(layout.source),
            domain=layout.split(domain, "train"),
            learning_rate=rate,
            seed=seed,
        )
        if similarity is None:  # the same for every model: measured once
            sides = texts.read(asked.domain, None, seed, "domain"), texts.read(layout.source, None, seed, "source")
            similarity = measure_similarity(*sides, encoder.encode, encoder.count_truncated, seed)
        cell = advise(asked, similarity).cell
        scores = read_json(layout.evaluated(model, domain) / "scores.json")
        before, after = (Score(**scores[key]).mean_nll for key in ("zero_shot", "adapted"))
        yield {"model": model, **cell, "outcome": after - before}


class _Remembering:
    """The pinned encoder, which embeds a row once: a source corpus's rows are the same for every domain."""

    def __init__(self) -> None:
        self._encoder = load_encoder(PINNED, PINNED_SHA256)
        self._known: dict[str, np.ndarray] = {}

    def encode(self, rows: Sequence[str]) -> np.ndarray:
        new = list(dict.fromkeys(row for row in rows if row not in self._known))
        self._known.update(zip(new, encode(self._encoder, new, BATCH_ROWS), strict=True))
        return np.stack([self._known[row] for row in rows])

    def count_truncated(self, rows: Sequence[str]) -> int:
        return count_truncated(self._encoder, rows)


def _append(out: Path, row: Mapping[str, Any]) -> None:
    fresh = not out.is_file()
    with out.open("a", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        if fresh:
            table.writerow(row)
        table.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in row.values())


# --- validating


def validate(cells: Sequence[Cell]) -> pd.DataFrame:
    """Every cell's outcome beside what was forecast for it from the other domains, by the advisor and by other rules.

    A rule gives a probability of getting worse (p), and where it has one an interval (low, high).
    """
    rows = []
    for domain in dict.fromkeys(cell["domain"] for cell in cells):
        own = [cell for cell in cells if cell["domain"] == domain]
        others = [cell for cell in cells if cell["domain"] != domain]
        rules = {rule: forecasts.fit(others, names) for rule, names in FORMS.items()}
        worse = float(np.mean([cell["outcome"] > 0 for cell in others]))
        for cell in own:
            row = {key: cell[key] for key in (*SUBJECT, "outcome")} | {"seed": int(cell["seed"])}
            row |= _advisor(cell, others)
            for rule, fitted in rules.items():
                row |= {f"{rule}/{key}": value for key, value in _fitted(fitted, cell).items()}
            row |= {"always/expected": -1.0, "always/p": worse, "probe/expected": cell["change"]}
            row |= {"probe/low": cell["change_low"], "probe/high": cell["change_high"]}
            like = forecasts.precedents(cell, others)
            row |= {"precedents/so_far": like.so_far, "precedents/verdict": like.verdict(CONFIDENCE)}
            rows.append(row)
    return pd.DataFrame(rows)


def _advisor(cell: Cell, others: Sequence[Cell]) -> dict[str, Any]:
    found = forecasts.forecast(cell, others, CONFIDENCE)
    low, high = found.interval
    row = {"expected": found.change, "low": low, "high": high, "p": found.p_worse, "verdict": found.verdict}
    return {f"advisor/{key}": value for key, value in row.items()} | {"advisor/outside": "; ".join(found.outside)}


def _fitted(fitted: Fit, cell: Cell) -> dict[str, float]:
    low, high = fitted.interval(cell, CONFIDENCE)
    return {"expected": fitted.predict(cell), "low": low, "high": high, "p": fitted.p_worse(cell)}


def main(arguments: Sequence[str]) -> None:
    """Measure what is missing, validate, write."""
    results = {}
    for argument in arguments:
        seed, _, folder = argument.partition("=")
        if not seed.isdigit() or not Path(folder, "evaluate").is_dir():
            raise OdysseyError(f"'{argument}': give <seed>=<folder of the mini-study's results>")
        results[int(seed)] = Path(folder)
    measure(results, CALIBRATION)
    calibration.cache_clear()
    cells = calibration()
    table = validate(cells)
    table.to_csv(HERE / "advisor.csv", index=False, float_format="%.4f", lineterminator="\n")
    text = report(table, "python benchmarks/advisor.py " + " ".join(f"{seed}=..." for seed in results))
    (HERE / "advisor.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
