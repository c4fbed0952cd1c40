"""Results into MLflow, from the pipeline's files; the one module that imports mlflow.

Nothing is logged while stages run: DVC skips stages, and MLflow's environment variables
would make every stage write into the run of `mlflow run`. Instead `publish` reads what the
stages left, so a study that is fully cached still gives complete runs.
"""

from __future__ import annotations

import base64
import fcntl
import json
import logging
import os
import shutil
import socket
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.progress import bar
from odyssey.provenance import git_state
from odyssey.record import Metric, Record, fit
from odyssey.records import SETTINGS, cell_record, finished_stages, summary_record
from odyssey.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric as MlflowMetric
    from mlflow.entities import Run

DIGEST = "odyssey.digest"
"""Tag by which a published run is found again."""
VIEW = "odyssey"
"""Key of the saved view that the UI opens with."""
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
VIEW_COLUMNS = {
    "tags.`model`": 70,
    "tags.`domain`": 110,
    "tags.`portion`": 80,
    "metrics.`perplexity/zero_shot`": 130,
    "metrics.`perplexity/adapted`": 130,
    "metrics.`perplexity/change`": 130,
    "metrics.`similarity/mmd`": 110,
    "metrics.`similarity/fd`": 110,
}
"""Columns of the view and their widths in pixels."""
ADVICE = "advice"
"""Experiment of what `odyssey advise` was asked."""
MOST_METRICS, MOST_PARAMS = 1000, 100
"""Of one request; MLflow's REST API takes no more."""


def publish(settings: Settings, layout: Layout) -> dict[str, Any]:
    """Bring the study's results into MLflow: a run for each (model, domain), and one summary run.

    A result that has been published is left alone, one that changed gets a new run beside
    the old, and a run that a killed publication left unfinished is made again.

    Returns the experiment's name, the store's address without credentials, each run's
    digest by name, and how many runs are `new` and `kept`. Raises OdysseyError if a result
    is absent or damaged, or if the store cannot be used.
    """
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        # Handed down by `mlflow run` through DVC: that run is not ours to write to.
        os.environ.pop(name, None)
    cells = [(model, domain) for model in settings.models for domain in settings.adapted]
    records = {f"{model}/{domain}": cell_record(settings, layout, model, domain) for model, domain in cells}
    records["summary"] = summary_record(settings, layout)
    digests = {key: record.digest() for key, record in records.items()}
    if (lock := Path("dvc.lock")).is_file():
        records["summary"].enclosed["dvc.lock"] = lock
    tags = _commit_tags()
    with _store() as client:
        experiment = _experiment(client, settings.study)
        finished = _finished(client, experiment)
        new = [key for key in records if digests[key] not in finished]
        for key in bar(new, "publish", unit="run") if new else ():
            _publish_run(client, experiment, records[key], {**tags, DIGEST: digests[key]})
        _save_view(client, experiment)
    return {
        "experiment": settings.study,
        "tracking_uri": _shown(_uri()),
        "runs": digests,
        "new": len(new),
        "kept": len(records) - len(new),
    }


def log_entry_point(settings: Settings, layout: Layout, model: str, domain: str) -> None:
    """Log a cell to the run that `mlflow run -e adapt|evaluate` started; outside of one, do nothing.

    Logs the results that are there, and of those what the run does not hold yet, so that
    an entry point of several commands may call it after each.
    """
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if not run_id or "DVC_STAGE" in os.environ:
        return
    record = cell_record(settings, layout, model, domain, finished_stages(settings, layout, model, domain))
    with _store() as client:
        held = client.get_run(run_id)
        record.metrics = [metric for metric in record.metrics if metric.key not in held.data.metrics]
        logged = held.data.tags.get("mlflow.loggedArtifacts", "[]")
        record.tables = {name: path for name, path in record.tables.items() if f'"{name}"' not in logged}
        _fill(client, run_id, record, _commit_tags())


def evidence(study: str, settings: str, folder: Path) -> list[Path]:
    """Download the evidence that was published of a study with these settings (their digest): one file a seed."""
    with _store() as client:
        experiment = client.get_experiment_by_name(study)
        found: dict[str, Run] = {}
        # Newest first.
        for run in _runs(client, experiment.experiment_id) if experiment else ():
            if run.info.status == "FINISHED" and run.data.tags.get(SETTINGS) == settings:
                found.setdefault(run.data.tags["seed"], run)
        paths = []
        for seed, run in found.items():
            (target := folder / f"seed{seed}").mkdir(parents=True)
            paths.append(Path(client.download_artifacts(run.info.run_id, "claims/evidence.csv", str(target))))
        return paths


