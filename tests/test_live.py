"""A cell's run while its model trains: on a real MLflow store, with the real stage where it matters."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from published import CELL, CELLS, fill, made_from, runs, study, train

from odyssey.cell_results import CURVE_METRICS, TRAINED, trained
from odyssey.tracking import live, publication
from odyssey.tracking.live import Live
from odyssey.tracking.runs import DIGEST
from odyssey.tracking.views import CURRENT

if TYPE_CHECKING:
    from mlflow import MlflowClient

pytestmark = pytest.mark.usefixtures("store")


def test_curves_are_there_before_the_cell_is_finished(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "INTERVAL", math.inf)
    settings, layout = study("growing"), fill(tmp_path, study("any"))
    with Live(settings)(*CELL, made_from(layout)) as curves:
        curves.point(0, [3.0, 2.0, 1.0])
        (run,) = runs(client, "growing")
        assert run.info.status == "RUNNING"
        assert (run.info.run_name, run.data.tags["portion"], run.data.tags[CURRENT]) == (
            "tiny mpmath",
            "science",
            "yes",
        )
        assert run.data.metrics == {"nll/train_start": 3.0, "nll/valid": 2.0, "nll/test": 1.0}
        assert run.data.params["adapt.epochs"] == "1"
        curves.step(1, 2.5, 1e-3)  # within the interval since the last request: sent with a later one
        assert "nll/train" not in client.get_run(run.info.run_id).data.metrics
    (run,) = runs(client, "growing")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["nll/train"] == 2.5


def test_publication_completes_the_run(client: MlflowClient, tmp_path: Path) -> None:
    settings, layout = study("completed"), fill(tmp_path, study("any"))
    train(settings, layout)
    (trained_run,) = runs(client, "completed")
    before = {key: client.get_metric_history(trained_run.info.run_id, key) for key in CURVE_METRICS}
    publication.publish(settings, layout)
    same = client.get_run(trained_run.info.run_id)
    assert same.info.status == "FINISHED"
    assert same.info.end_time == trained_run.info.end_time
    assert {"Change", "FD", "PPL adapted"} <= same.data.metrics.keys()
    assert same.data.tags[TRAINED] == trained(*CELL, made_from(layout))
    # Once each, although the files hold them too.
    assert {key: client.get_metric_history(trained_run.info.run_id, key) for key in CURVE_METRICS} == before
    assert len(before["nll/test"]) == settings.adapt.curve_points
    found = runs(client, "completed")
    assert sorted(run.info.run_name for run in found).count("tiny mpmath") == 1
    assert sorted(run.data.tags[CURRENT] for run in found) == ["summary", *["yes"] * len(CELLS)]
    publication.publish(settings, layout)
    assert len(runs(client, "completed")) == len(found)


def test_what_was_published_before_is_not_there_twice_after_training_again(
    client: MlflowClient, tmp_path: Path
) -> None:
    settings, layout = study("again"), fill(tmp_path, study("any"))
    publication.publish(settings, layout)
    found = {run.info.run_id for run in runs(client, "again")}
    train(settings, layout)
    assert len(runs(client, "again")) == len(found) + 1
    publication.publish(settings, layout)
    assert {run.info.run_id for run in runs(client, "again")} == found


def test_a_killed_training_leaves_one_run_once_it_is_made_again(client: MlflowClient, tmp_path: Path) -> None:
    settings, layout = study("killed early"), fill(tmp_path, study("any"))
    with pytest.raises(KeyboardInterrupt):
        train(settings, layout, upto=2)
    (run,) = runs(client, "killed early")
    assert run.info.status == "KILLED"
    assert len(client.get_metric_history(run.info.run_id, "nll/train")) == 2
    train(settings, layout)
    (run,) = runs(client, "killed early")
    assert run.info.status == "FINISHED"
    assert DIGEST not in run.data.tags


def test_a_store_that_fails_does_not_stop_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = fill(tmp_path, study("any"))
    (tmp_path / "text.db").write_text("not a database " * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'text.db'}")
    watch = Live(study("unheard"))
    for _ in range(2):
        with watch(*CELL, made_from(layout)) as curves:
            curves.point(0, [3.0, 2.0, 1.0])
    said = capsys.readouterr().err
    assert said.count("no live curves") == 1
    assert "text.db" in said


def test_under_mlflow_run_its_run_gets_the_curves(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, layout = study("entry"), fill(tmp_path, study("any"))
    parent = client.create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", parent.info.run_id)
    train(settings, layout)
    run = client.get_run(parent.info.run_id)
    assert run.info.status == "RUNNING"  # it is for `mlflow run` to finish
    assert runs(client, "entry") == []
    publication.log_entry_point(settings, layout, *CELL)
    assert len(client.get_metric_history(parent.info.run_id, "nll/test")) == settings.adapt.curve_points
    # A stage of DVC's is none of that run's business.
    monkeypatch.setenv("DVC_STAGE", "adapt@mini")
    monkeypatch.setenv("DVC_ROOT", str(Path.cwd()))
    train(settings, layout)
    assert len(runs(client, "entry")) == 1
