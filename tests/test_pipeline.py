"""The whole pipeline on a tiny study, as users run it: real stages, DVC and MLflow, in a copy of the project.

Run by `make smoke`. The tests share one copy and stand in the order in which they use it.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from mlflow.entities import Run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
MODELS = ["one", "two"]
DOMAINS = ["click", "jinja2", "sympy.logic", "networkx.utils"]
ADDED = "sympy.sets"
CELL_FILES = {
    "adapt": ["config.json", "curves.csv", "loss.csv", "model.safetensors", "tokenizer.json"],
    "evaluate": ["adapted.npy", "scores.json", "token_ids.npy", "zero_shot.npy"],
    "tokens": ["summary.json", "test.csv", "train.csv"],
}


class Study:
    """A copy of the project with the tiny study as its params.yaml."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_"))}
        self.environment = {
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HF_HUB_OFFLINE": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DVC_SITE_CACHE_DIR": str(folder.with_name("site")),
        }

    def run(self, *command: str) -> str:
        """Run a command in the copy, show what it says as it goes, and return that."""
        print("\n$", *command, flush=True)
        said = []
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line)
                print(line, end="", flush=True)
        assert process.returncode == 0, f"{' '.join(command)}: exit status {process.returncode}"
        return "".join(said)

    def changed(self) -> list[str]:
        """What git sees as changed."""
        return self.run("git", "status", "--porcelain").split("\n")[:-1]

    def cells(self) -> dict[str, int]:
        """When each file of each cell was written, in ns."""
        files = (path for stage in CELL_FILES for path in (self.folder / "data" / stage).rglob("*") if path.is_file())
        return {path.relative_to(self.folder / "data").as_posix(): path.stat().st_mtime_ns for path in files}

    def runs(self, experiment: str = "smoke") -> list[Run]:
        """Runs of an experiment in the copy's store."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        found = client.get_experiment_by_name(experiment)
        return list(client.search_runs([found.experiment_id])) if found else []


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """The tiny study after one `dvc repro`."""
    folder = tmp_path_factory.mktemp("pipeline") / "project"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in {name for name in names if name and name != "dvc.lock" and (ROOT / name).is_file()}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    shutil.copy(Path(__file__).with_name("smoke.yaml"), folder / "params.yaml")
    copy = Study(folder)
    copy.run("git", "init", "--quiet")
    copy.run("git", "add", "--all")
    copy.run("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "-m", "copy")
    copy.run("dvc", "repro")
    yield copy
    shutil.rmtree(folder.parent, ignore_errors=True)


def test_every_result_is_there(study: Study) -> None:
    data = study.folder / "data"
    for model in MODELS:
        assert (data / "pretrain" / model / "model.safetensors").is_file()
        for domain in DOMAINS:
            for stage, files in CELL_FILES.items():
                held = {path.name for path in (data / stage / model / domain).iterdir()}
                assert {*files, "manifest.json"} <= held
    rows = list(csv.DictReader((data / "similarity" / "similarity.csv").open(encoding="utf-8")))
    assert [row["domain"] for row in rows] == DOMAINS
    assert (data / "report" / "report.html").is_file()
    assert json.loads((data / "report" / "metrics.json").read_text(encoding="utf-8"))
    figures = list((data / "report" / "figures").iterdir())
    assert {path.suffix for path in figures} == {".png", ".svg"}


def test_evaluation_agrees_with_the_command_for_anyones_text(study: Study) -> None:
    import pyarrow.parquet

    text = study.folder.with_name("test.txt")
    table = pyarrow.parquet.read_table(study.folder / "data/sample/domains/click/test.parquet")
    text.write_text("\n".join(table["text"].to_pylist()), encoding="utf-8")
    said = study.run(
        *("python", "-m", "odyssey", "perplexity"),
        *("--model", "data/adapt/one/click", "--text", str(text), "--json"),
    )
    score = json.loads(said.splitlines()[-1])
    stored = json.loads((study.folder / "data/evaluate/one/click/scores.json").read_text(encoding="utf-8"))["adapted"]
    assert score["tokens"] == stored["tokens"]
    assert score["bytes"] == stored["bytes"]
    assert score["nll_sum"] == pytest.approx(stored["nll_sum"], rel=1e-5)


def test_the_headline_names_every_domain(study: Study) -> None:
    said = study.run("python", "-m", "odyssey", "headline")
    assert all(said.count(domain) >= len(MODELS) for domain in DOMAINS)


def test_git_sees_only_the_lock_file(study: Study) -> None:
    assert study.changed() == ["?? dvc.lock"]


def test_each_cell_and_the_study_have_one_run(study: Study) -> None:
    runs = study.runs()
    assert len(runs) == len(MODELS) * len(DOMAINS) + 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    cells = [(run.data.tags["model"], run.data.tags["domain"]) for run in runs if "domain" in run.data.tags]
    assert sorted(cells) == sorted((model, domain) for model in MODELS for domain in DOMAINS)


def test_a_second_repro_runs_no_stage_and_publishing_again_adds_no_run(study: Study) -> None:
    lock = (study.folder / "dvc.lock").read_bytes()
    said = study.run("dvc", "repro")
    assert "Running stage" not in said
    assert "up to date" in said
    assert (study.folder / "dvc.lock").read_bytes() == lock
    before = {run.info.run_id for run in study.runs()}
    study.run("python", "-m", "odyssey", "track")
    assert {run.info.run_id for run in study.runs()} == before


def test_results_come_back_from_the_remote(study: Study) -> None:
    study.run("dvc", "push")
    before = (study.folder / "data/report/metrics.json").read_bytes()
    for name in ("report", "adapt", "sample"):
        shutil.rmtree(study.folder / "data" / name)
    shutil.rmtree(study.folder / ".dvc" / "cache")
    study.run("dvc", "pull")
    assert (study.folder / "data/report/metrics.json").read_bytes() == before
    assert "Running stage" not in study.run("dvc", "repro")


def test_metrics_and_plots_are_shown(study: Study) -> None:
    shown = json.loads(study.run("dvc", "metrics", "show", "--json"))
    assert set(MODELS) <= set(shown[""]["data"]["data/report/metrics.json"]["data"])
    plots = json.loads(study.run("dvc", "plots", "show", "--json"))
    assert not plots.get("errors")
    assert plots["data"]


def test_a_cell_is_made_by_mlflow_run(study: Study) -> None:
    shutil.rmtree(study.folder / "data/adapt/one/click")
    kept = study.cells()
    options = ["--env-manager", "local", "-P", "model=one", "-P", "domain=click"]
    for entry in ("adapt", "evaluate"):
        study.run("mlflow", "run", ".", "-e", entry, *options)
    now = study.cells()
    assert {name for name in now if now[name] != kept.get(name)} == {
        f"adapt/one/click/{path.name}" for path in (study.folder / "data/adapt/one/click").iterdir()
    }
    assert [run.info.status for run in study.runs("Default")] == ["FINISHED", "FINISHED"]


def test_the_study_is_made_by_mlflow_run(study: Study) -> None:
    before = {run.info.run_id for run in study.runs()}
    # The cell made again has the same bytes, so DVC has nothing to do.
    assert "Running stage" not in study.run("mlflow", "run", ".", "--env-manager", "local")
    assert {run.info.run_id for run in study.runs()} == before
    assert {run.info.status for run in study.runs("Default")} == {"FINISHED"}


def test_a_new_domain_costs_its_own_cells(study: Study) -> None:
    kept = study.cells()
    params: dict[str, Any] = yaml.safe_load((study.folder / "params.yaml").read_text(encoding="utf-8"))
    params["domains"][ADDED] = {"corpus": "docstrings", "portion": "science", "modules": [ADDED]}
    (study.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    said = study.run("dvc", "repro")
    assert "Running stage 'pretrain@one'" not in said
    now = study.cells()
    assert {name: now[name] for name in kept} == kept
    assert {name.split("/")[2] for name in now.keys() - kept.keys()} == {ADDED}
    published = [run for run in study.runs() if run.data.tags.get("domain") == ADDED]
    assert len(published) == len(MODELS)
