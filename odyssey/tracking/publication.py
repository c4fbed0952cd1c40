"""A study's results into MLflow, from the pipeline's files.

DVC skips stages, so what a study's runs hold does not come from stages as they run: `publish`
reads what they left, and a study that is fully cached still gives complete runs. A run that was
there while its model trained (see `live`) is completed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odyssey import description
from odyssey.cell_results import CURVE_METRICS, TRAINED
from odyssey.description import Places
from odyssey.layout import Layout
from odyssey.progress import bar
from odyssey.record import Record, fit, read_rows
from odyssey.records import SETTINGS, cell_record, finished_stages, summary_record
from odyssey.settings import Settings
from odyssey.state import State, state
from odyssey.store import digest as digest_of
from odyssey.tracking import runs, views
from odyssey.tracking.connection import experiment_id, handed_down, root, shown, store, uri
from odyssey.tracking.runs import DIGEST
from odyssey.tracking.views import COLOR, CURRENT, colour
from odyssey.written import as_written

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NOTE = "mlflow.note.content"
"""Tag of a run or an experiment with its description, as Markdown."""
WRITTEN = "odyssey.note"
"""Tag with the digest of the description that was written here."""
SUMMARY = "summary"
"""What the tag CURRENT says of a summary run that is."""
SEED = "[0-9]{1,10}"
"""What the tag of a run's seed says."""
ADVICE = "advice"
"""Experiment of what `odyssey advise` was asked."""


@dataclass
class _Held:
    """What an experiment holds already."""

    published: dict[str, str] = field(default_factory=dict)
    """Run id by digest."""
    live: dict[str, list[Run]] = field(default_factory=dict)
    """Runs that are not published, newest first, by what their models were trained from."""
    shown: dict[str, Run] = field(default_factory=dict)
    """Published and live runs by id."""


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
    for key, (model, domain) in zip(records, cells, strict=False):
        records[key].tags[COLOR] = colour(settings, model, domain)
    digests = {key: record.digest() for key, record in records.items()}
    now = state(root(), settings.study)
    with store() as client:
        experiment = experiment_id(client, settings.study)
        held = _look(client, experiment, set(digests.values()))
        new = [key for key in records if digests[key] not in held.published]
        for key in bar(new, "publish", unit="run") if new else ():
            held.published[digests[key]] = _publish(client, experiment, records[key], digests[key], now, held)
        for record in records.values():
            # Trained again, with the results that were published before.
            for run in held.live.pop(record.tags.get(TRAINED, ""), ()):
                client.delete_run(held.shown.pop(run.info.run_id).info.run_id)
        ids = {key: held.published[digest] for key, digest in digests.items()}
        places = Places(experiment, ids["summary"], {cell: ids["/".join(cell)] for cell in cells})
        _describe(client, settings, layout, records["summary"], places)
        _mark(client, held, {ids[key]: record for key, record in records.items()}, settings.seed)
        views.save_views(client, experiment, settings)
    return {
        "experiment": settings.study,
        "tracking_uri": shown(uri()),
        "runs": digests,
        "new": len(new),
        "kept": len(records) - len(new),
    }


def log_entry_point(settings: Settings, layout: Layout, model: str, domain: str) -> None:
    """Log a cell to the run that `mlflow run -e adapt|evaluate` started; outside of one, do nothing.

    Logs the results that are there, and of those what the run does not hold yet, so that
    an entry point of several commands may call it after each.
    """
    if not (run_id := handed_down()):
        return
    record = cell_record(settings, layout, model, domain, finished_stages(settings, layout, model, domain))
    with store() as client:
        held = client.get_run(run_id)
        logged = held.data.tags.get("mlflow.loggedArtifacts", "[]")
        record.tables = {name: table for name, table in record.tables.items() if f'"{name}"' not in logged}
        # By step, too: a store that failed while the model trained has the beginning of the curves.
        there = runs.points(client, run_id)
        record.metrics = [metric for metric in record.metrics if (metric.key, metric.step) not in there]
        runs.fill(client, run_id, record, state(root(), settings.study))


def evidence(study: str, settings: str, folder: Path) -> list[Path]:
    """Download the evidence that was published of a study with these settings (their digest): one file a seed.

    Runs whose tag names no seed are left out: anyone who may write to the store may write tags, and of this one a
    folder's name is made.
    """
    with store() as client:
        experiment = client.get_experiment_by_name(study)
        found: dict[str, Run] = {}
        for run in runs.all_runs(client, experiment.experiment_id) if experiment else ():
            tags = run.data.tags
            seed = tags.get("seed", "")
            if tags.get(CURRENT) == SUMMARY and tags.get(SETTINGS) == settings and re.fullmatch(SEED, seed):
                found.setdefault(seed, run)
        paths = []
        for seed, run in found.items():
            (target := folder / f"seed{seed}").mkdir(parents=True)
            paths.append(Path(client.download_artifacts(run.info.run_id, "claims/evidence.csv", str(target))))
        return paths


