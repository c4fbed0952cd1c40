"""A small study of invented results, and what a store holds of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from conftest import ROOT
from results import QUICK, write_results

from odyssey.layout import Layout
from odyssey.record import read_rows
from odyssey.settings import Settings, load_settings
from odyssey.store import MANIFEST, new_folder, read_json, write_json
from odyssey.tracking.live import Live

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

LONG = "sentence_transformers"
CELLS = [(model, domain) for model in ("tiny", "small") for domain in ("mpmath", LONG)]
CELL = ("tiny", "mpmath")


def study(name: str) -> Settings:
    """The mini-study with two of its domains, under another name."""
    settings = load_settings(ROOT / "params.yaml", "mini").model_copy(update={"seed": 0, "claims": QUICK})
    domains = {domain: settings.domains[domain] for domain in ("mpmath", LONG)}
    return settings.model_copy(update={"study": name, "domains": domains, "adapt_to": list(domains)})


def fill(folder: Path, settings: Settings, seed: int = 0) -> Layout:
    """Invented results and a small report of them."""
    layout = Layout(folder / "data")
    write_results(settings, layout, seed)
    with new_folder(layout.report, {}) as new:
        (new / "tables").mkdir()
        (new / "figures").mkdir()
        rows = []
        cells = [(model, domain) for model, domain in CELLS if model in settings.models]
        for model, domain in cells:
            scores = read_json(layout.evaluated(model, domain) / "scores.json")
            before, after = (scores[key]["nll_sum"] for key in ("zero_shot", "adapted"))
            row = {"model": model, "domain": domain, "portion": settings.domains[domain].portion}
            ends = {"change_low": after - before - 1, "change_high": after - before + 1, "outcome": "within noise"}
            rows.append(
                {**row, "zero_shot": before, "adapted": after, "change": after - before, "mmd": 0.1, "fd": 0.2} | ends
            )
        pd.DataFrame(rows).to_csv(new / "tables" / "headline.csv", index=False)
        tokens = [{"model": m, "domain": d, "split": "test", "direction": "up", "token": "the"} for m, d in cells]
        pd.DataFrame(tokens).to_csv(new / "tables" / "top_tokens.csv", index=False)
        (new / "figures" / "figure1_tiny.svg").write_text('<svg width="9"/>')
        (new / "report.html").write_text("<p>the page</p>")
        write_json(new / "metrics.json", {"tiny": {"worse": {"software": 1}}})
    return layout


def runs(client: MlflowClient, name: str) -> list[Run]:
    experiment = client.get_experiment_by_name(name)
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def made_from(layout: Layout) -> dict[str, Any]:
    found: dict[str, Any] = read_json(layout.adapted(*CELL) / MANIFEST)["made_from"]
    return found


def train(settings: Settings, layout: Layout, upto: int | None = None) -> None:
    """Tell a live run what the cell's files say, as the stage would have, up to a step."""
    folder = layout.adapted(*CELL)
    with Live(settings)(*CELL, made_from(layout)) as curves:
        for row in read_rows(folder / "loss.csv"):
            curves.step(int(row["step"]), float(row["nll"]), float(row["learning_rate"]))
            if int(row["step"]) == upto:
                raise KeyboardInterrupt
        for row in read_rows(folder / "curves.csv"):
            curves.point(int(row["step"]), [float(row[name]) for name in ("train_start", "valid", "test")])
