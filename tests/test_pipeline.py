"""The whole pipeline on a tiny study, as users run it: real stages, DVC and MLflow, in a copy of the project.

Run by `make smoke`. The tests share one copy and stand in the order in which they use it.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import Project

pytestmark = pytest.mark.slow

MODELS = ["one", "two"]
DOMAINS = ["click", "jinja2", "sympy.logic", "networkx.utils"]
ADDED = "sympy.sets"
CELL_FILES = {
    "adapt": ["config.json", "curves.csv", "loss.csv", "model.safetensors", "tokenizer.json"],
    "evaluate": ["adapted.npy", "scores.json", "token_ids.npy", "units.npy", "zero_shot.npy"],
    "tokens": ["summary.json", "test.csv", "train.csv", "vocabulary.csv"],
    "joins": ["documents.csv", "joins.csv"],
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The tiny study after one `dvc repro`."""
    folder = tmp_path_factory.mktemp("pipeline") / "project"
    copy = Project(folder, "smoke", {"smoke": Path(__file__).with_name("smoke.yaml")}, HF_HUB_OFFLINE="1")
    copy.run("dvc", "repro")
    yield copy
    shutil.rmtree(folder.parent, ignore_errors=True)


def cells(study: Project) -> dict[str, int]:
    """When each file of each cell was written, in ns."""
    files = study.files(*(f"smoke/{stage}" for stage in CELL_FILES))
    # A cell is stage/model/domain; what lies above is a stage's own.
    return {name: path.stat().st_mtime_ns for name, path in files.items() if name.count("/") > 3}


def test_every_result_is_there(study: Project) -> None:
    data = study.folder / "data" / "smoke"
    for model in MODELS:
        assert (data / "pretrain" / model / "model.safetensors").is_file()
        for domain in DOMAINS:
            for stage, files in CELL_FILES.items():
                held = {path.name for path in (data / stage / model / domain).iterdir()}
                assert {*files, "manifest.json"} <= held
    rows = list(csv.DictReader((data / "similarity" / "similarity.csv").open(encoding="utf-8")))
    assert [row["domain"] for row in rows] == DOMAINS
    claims = list(csv.DictReader((data / "claims" / "claims.csv").open(encoding="utf-8")))
    assert {row["verdict"] for row in claims} <= {"holds", "does not hold", "not testable here"}
    assert len(list(csv.DictReader((data / "claims" / "joins.csv").open(encoding="utf-8")))) == 2 * 4 * 9
    assert (data / "report" / "report.html").is_file()
    assert json.loads((data / "report" / "metrics.json").read_text(encoding="utf-8"))
    figures = list((data / "report" / "figures").iterdir())
    assert {path.suffix for path in figures} == {".svg"}
    assert {path.stem for path in figures} == {path.stem for path in (data / "report" / "png").iterdir()}


def test_evaluation_agrees_with_the_command_for_anyones_text(study: Project) -> None:
    import pyarrow.parquet

    text = study.folder.with_name("test.txt")
    table = pyarrow.parquet.read_table(study.folder / "data/smoke/sample/domains/click/test.parquet")
    text.write_text("\n".join(table["text"].to_pylist()), encoding="utf-8")
    said = study.run(
        *("python", "-m", "odyssey", "perplexity"),
        *("--model", "data/smoke/adapt/one/click", "--text", str(text), "--json"),
    )
    score = json.loads(said.splitlines()[-1])
    stored = json.loads((study.folder / "data/smoke/evaluate/one/click/scores.json").read_text(encoding="utf-8"))[
        "adapted"
    ]
    assert score["tokens"] == stored["tokens"]
    assert score["bytes"] == stored["bytes"]
    assert score["nll_sum"] == pytest.approx(stored["nll_sum"], rel=1e-5)


def test_the_headline_names_every_domain(study: Project) -> None:
    said = study.run("python", "-m", "odyssey", "headline")
    assert all(said.count(domain) >= len(MODELS) for domain in DOMAINS)


