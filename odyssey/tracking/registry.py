"""A study's models into MLflow's model registry, each beside the run that it belongs to."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from odyssey import models
from odyssey.cell_results import ADAPTED, CHANGE, ZERO_SHOT
from odyssey.corpora import hub
from odyssey.errors import OdysseyError
from odyssey.layout import PUBLISHED, Layout
from odyssey.model_card import CARD, Facts, description, markdown
from odyssey.record import Record, read_rows
from odyssey.records import cell_record, summary_record
from odyssey.settings import Settings
from odyssey.state import UNKNOWN
from odyssey.store import check_file, check_folder, digest, read_json, read_manifest
from odyssey.tracking.connection import reason, shown, store, uri
from odyssey.tracking.flavor import MODEL, write_model
from odyssey.tracking.runs import DIGEST

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Metric, Run
    from mlflow.entities.model_registry import ModelVersion

WEIGHTS = "weights_sha256"
"""Tag of a version: sha256 of its file of weights, or of several files the digest of their sha256 by name."""
VERSIONS = "mlflow.modelVersions"
"""MLflow's own tag of a logged model: the versions that it is registered as."""
BASE_DATA = ("pretrain", "test")
"""What data of a cell are used for that concerns its base model, too."""
MEASURED = (ZERO_SHOT, ADAPTED, CHANGE)
"""Metrics of a cell's run that the model's own page shows."""
DESCRIPTION_LENGTH = 5000
"""Characters of a version's description that every kind of store has room for."""


@dataclass(frozen=True)
class _Checkpoint:
    """The files that make up a model."""

    paths: Mapping[str, Path]
    """By name."""
    sha256: Mapping[str, str]
    """By name."""
    commit: str | None
    """Of a published one."""

    @property
    def weights(self) -> dict[str, str]:
        """sha256 of each file of weights."""
        return {name: value for name, value in self.sha256.items() if name.endswith(".safetensors")}


def register(settings: Settings, layout: Layout, model: str, domain: str | None, name: str | None) -> str:
    """Register a model of the study, adapted to a domain or (None) as it was before; returns what to tell the user.

    The same bytes are registered under a name only once; other bytes become its next version. A
    version is linked to the run that the study's publication made: the cell's, or for a base model
    the summary.

    Raises OdysseyError for a model or domain that the study does not have, a result that is absent,
    damaged or not published yet, a name that MLflow refuses, or a store that cannot be used.
    """
    settings.model(model)
    name = f"{settings.study}-{model}" + (f"-{domain}" if domain else "") if name is None else name
    cells = {one: cell_record(settings, layout, model, one) for one in ([domain] if domain else settings.adapted)}
    published = cells[domain] if domain else summary_record(settings, layout)
    checkpoint = _checkpoint(layout, model, domain)
    content = digest(checkpoint.sha256)
    with store() as client:
        run = _run(client, settings.study, published.digest())
        told = f"{name} in {shown(uri())}"
        if held := _same(client, name, content):
            earlier = "" if held.run_id == run.info.run_id else f"; it is of an earlier run, {held.run_id}"
            return f"nothing to do: version {held.version} of {told} has these bytes{earlier}"
        facts = _facts(settings, layout, model, domain, name, cells, checkpoint, run)
        logged = _log(client, run, facts, checkpoint, content)
        version = _add_version(client, logged, facts, content)
    return (
        f"registered version {version} of {told}, from the run '{run.info.run_name}' ({run.info.run_id})\n"
        f'load it with mlflow.transformers.load_model("models:/{name}/{version}", return_type="components")'
    )


def _checkpoint(layout: Layout, model: str, domain: str | None) -> _Checkpoint:
    """A model's files, with a look at every byte."""
    folder, stage = (layout.adapted(model, domain), "adapt") if domain else (layout.pretrained(model), "pretrain")
    check_folder(folder, stage)
    hashes, commit = read_manifest(folder)["files"], None
    if (folder / PUBLISHED).is_file():
        about = read_json(folder / PUBLISHED)
        commit, place = about["commit"], about["checkpoint"]
        folder = Path(place) if commit is None else hub.fetch_all(place, hub.MODEL_FILES, commit, "model")
        hashes = models.checkpoint_files(str(folder))
        if commit is None and hashes != about["files"]:
            raise OdysseyError(f"{folder}: its files have changed since they were looked at; run `dvc repro pretrain`")
    names = sorted(name for name in hashes if any(fnmatch(name, pattern) for pattern in hub.MODEL_FILES))
    found = _Checkpoint({name: folder / name for name in names}, {name: hashes[name] for name in names}, commit)
    if not found.weights:
        raise OdysseyError(f"{folder}: holds no *.safetensors, so there is no model to register")
    return found


def _run(client: MlflowClient, study: str, wanted: str) -> Run:
    """The finished run with this digest in the study's experiment."""
    experiment = client.get_experiment_by_name(study)
    filters = f"tags.`{DIGEST}` = '{wanted}' and attributes.status = 'FINISHED'"
    found = client.search_runs([experiment.experiment_id], filters, max_results=1) if experiment else []
    if not found:
        raise OdysseyError(
            f"{shown(uri())}: these results of study '{study}' are not published there; run `odyssey track` first"
        )
    return found[0]