def log_seeds(study: str, seeds: Sequence[int], files: Mapping[str, Path]) -> None:
    """Log what several seeds of a study say together, as a run beside theirs; the same again changes nothing."""
    name = f"{study} seeds {', '.join(map(str, seeds))}"
    record = Record(name=fit(name), tags={"study": study, "seeds": json.dumps(list(seeds))}, files=dict(files))
    with _store() as client:
        experiment = _experiment(client, study)
        if record.digest() not in _finished(client, experiment):
            _publish_run(client, experiment, record, {**_commit_tags(), DIGEST: record.digest()})


def log_advice(record: Record) -> str:
    """Log a piece of advice as a run of its own in the experiment "advice"; returns where it is.

    Asking again is another run: what a model is told about the same texts may change with the code.
    """
    with _store() as client:
        _publish_run(client, _experiment(client, ADVICE), record, _commit_tags())
    return f"{_shown(_uri())}, experiment '{ADVICE}', run '{record.name}'"


def serve(settings: Settings, port: int) -> None:
    """Print where the study's runs are and become the MLflow UI on 127.0.0.1, until interrupted.

    For a store that a server keeps already only the address is printed. Raises OdysseyError
    if nothing is published or the port is taken.
    """
    uri, database = _uri(), _database(_uri())
    nothing = OdysseyError(
        f"{_shown(uri)}: no study '{settings.study}' there yet; run `make reproduce` or `odyssey track` first"
    )
    if database is not None and not database.is_file():
        raise nothing
    with _store() as client:
        experiment = client.get_experiment_by_name(settings.study)
    if experiment is None:
        raise nothing
    page = f"/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"
    if uri.startswith("http"):
        print(f"The study's runs: {_shown(uri).rstrip('/')}{page}")
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise OdysseyError(f"port {port} cannot be used ({error}); choose another with --port") from None
    print(f"The study's runs, in some seconds and until Ctrl-C: http://127.0.0.1:{port}{page}", flush=True)
    options = ["--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *options])


@contextmanager
def _store() -> Iterator[MlflowClient]:
    """A client for the store, which it initialises; one process of this folder at a time.

    Processes that initialise one sqlite file together break it for good, and two that
    publish the same results together would publish them twice.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # A server that does not answer is reported after seconds, not after four minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    uri = _uri()
    lock = (_database(uri) or _root() / "mlflow.db").with_suffix(".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        import mlflow

        # How it makes its tables is of no interest on every first run.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        try:
            client = mlflow.MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise OdysseyError(
                f"{_shown(uri)}: not usable as an MLflow store ({reason}); correct MLFLOW_TRACKING_URI, or "
                "move a damaged file away and run `odyssey track`: all results are under data/"
            ) from None
        yield client


def _root() -> Path:
    """The project's folder; inside a DVC stage, DVC says which."""
    return Path(os.environ.get("DVC_ROOT") or ".").resolve()


def _uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_root() / 'mlflow.db'}"


def _database(uri: str) -> Path | None:
    """The file of an sqlite store."""
    return Path(uri.removeprefix("sqlite:///").split("?")[0]).resolve() if uri.startswith("sqlite:///") else None


def _shown(uri: str) -> str:
    """An address fit to print and keep: without credentials, and the same on every machine where possible."""
    database = _database(uri)
    if database is not None:
        return f"sqlite:///{database.relative_to(_root()) if database.is_relative_to(_root()) else database}"
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _commit_tags() -> dict[str, str]:
    commit, dirty = git_state(Path())
    tags = {"git_commit": commit, "git_dirty": str(dirty).lower()}
    # The second name is the one that the UI links and shows as the run's version.
    return tags if commit == "unknown" else {**tags, "mlflow.source.git.commit": commit}