def test_git_sees_only_the_lock_file(study: Project) -> None:
    assert study.changed() == ["?? dvc.lock"]


def test_each_cell_and_the_study_have_one_run(study: Project) -> None:
    runs = study.runs("smoke")
    assert len(runs) == len(MODELS) * len(DOMAINS) + 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    cells = [(run.data.tags["model"], run.data.tags["domain"]) for run in runs if "domain" in run.data.tags]
    assert sorted(cells) == sorted((model, domain) for model in MODELS for domain in DOMAINS)


def test_a_second_repro_runs_no_stage_and_publishing_again_adds_no_run(study: Project) -> None:
    lock = (study.folder / "dvc.lock").read_bytes()
    said = study.run("dvc", "repro")
    assert "Running stage" not in said
    assert "up to date" in said
    assert (study.folder / "dvc.lock").read_bytes() == lock
    before = {run.info.run_id for run in study.runs("smoke")}
    study.run("python", "-m", "odyssey", "track")
    assert {run.info.run_id for run in study.runs("smoke")} == before


def test_results_come_back_from_the_remote(study: Project) -> None:
    study.run("dvc", "push")
    before = (study.folder / "data/smoke/report/metrics.json").read_bytes()
    for name in ("report", "adapt", "sample"):
        shutil.rmtree(study.folder / "data" / "smoke" / name)
    shutil.rmtree(study.folder / ".dvc" / "cache")
    study.run("dvc", "pull")
    assert (study.folder / "data/smoke/report/metrics.json").read_bytes() == before
    assert "Running stage" not in study.run("dvc", "repro")


def test_metrics_and_plots_are_shown(study: Project) -> None:
    shown = json.loads(study.run("dvc", "metrics", "show", "--json"))
    assert set(MODELS) <= set(shown[""]["data"]["data/smoke/report/metrics.json"]["data"])
    plots = json.loads(study.run("dvc", "plots", "show", "--json"))
    assert not plots.get("errors")
    assert plots["data"]


def test_a_cell_is_made_by_mlflow_run(study: Project) -> None:
    shutil.rmtree(study.folder / "data/smoke/adapt/one/click")
    kept = cells(study)
    options = ["--env-manager", "local", "-P", "model=one", "-P", "domain=click"]
    for entry in ("adapt", "evaluate"):
        study.run("mlflow", "run", ".", "-e", entry, *options)
    now = cells(study)
    assert {name for name in now if now[name] != kept.get(name)} == {
        f"smoke/adapt/one/click/{path.name}" for path in (study.folder / "data/smoke/adapt/one/click").iterdir()
    }
    assert [run.info.status for run in study.runs("Default")] == ["FINISHED", "FINISHED"]


def test_the_study_is_made_by_mlflow_run(study: Project) -> None:
    before = {run.info.run_id for run in study.runs("smoke")}
    # The cell made again has the same bytes, so DVC has nothing to do.
    assert "Running stage" not in study.run("mlflow", "run", ".", "--env-manager", "local")
    assert {run.info.run_id for run in study.runs("smoke")} == before
    assert {run.info.status for run in study.runs("Default")} == {"FINISHED"}


def test_a_new_domain_costs_its_own_cells(study: Project) -> None:
    kept = cells(study)
    file = study.folder / "studies" / "smoke.yaml"
    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    content["domains"][ADDED] = {"corpus": "docstrings", "portion": "science", "modules": [ADDED]}
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    said = study.run("dvc", "repro")
    assert "Running stage 'pretrain@smoke'" not in said
    now = cells(study)
    assert {name: now[name] for name in kept} == kept
    assert {name.split("/")[3] for name in now.keys() - kept.keys()} == {ADDED}
    published = [run for run in study.runs("smoke") if run.data.tags.get("domain") == ADDED]
    assert len(published) == len(MODELS)
