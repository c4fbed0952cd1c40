"""Runs of an experiment: found again, and filled with what a record holds, in few requests."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from odyssey.cell_results import CURVE_METRICS
from odyssey.record import Metric, Record
from odyssey.state import DIFF, UNKNOWN, State

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DIGEST = "odyssey.digest"
"""Tag by which a published run is found again."""
MOST, MOST_PARAMS = 1000, 100
"""Metrics, parameters and tags of one request, and parameters among them; MLflow's REST API takes no more."""
TABLES = "mlflow.loggedArtifacts"
"""Tag by which MLflow's UI finds tables; its `log_table` sets it too, with five requests a table."""
PROVENANCE = "provenance"
"""Folder of a run's artifacts that says what state of the project it is of."""


def all_runs(client: MlflowClient, experiment: str) -> Iterator[Run]:
    """The experiment's runs, newest first."""
    token = None
    while True:
        page = client.search_runs([experiment], max_results=MOST, page_token=token)
        yield from page
        if not (token := page.token):
            return


def create(client: MlflowClient, experiment: str, record: Record, tags: dict[str, str], state: State) -> str:
    """Publish a record as a new run; returns its id.

    The tags come with the run's creation, so that a run that is never finished is recognised.
    """
    run_id = str(client.create_run(experiment, run_name=record.name, tags=tags).info.run_id)
    fill(client, run_id, record, state)
    client.set_terminated(run_id, "FINISHED")
    return run_id


def fill(
    client: MlflowClient,
    run_id: str,
    record: Record,
    state: State,
    without: Collection[str] = (),
) -> None:
    """Give a run its content, but for the metrics `without`."""
    told = {**record.tags, **state_tags(state)}
    if record.tables:
        told[TABLES] = json.dumps([{"path": name, "type": "table"} for name in record.tables])
    metrics = [metric for metric in record.metrics if metric.key not in without]
    log(client, run_id, params=record.params, metrics=metrics, tags=told)
    _log_data(client, run_id, record)
    _log_files(client, run_id, record, state)


def log(
    client: MlflowClient,
    run_id: str,
    *,
    params: Mapping[str, str] | None = None,
    metrics: Sequence[Metric] = (),
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log parameters, metrics and tags in as few requests as there may be, the metrics in their order."""
    from mlflow.entities import Metric as MlflowMetric
    from mlflow.entities import Param, RunTag

    now = int(time.time() * 1000)
    values = deque(MlflowMetric(metric.key, metric.value, now, metric.step) for metric in metrics)
    given = deque(Param(key, value) for key, value in (params or {}).items())
    told = [RunTag(key, value) for key, value in (tags or {}).items()]
    while values or given or told:
        # Of the 1000 that a request may hold, all together.
        some = [given.popleft() for _ in range(min(MOST_PARAMS, len(given)))]
        room = MOST - len(some) - len(told)
        batch = [values.popleft() for _ in range(min(room, len(values)))]
        client.log_batch(run_id, metrics=batch, params=some, tags=told)
        told = []


def points(client: MlflowClient, run_id: str) -> set[tuple[str, int]]:
    """The metrics that a run has, by name and step."""
    held = client.get_run(run_id).data.metrics
    curves = [name for name in CURVE_METRICS if name in held]
    found = {(name, point.step) for name in curves for point in client.get_metric_history(run_id, name)}
    return found | {(name, 0) for name in held if name not in curves}


def state_tags(state: State) -> dict[str, str]:
    """A run's tags of the commit; MLflow's own name is the one that its UI links and shows as the version."""
    tags = {"git_commit": state.commit, "git_dirty": str(state.dirty).lower()}
    return tags if state.commit == UNKNOWN else {**tags, "mlflow.source.git.commit": state.commit}


def _log_data(client: MlflowClient, run_id: str, record: Record) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(
            Dataset(
                name=data.name,
                digest=data.md5,
                source_type="local",
                source=json.dumps({"uri": data.path.as_posix()}),
                profile=json.dumps(data.counts),
            ),
            [InputTag("mlflow.data.context", data.context)],
        )
        for data in record.data
    ]
    if inputs:
        client.log_inputs(run_id, datasets=inputs)


def _log_files(client: MlflowClient, run_id: str, record: Record, state: State) -> None:
    enclosed = {f"{PROVENANCE}/{name}": path for name, path in state.files.items()}
    with tempfile.TemporaryDirectory() as folder:
        for name, path in {**record.files, **record.enclosed, **enclosed}.items():
            shutil.copyfile(path, _place(folder, name))
        for name, text in record.texts.items():
            _place(folder, name).write_text(text, encoding="utf-8")
        for name, table in record.tables.items():
            table.to_json(_place(folder, name), orient="split", index=False)
        if state.diff:
            _place(folder, f"{PROVENANCE}/{DIFF}").write_bytes(state.diff)
        client.log_artifacts(run_id, folder)


def _place(folder: str, name: str) -> Path:
    path = Path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