def _experiment(client: MlflowClient, name: str) -> str:
    """Id of the study's experiment, made if it is not there."""
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage != "active":
        raise OdysseyError(
            f"experiment '{name}' is deleted; `mlflow experiments restore -x {found.experiment_id}` brings it back"
        )
    if found is not None:
        return str(found.experiment_id)
    database = _database(_uri())
    artifacts = (database.parent / "mlartifacts" / name).as_uri() if database else None
    return str(client.create_experiment(name, artifacts))


def _finished(client: MlflowClient, experiment: str) -> set[str]:
    """Digests that are published completely; what a killed publication left is deleted.

    Only called under the lock, so an unfinished run is nobody's work in progress.
    """
    digests = set()
    for run in _runs(client, experiment):
        if run.info.status == "FINISHED":
            digests.add(run.data.tags[DIGEST])
        else:
            client.delete_run(run.info.run_id)
    return digests


def _runs(client: MlflowClient, experiment: str) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs([experiment], f"tags.`{DIGEST}` != ''", max_results=MOST_METRICS, page_token=token)
        yield from page
        if not (token := page.token):
            return


def _publish_run(client: MlflowClient, experiment: str, record: Record, tags: dict[str, str]) -> None:
    # The digest comes with the run's creation, so that a run that is never finished is recognised.
    run_id = client.create_run(experiment, run_name=record.name, tags=tags).info.run_id
    _fill(client, run_id, record, tags)
    client.set_terminated(run_id, "FINISHED")


def _fill(client: MlflowClient, run_id: str, record: Record, tags: dict[str, str]) -> None:
    """Give a run its content, in few requests."""
    from mlflow.entities import Param, RunTag

    from odyssey.frames import read_frame

    params = [Param(key, value) for key, value in record.params.items()]
    for start in range(0, len(params), MOST_PARAMS):
        client.log_batch(run_id, params=params[start : start + MOST_PARAMS])
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in {**record.tags, **tags}.items()])
    metrics = _metrics(record.metrics)
    for start in range(0, len(metrics), MOST_METRICS):
        client.log_batch(run_id, metrics=metrics[start : start + MOST_METRICS])
    _log_data(client, run_id, record)
    _log_files(client, run_id, record)
    for name, path in record.tables.items():
        client.log_table(run_id, read_frame(path), name)


def _metrics(metrics: Sequence[Metric]) -> list[MlflowMetric]:
    from mlflow.entities import Metric as MlflowMetric

    now = int(time.time() * 1000)
    return [MlflowMetric(metric.key, metric.value, now, metric.step) for metric in metrics]


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
    client.log_inputs(run_id, datasets=inputs)


def _log_files(client: MlflowClient, run_id: str, record: Record) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, path in {**record.files, **record.enclosed}.items():
            (target := Path(folder, name)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        for name, text in record.texts.items():
            (target := Path(folder, name)).parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        if record.curves:
            (target := Path(folder, "figures")).mkdir(exist_ok=True)
            _draw_curves(record, target / "curves.png")
        client.log_artifacts(run_id, folder)


def _draw_curves(record: Record, path: Path) -> None:
    """Loss over the epoch, in nats per token."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, label in (("train_start", "start of train"), ("valid", "valid"), ("test", "test")):
        axes.plot([row["fraction"] for row in record.curves], [row[name] for row in record.curves], ".-", label=label)
    axes.set(xlabel="part of the epoch", ylabel="mean NLL (nats per token)", title=record.name)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def _save_view(client: MlflowClient, experiment: str) -> None:
    """Seed the runs table with columns, worst change first: MLflow's default table shows no numbers.

    The format is MLflow's own and undocumented; if a version does not know it, the UI shows its default.
    """
    state = {
        "selectedColumns": list(VIEW_COLUMNS),
        "columnOrder": list(VIEW_COLUMNS),
        "columnWidths": VIEW_COLUMNS,
        "searchFilter": "",
        "orderByKey": "metrics.`perplexity/change`",
        "orderByAsc": False,
        "runsHiddenMode": "SHOW_ALL",
    }
    packed = "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    held = client.get_experiment(experiment).tags.get(VIEW_TAG)
    if held is not None and json.loads(held)["state"] == packed:
        return
    now = int(time.time() * 1000)
    view = {"name": "Perplexity and similarity", "createdAt": now, "updatedAt": now, "state": packed}
    client.set_experiment_tag(experiment, VIEW_TAG, json.dumps(view))