def _same(client: MlflowClient, name: str, content: str) -> ModelVersion | None:
    """The version of that name with these bytes, the newest if there are several."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise OdysseyError(f"--name '{name}': {reason(error)}; give another one") from None
    found = [v for v in client.search_model_versions(f"tags.`{DIGEST}` = '{content}'") if v.name == name]
    return max(found, key=lambda version: int(version.version), default=None)


def _facts(
    settings: Settings,
    layout: Layout,
    model: str,
    domain: str | None,
    name: str,
    cells: Mapping[str, Record],
    checkpoint: _Checkpoint,
    run: Run,
) -> Facts:
    """What the card tells; `cells` are the records of the domains that it tells of."""
    folder = layout.adapted(model, domain) if domain else layout.pretrained(model)
    # Of a base model: the source corpus, which is first in all of them, and what it was scored on.
    data = {one.name: one for cell in cells.values() for one in cell.data if domain or one.context in BASE_DATA}
    scores = {one: layout.evaluated(model, one) / "scores.json" for one in cells}
    for path in scores.values():
        check_file(path, "evaluate")
    commit = run.data.tags["git_commit"]
    changed = " with uncommitted changes" if run.data.tags["git_dirty"] == "true" and commit != UNKNOWN else ""
    return Facts(
        settings=settings,
        model=model,
        domain=domain,
        name=name,
        scores={one: read_json(path) for one, path in scores.items()},
        similarity=_row(layout.similarity / "similarity.csv", domain=domain) if domain else {},
        evidence=_row(layout.claims / "evidence.csv", model=model, domain=domain) if domain else {},
        data=list(data.values()),
        sha256={one.name: check_file(one.path, "sample") for one in data.values()},
        weights=checkpoint.weights,
        commit=checkpoint.commit,
        packages=read_manifest(folder)["made_from"].get("packages", {}),
        run_id=run.info.run_id,
        code=f"`{commit}`{changed}",
    )


def _row(path: Path, **wanted: str) -> dict[str, str]:
    """The row of a table with these values."""
    return next(row for row in read_rows(path) if wanted.items() <= row.items())


def _log(client: MlflowClient, run: Run, facts: Facts, checkpoint: _Checkpoint, content: str) -> LoggedModel:
    """The model as an output of its run, with its numbers there."""
    from mlflow.entities import LoggedModelOutput

    experiment, run_id = run.info.experiment_id, run.info.run_id
    for left in client.search_logged_models([experiment], f"tags.`{DIGEST}` = '{content}'"):
        # Of a registration that did not get to its end.
        if VERSIONS not in left.tags:
            client.delete_logged_model(left.model_id)
    logged = client.create_logged_model(
        experiment,
        # A logged model's name has less liberty than a registered one's.
        name=re.sub("[/:.%\"']", "_", facts.name),
        source_run_id=run_id,
        tags={DIGEST: content},
        params=run.data.params,
        model_type="text-generation",
    )
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), checkpoint.paths, facts.model, facts.settings.evaluate.precision, logged)
        card = markdown(facts, f"models:/{logged.model_id}", shown(uri()))
        Path(folder, MODEL, CARD).write_text(card, encoding="utf-8")
        client.log_model_artifacts(logged.model_id, folder)
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    client.log_batch(run_id, metrics=_measured(client, run, facts, logged.model_id))
    return client.finalize_logged_model(logged.model_id, "READY")


def _measured(client: MlflowClient, run: Run, facts: Facts, model_id: str) -> list[Metric]:
    """The run's perplexities as the model's, with the data they are of; with the run's times, so that it keeps one."""
    from mlflow.entities import Metric

    tests = [data for data in facts.data if data.context == "test"]
    found = []
    for key in MEASURED if facts.domain else ():
        last = client.get_metric_history(run.info.run_id, key)[-1]
        about = {"dataset_name": tests[0].name, "dataset_digest": tests[0].md5}
        found.append(Metric(key, last.value, last.timestamp, last.step, model_id, run_id=run.info.run_id, **about))
    return found


def _add_version(client: MlflowClient, logged: LoggedModel, facts: Facts, content: str) -> str:
    """Register what was logged; returns the version."""
    from mlflow.exceptions import MlflowException

    where, weights = shown(uri()), facts.weights
    tags = {"study": facts.settings.study, "model": facts.model} | ({"domain": facts.domain} if facts.domain else {})
    tags |= {"seed": str(facts.settings.seed), DIGEST: content}
    tags[WEIGHTS] = next(iter(weights.values())) if len(weights) == 1 else digest(weights)
    about = f"Model `{facts.model}` of the study `{facts.settings.study}`"
    about += f", adapted to `{facts.domain}`" if facts.domain else ", before adaptation"
    with suppress(MlflowException):  # it is there already; anything else comes up again below
        client.create_registered_model(facts.name, description=f"{about}. Each version's description is its card.")
    made = client.create_model_version(
        facts.name,
        source=logged.artifact_location,
        run_id=facts.run_id,
        tags=tags,
        description=description(facts, f"models:/{logged.model_id}", where, DESCRIPTION_LENGTH),
        await_creation_for=0,
        model_id=logged.model_id,
    )
    version = str(made.version)
    told = description(facts, f"models:/{facts.name}/{version}", where, DESCRIPTION_LENGTH)
    client.update_model_version(facts.name, version, told)
    known_as = json.dumps([{"name": facts.name, "version": version}])
    client.set_logged_model_tags(logged.model_id, {VERSIONS: known_as, "mlflow.note.content": told})
    return version