def log_seeds(study: str, seeds: Sequence[int], files: Mapping[str, Path]) -> None:
    """Log what several seeds of a study say together, as a run beside theirs; the same again changes nothing."""
    name = f"{study} seeds {', '.join(map(str, seeds))}"
    record = Record(name=fit(name), tags={"study": study, "seeds": json.dumps(list(seeds))}, files=dict(files))
    with store() as client:
        experiment = experiment_id(client, study)
        digest = record.digest()
        if digest not in _look(client, experiment, {digest}).published:
            runs.create(client, experiment, record, {DIGEST: digest}, state(root(), study))


def log_advice(record: Record) -> str:
    """Log a piece of advice as a run of its own in the experiment "advice"; returns where it is.

    Asking again is another run: what a model is told about the same texts may change with the code.
    """
    with store() as client:
        runs.create(client, experiment_id(client, ADVICE), record, {}, state(root(), ADVICE))
    return f"{shown(uri())}, experiment '{ADVICE}', run '{record.name}'"


def _look(client: MlflowClient, experiment: str, wanted: Collection[str]) -> _Held:
    """What is there; of the digests `wanted`, what a killed publication left is deleted.

    Under the lock an unfinished run of these results is nobody's work in progress on this machine;
    another machine may just be publishing others, of another seed for instance.
    """
    held = _Held()
    for run in runs.all_runs(client, experiment):
        tags = run.data.tags
        unfinished = DIGEST in tags and run.info.status != "FINISHED"
        if unfinished and tags[DIGEST] in wanted:
            client.delete_run(run.info.run_id)
            continue
        if unfinished:
            pass
        elif DIGEST in tags:
            held.published.setdefault(tags[DIGEST], run.info.run_id)
        elif TRAINED in tags:
            held.live.setdefault(tags[TRAINED], []).append(run)
        else:
            continue
        held.shown[run.info.run_id] = run
    return held


def _describe(client: MlflowClient, settings: Settings, layout: Layout, record: Record, places: Places) -> None:
    """Give the summary run and the experiment their descriptions, which link the runs."""
    headline = read_rows(layout.report / "tables" / "headline.csv")
    tokens = read_rows(layout.report / "tables" / "top_tokens.csv")
    claims = read_rows(layout.claims / "claims.csv")
    with as_written(layout.report, "report"):
        of_run = description.summary(settings, headline, claims, tokens, record.texts, places)
        of_all = description.experiment(settings, headline, tokens, places)
    for name, text in _notes(client.get_run(places.summary).data.tags, of_run).items():
        client.set_tag(places.summary, name, text)
    for name, text in _notes(client.get_experiment(places.experiment).tags, of_all).items():
        client.set_experiment_tag(places.experiment, name, text)


def _notes(held: Mapping[str, str], told: str) -> dict[str, str]:
    """The tags to set for a description: none if it is there, or someone has written another one by hand."""
    found = held.get(NOTE, "")
    if found == told or (found and digest_of([found]) != held.get(WRITTEN)):
        return {}
    return {NOTE: told, WRITTEN: digest_of([told])}


def _mark(client: MlflowClient, held: _Held, current: Mapping[str, Record], seed: int) -> None:
    """Say of the runs that were there before whether they are what the study is now; `current` ones by id."""
    for run_id, run in held.shown.items():
        if run.data.tags.get("seed") != str(seed):
            continue
        told = _standing(current[run_id]) if run_id in current else "no"
        if run.data.tags.get(CURRENT) != told:
            client.set_tag(run_id, CURRENT, told)


def _standing(record: Record) -> str:
    """What the tag CURRENT says of a run of the latest publication: only cells are compared with each other."""
    return "yes" if "domain" in record.tags else SUMMARY


def _publish(client: MlflowClient, experiment: str, record: Record, digest: str, now: State, held: _Held) -> str:
    """Complete the run that was live while the record's model trained, or make one; returns its id."""
    begun = [run for run in held.live.get(record.tags.get(TRAINED, ""), ()) if run.info.status == "FINISHED"]
    if not begun:
        return runs.create(client, experiment, record, {DIGEST: digest, CURRENT: _standing(record)}, now)
    run = begun[0]
    held.live[record.tags[TRAINED]].remove(run)
    run_id = str(run.info.run_id)
    # Unfinished before it counts as a publication: wherever this is killed, it is made again from the files.
    client.update_run(run_id, status="RUNNING")
    client.set_tag(run_id, DIGEST, digest)
    runs.fill(client, run_id, record, now, without=CURVE_METRICS)
    client.set_terminated(run_id, "FINISHED", end_time=run.info.end_time)
    return run_id
