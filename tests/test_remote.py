"""A tracking server of its own does what the local file does: publication, live curves, evidence, restoring."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from test_tracking import CELLS, fill, study

from odyssey.records import settings_digest
from odyssey.tracking import publication

if TYPE_CHECKING:
    from mlflow.entities import Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an `mlflow server` that keeps runs in sqlite and serves artifacts."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        "--backend-store-uri",
        f"sqlite:///{folder / 'runs.db'}",
        "--artifacts-destination",
        str(folder / "kept"),
    ]
    options += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *options],
        cwd=folder,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                break
        except OSError:
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server did not come up"
            time.sleep(0.2)
    yield address
    process.terminate()
    process.wait(timeout=30)


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


def test_a_server_holds_what_the_file_holds(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    from test_live import CELL, made_from, train

    from odyssey.tracking.live import Live

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
