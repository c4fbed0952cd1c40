"""A tracking server of its own does what the local file does: publication, live curves, evidence, restoring."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from published import CELL, CELLS, fill, made_from, study, train

from odyssey.records import settings_digest
from odyssey.tracking import publication, serving, views
from odyssey.tracking.live import Live

if TYPE_CHECKING:
    from mlflow.entities import Run

pytestmark = pytest.mark.slow


def held(uri: str, name: str) -> dict[str, Any]:
    """All that a store holds of an experiment, by run, but for ids and times."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None

    def files(run: Run, path: str | None = None) -> Iterator[str]:
        for entry in client.list_artifacts(run.info.run_id, path):
            if entry.is_dir:
                yield from files(run, entry.path)
            else:
                yield entry.path

    # Descriptions link runs by their ids.
    own = ("mlflow.user", "mlflow.note.content", "odyssey.note", "mlflow.artifactLocation")
    return {
        run.info.run_name: {
            "status": run.info.status,
            "metrics": run.data.metrics,
            "curve": [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "nll/test")],
            "params": run.data.params,
            "tags": {key: value for key, value in run.data.tags.items() if key not in own},
            "data": sorted(i.dataset.digest for i in (run.inputs.dataset_inputs if run.inputs else ())),
            "files": sorted(files(run)),
        }
        for run in client.search_runs([experiment.experiment_id])
    }


def test_a_server_holds_what_the_file_holds(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    settings, layout = study("remote"), fill(tmp_path, study("any"))
    found = []
    for uri in (f"sqlite:///{tmp_path / 'local.db'}", server):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        outcome = publication.publish(settings, layout)
        assert (outcome["new"], outcome["kept"], outcome["tracking_uri"]) == (len(CELLS) + 1, 0, uri)
        assert publication.publish(settings, layout)["new"] == 0
        found.append(held(uri, "remote"))
    assert found[0] == found[1]
    assert {"tokens/test.json", "results/scores.json"} <= set(found[1]["tiny mpmath"]["files"])
    (path,) = publication.evidence("remote", settings_digest(settings), tmp_path)
    assert path.read_bytes() == (layout.claims / "evidence.csv").read_bytes()
    # Of its pages only the address is printed, and no password.
    experiment = MlflowClient(server).get_experiment_by_name("remote")
    assert experiment is not None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.replace("://", "://me:secret@"))
    capsys.readouterr()
    serving.serve(settings, 5000)
    assert capsys.readouterr().out == f"The study's runs: {server}{views.page(experiment.experiment_id)}\n"


def test_a_table_on_a_server_is_one_that_mlflow_reads(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    settings, layout = study("tables"), fill(tmp_path, study("any"))
    publication.publish(settings, layout)
    client = MlflowClient(server)
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", server)  # what load_table asks
    experiment = client.get_experiment_by_name("tables")
    assert experiment is not None
    table = client.load_table(experiment.experiment_id, "tokens/test.json", extra_columns=["run_id"])
    assert set(table["run_id"]) == {
        run.info.run_id for run in client.search_runs([experiment.experiment_id]) if "model" in run.data.tags
    }
    for _, own in table.groupby("run_id"):
        assert own["contribution"].is_monotonic_decreasing


def test_curves_grow_on_a_server(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    settings, layout = study("growing"), fill(tmp_path, study("any"))
    client = MlflowClient(server)
    with Live(settings)(*CELL, made_from(layout)) as curves:
        curves.point(0, [3.0, 2.0, 1.0])
        experiment = client.get_experiment_by_name("growing")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id])
        assert (run.info.status, run.data.metrics["nll/test"]) == ("RUNNING", 1.0)
    train(settings, layout)
    publication.publish(settings, layout)
    found = client.search_runs([experiment.experiment_id])
    assert len(found) == len(CELLS) + 1
    assert {run.info.status for run in found} == {"FINISHED"}
