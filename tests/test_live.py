"""A cell's run while its model trains: on a real MLflow store, with the real stage where it matters."""

from __future__ import annotations

import fcntl
import math
import os
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from published import CELL, CELLS, fill, made_from, runs, study, train

from odyssey.cell_results import CURVE_METRICS, TRAINED, trained
from odyssey.errors import OdysseyError
from odyssey.tracking import connection, live, publication
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


# --- training that goes on where it was interrupted


def steps(client: MlflowClient, run_id: str, key: str) -> list[int]:
    return [point.step for point in client.get_metric_history(run_id, key)]


def test_training_that_goes_on_tells_all_of_its_curves_once(client: MlflowClient, tmp_path: Path) -> None:
    settings, layout = study("going on"), fill(tmp_path, study("any"))
    with pytest.raises(KeyboardInterrupt):
        train(settings, layout, upto=2)
    with Live(settings)(*CELL, made_from(layout)) as curves:
        for step in range(1, 1201):  # at once, as those from before the interruption are
            curves.step(step, 2.5, 1e-3)
    (run,) = runs(client, "going on")
    assert run.info.status == "FINISHED"
    assert sorted(steps(client, run.info.run_id, "nll/train")) == list(range(1, 1201))


def test_the_run_of_mlflow_run_gets_no_step_twice_and_all_in_the_end(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, layout = study("any"), fill(tmp_path, study("any"))
    parent = client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", parent)
    with pytest.raises(KeyboardInterrupt):
        train(settings, layout, upto=2)
    assert steps(client, parent, "nll/train") == [1, 2]
    with pytest.raises(KeyboardInterrupt):
        train(settings, layout, upto=4)
    assert sorted(steps(client, parent, "nll/train")) == [1, 2, 3, 4]
    # The store was gone when the rest was told.
    publication.log_entry_point(settings, layout, *CELL)
    assert sorted(steps(client, parent, "nll/train")) == [1, 2, 3, 4, 5]
    assert len(steps(client, parent, "nll/test")) == settings.adapt.curve_points
    publication.log_entry_point(settings, layout, *CELL)
    assert len(steps(client, parent, "nll/train")) == 5
    assert len(steps(client, parent, "Change")) == 1


# --- stores that fail


def test_a_completion_killed_at_its_first_request_is_made_again(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient as Class

    settings, layout = study("half"), fill(tmp_path, study("any"))
    train(settings, layout)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for request in ("update_run", "set_tag", "log_batch"):
        with monkeypatch.context() as patch:
            patch.setattr(Class, request, die)
            with pytest.raises(KeyboardInterrupt):
                publication.publish(settings, layout)
    publication.publish(settings, layout)
    found = runs(client, "half")
    assert len(found) == len(CELLS) + 1
    assert all("Change" in run.data.metrics for run in found if "domain" in run.data.tags)
    assert {run.info.status for run in found} == {"FINISHED"}


def test_a_store_that_another_command_uses_is_tried_again_later(
    store: Path,
    client: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings, layout = study("in use"), fill(tmp_path, study("any"))
    monkeypatch.setattr(live, "PATIENCE", 0.2)
    watch = Live(settings)
    with (store / "mlflow.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        begun = time.monotonic()
        for _ in range(3):
            with watch(*CELL, made_from(layout)) as curves:
                curves.step(1, 2.5, 1e-3)
        assert time.monotonic() - begun < 2
    assert capsys.readouterr().err.count("another command uses sqlite:///mlflow.db") == 1
    assert runs(client, "in use") == []
    monkeypatch.setattr(watch, "_next_try", time.monotonic())
    with watch(*CELL, made_from(layout)) as curves:
        curves.step(1, 2.5, 1e-3)
    (run,) = runs(client, "in use")
    assert (run.info.status, steps(client, run.info.run_id, "nll/train")) == ("FINISHED", [1])


def test_a_store_locked_by_another_program_is_named_and_waited_for_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "held.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
    monkeypatch.setattr(connection, "FIRST_ANSWER", 0.2)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("CREATE TABLE theirs (x)")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OdysseyError, match=r"held\.db: locked by another program for 0\.2 s"):
            publication.publish(study("any"), fill(tmp_path, study("any")))


def test_a_server_that_accepts_and_never_answers_costs_its_patience_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, layout = study("deaf"), fill(tmp_path, study("any"))
    monkeypatch.setattr(live, "PATIENCE", 1.0)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        watch, begun = Live(settings), time.monotonic()
        for _ in range(2):
            with watch(*CELL, made_from(layout)) as curves:
                curves.point(0, [3.0, 2.0, 1.0])
        assert 0.9 < time.monotonic() - begun < 3
    assert capsys.readouterr().err.count("not usable as an MLflow store") == 1
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ
