"""Publication with a real MLflow on sqlite, from invented results."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, read_study
from published import CELLS, LONG, fill, runs, study
from results import TOKENS, write_results

from odyssey import records, state
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.record import NAME_LENGTH, Metric, Record, fit
from odyssey.records import cell_record, finished_stages
from odyssey.sections import SPLITS
from odyssey.settings import Settings
from odyssey.stages import claims, report, track
from odyssey.store import MANIFEST, content_digest, new_folder, read_json, write_json
from odyssey.tracking import connection, publication, serving, views
from odyssey.tracking import runs as mlflow_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return fill(tmp_path, study("any"))


def experiment_tags(client: MlflowClient, name: str) -> dict[str, str]:
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return dict(experiment.tags)


def run_of(found: list[Run], model: str, domain: str) -> Run:
    (run,) = [r for r in found if (r.data.tags.get("model"), r.data.tags.get("domain")) == (model, domain)]
    return run


# --- what a run holds


def test_a_cell_run_is_complete(store: Path, client: MlflowClient, layout: Layout) -> None:
    settings = study("complete")
    outcome = publication.publish(settings, layout)
    assert (outcome["new"], outcome["kept"]) == (len(CELLS) + 1, 0)
    found = runs(client, "complete")
    assert {run.info.status for run in found} == {"FINISHED"}
    assert len(found) == len(CELLS) + 1
    run = run_of(found, "small", LONG)

    tags = {"study": "complete", "model": "small", "domain": LONG, "portion": "software", "seed": "0"}
    assert tags.items() <= run.data.tags.items()
    assert {"git_commit", "git_dirty", "code"} <= run.data.tags.keys()
    assert run.data.tags[mlflow_runs.DIGEST] == outcome["runs"][f"small/{LONG}"]

    params = run.data.params
    assert params["model.architecture.width"] == "128"
    assert params["adapt.train_start"] == "0.03"
    assert params["evaluate.separator"] == '"\\n"'
    assert params["domain.modules"] == '["sentence_transformers"]'
    assert not {"model", "domain"} & params.keys()
    sections = set(settings.model_dump()) - {"study", "seed", "domains", "adapt_to", "models", "report"}
    assert sections <= {key.split(".")[0] for key in params}

    scores = read_json(layout.evaluated("small", LONG) / "scores.json")
    before, after = (scores[key]["nll_sum"] / scores[key]["tokens"] for key in ("zero_shot", "adapted"))
    metrics = run.data.metrics
    assert metrics["PPL zero-shot"] == pytest.approx(math.exp(before))
    assert metrics["Change"] == pytest.approx(math.exp(after) - math.exp(before))
    assert metrics["change/perplexity_low"] <= metrics["Change"] <= metrics["change/perplexity_high"]
    assert metrics["change/log"] == pytest.approx(after - before)
    assert run.data.tags["outcome"] in ("worse", "better", "within noise")
    parts = [value for key, value in metrics.items() if key.startswith("contribution/")]
    assert sum(parts) == pytest.approx(after - before, abs=1e-9)
    assert metrics["change/ratio"] == pytest.approx(math.exp(after - before))
    per_byte = scores["adapted"]["nll_sum"] / scores["adapted"]["bytes"] / math.log(2)
    assert metrics["bits_per_byte/adapted"] == pytest.approx(per_byte)
    assert (metrics["similarity/n_source"], metrics["similarity/d"]) == (1500, 8)
    assert {"MMD", "FD", "similarity/n_target", "PPL adapted"} <= metrics.keys()
    assert metrics["token_analysis/test_chunks_wanted"] == settings.tokens.chunks

    curves = pd.read_csv(layout.adapted("small", LONG) / "curves.csv")
    for name in ("train_start", "valid", "test"):
        history = sorted(client.get_metric_history(run.info.run_id, f"nll/{name}"), key=lambda m: m.step)
        assert [m.step for m in history] == curves["step"].tolist()
        assert [m.value for m in history] == pytest.approx(curves[name].tolist())
    assert len(client.get_metric_history(run.info.run_id, "nll/train")) == 5
    assert len(client.get_metric_history(run.info.run_id, "learning_rate")) == 5

    assert run.inputs is not None
    inputs = {i.dataset.name: i for i in run.inputs.dataset_inputs}
    assert set(inputs) == {"source", *(f"{LONG}/{split}" for split in SPLITS)}
    for split in SPLITS:
        held = inputs[f"{LONG}/{split}"]
        assert held.dataset.digest == hashlib.md5(layout.split(LONG, split).read_bytes()).hexdigest()
        assert {tag.key: tag.value for tag in held.tags} == {"mlflow.data.context": split}
        assert json.loads(held.dataset.profile or "") == {"rows": 2, "documents": 1, "words": 8}

    # Beside the store, and addressed so although the folder's name holds a space.
    folder = next((store / "mlartifacts" / "complete").glob(f"{run.info.run_id}/artifacts"))
    assert (folder / "results" / "scores.json").is_file()
    assert {path.stem for path in (folder / "manifests").iterdir()} == set(records.CELL_STAGES)
    for split in ("train", "test"):
        table = json.loads((folder / "tokens" / f"{split}.json").read_text())
        assert set(pd.DataFrame(table["data"], columns=table["columns"])["token"]) == {f"'{t}'" for t in TOKENS}
    assert {entry["path"] for entry in json.loads(run.data.tags["mlflow.loggedArtifacts"])} == {
        "tokens/train.json",
        "tokens/test.json",
    }
    assert views.TAG + views.MAIN in experiment_tags(client, "complete")


def test_names_are_legal_short_and_kept_at_both_ends() -> None:
    assert fit("tiny mpmath") == "tiny mpmath"
    cut = fit("gpt2-large Culture_and_the_arts__Culture_and_Humanities")
    assert len(cut) == NAME_LENGTH
    assert cut == "gpt2-large C.._Humanities"


def test_the_summary_run_is_complete(store: Path, client: MlflowClient, layout: Layout) -> None:
    settings = study("summed")
    (store / "dvc.lock").write_text("schema: '2.0'\n")
    publication.publish(settings, layout)
    (run,) = [run for run in runs(client, "summed") if run.info.run_name == "summed summary"]
    assert run.data.metrics["tiny/worse/software"] == 1
    note = run.data.tags["mlflow.note.content"]
    assert note.count("sentence\\_transformers") >= 2
    for cell in runs(client, "summed"):
        assert f"/runs/{cell.info.run_id}" in note
    folder = store / "mlartifacts" / "summed" / run.info.run_id / "artifacts"
    held = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    page = {"report.html", "metrics.json", "tables/headline.csv", "tables/top_tokens.csv", "figures/figure1_tiny.svg"}
    claimed = {path.name for path in layout.claims.iterdir()} - {MANIFEST}
    assert {"claims.csv", "evidence.csv", "classes.csv"} <= claimed
    names = {*(f"report/{name}" for name in page), *(f"claims/{name}" for name in claimed)}
    assert held == {"provenance/dvc.lock", "params.yaml", "claims.json", *names}
    assert (folder / "report" / "figures" / "figure1_tiny.svg").read_text() == "<svg/>"
    assert run.data.tags[records.SETTINGS] == records.settings_digest(settings.model_copy(update={"seed": 9}))
    assert Settings.model_validate(yaml.safe_load((folder / "params.yaml").read_text())) == settings


def test_a_description_written_by_hand_stays(client: MlflowClient, layout: Layout) -> None:
    settings = study("noted")
    publication.publish(settings, layout)
    experiment = client.get_experiment_by_name("noted")
    assert experiment is not None
    assert experiment.tags["mlflow.note.content"].startswith("Worst: ")
    client.set_experiment_tag(experiment.experiment_id, "mlflow.note.content", "mine")
    publication.publish(settings, layout)
    assert experiment_tags(client, "noted")["mlflow.note.content"] == "mine"
    client.set_experiment_tag(experiment.experiment_id, "mlflow.note.content", "")
    publication.publish(settings, layout)
    assert experiment_tags(client, "noted")["mlflow.note.content"].startswith("Worst: ")


# --- again, changed, killed


def test_publishing_twice_changes_nothing(store: Path, client: MlflowClient, layout: Layout) -> None:
    settings = study("twice")
    track.run(settings, layout)
    receipt = (layout.track / "published.json").read_bytes()
    before = [run.to_dictionary() for run in runs(client, "twice")]
    view = experiment_tags(client, "twice")
    track.run(settings, layout)
    assert [run.to_dictionary() for run in runs(client, "twice")] == before
    assert experiment_tags(client, "twice") == view
    assert (layout.track / "published.json").read_bytes() == receipt
    assert json.loads(receipt)["tracking_uri"] == "sqlite:///mlflow.db"


def test_a_changed_result_gets_a_run_beside_the_old(client: MlflowClient, layout: Layout) -> None:
    settings = study("changed")
    publication.publish(settings, layout)
    old = {run.info.run_id for run in runs(client, "changed")}
    folder = layout.evaluated("tiny", "mpmath")
    scores = read_json(folder / "scores.json")
    scores["adapted"]["nll_sum"] *= 1.1
    with new_folder(folder, {}) as new:
        shutil.copytree(folder, new, dirs_exist_ok=True)
        np.save(new / "adapted.npy", np.load(folder / "adapted.npy") * np.float32(1.1))
        write_json(new / "scores.json", scores)
    with pytest.raises(OdysseyError, match="dvc repro claims"):
        publication.publish(settings, layout)
    claims.run(settings, layout)
    outcome = publication.publish(settings, layout)
    # The cell, and the summary, whose claims are others now.
    assert (outcome["new"], outcome["kept"]) == (2, len(CELLS) - 1)
    found = runs(client, "changed")
    assert old < {run.info.run_id for run in found}
    assert sum(run.info.run_name == "tiny mpmath" for run in found) == 2
    other = settings.model_copy(update={"seed": 7})
    claims.run(other, layout)
    assert publication.publish(other, layout)["new"] == len(CELLS) + 1


def test_the_commit_is_not_part_of_the_identity(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = study("committed")
    publication.publish(settings, layout)
    monkeypatch.setattr(state, "git_state", lambda folder: ("0" * 40, False))
    assert publication.publish(settings, layout)["new"] == 0


def test_an_unfinished_run_is_made_again(client: MlflowClient, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = study("broken")

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mlflow_runs, "_log_files", fail)
        with pytest.raises(KeyboardInterrupt):
            publication.publish(settings, layout)
    (unfinished,) = runs(client, "broken")
    assert unfinished.info.status == "RUNNING"
    publication.publish(settings, layout)
    found = runs(client, "broken")
    assert len(found) == len(CELLS) + 1
    assert {run.info.status for run in found} == {"FINISHED"}
    assert unfinished.info.run_id not in {run.info.run_id for run in found}


# --- beside `mlflow run`


def test_a_run_handed_down_is_not_touched(
    client: MlflowClient, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = client.create_run("0", run_name="of mlflow run")
    before = client.get_run(parent.info.run_id).to_dictionary()
    monkeypatch.setenv("MLFLOW_RUN_ID", parent.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    publication.publish(study("handed"), layout)
    assert client.get_run(parent.info.run_id).to_dictionary() == before
    assert len(runs(client, "handed")) == len(CELLS) + 1
    assert "MLFLOW_RUN_ID" not in os.environ


def test_an_entry_point_logs_what_is_there_once(
    client: MlflowClient, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = study("entered")
    parent = client.create_run("0")
    client.log_param(parent.info.run_id, "model", "tiny")
    monkeypatch.setenv("MLFLOW_RUN_ID", parent.info.run_id)
    aside = layout.evaluated("tiny", "mpmath").rename(layout.data / "aside")
    publication.log_entry_point(settings, layout, "tiny", "mpmath")
    metrics = client.get_run(parent.info.run_id).data.metrics
    assert "nll/test" in metrics
    assert "PPL adapted" not in metrics

    aside.rename(layout.evaluated("tiny", "mpmath"))
    publication.log_entry_point(settings, layout, "tiny", "mpmath")
    run = client.get_run(parent.info.run_id)
    assert "PPL adapted" in run.data.metrics
    assert run.data.params["model"] == "tiny"
    assert run.info.status == "RUNNING"  # it is for `mlflow run` to finish
    assert len(client.get_metric_history(parent.info.run_id, "nll/test")) == settings.adapt.curve_points
    table = Path(run.info.artifact_uri.removeprefix("file://")) / "tokens" / "test.json"
    assert len(json.loads(table.read_text())["data"]) == len(TOKENS)


@pytest.mark.parametrize("variables", [{}, {"MLFLOW_RUN_ID": "a", "DVC_STAGE": "adapt@tiny"}])
def test_outside_an_entry_point_mlflow_is_not_even_imported(variables: dict[str, str], layout: Layout) -> None:
    code = (
        "import sys; from odyssey.tracking import publication; publication.log_entry_point(None, None, 'm', 'd');"
        "sys.exit('mlflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **variables, "PYTHONPATH": str(ROOT)})


def test_entry_points_quote_their_parameters() -> None:
    from mlflow.projects._project_spec import load_project

    project = load_project(str(ROOT))  # type: ignore[no-untyped-call]
    assert project.get_entry_point("main").compute_command({}, None) == (
        "python -m odyssey study '' --consent false && python -m dvc repro && python -m odyssey track"
    )
    chosen = project.get_entry_point("main").compute_command({"study": "a; b", "accept_licenses": "true"}, None)
    assert chosen.startswith("python -m odyssey study 'a; b' --consent true && ")
    for name in ("adapt", "evaluate"):
        command = project.get_entry_point(name).compute_command({"model": "tiny", "domain": "a; b"}, None)
        assert command.endswith(f"python -m odyssey {name} --model tiny --domain 'a; b'")


# --- results that do not belong together


def relink(folder: Path, **made_from: Any) -> None:
    """Give a folder another origin."""
    with new_folder(folder, made_from) as new:
        shutil.copytree(folder, new, dirs_exist_ok=True)


def test_an_evaluation_of_an_earlier_adaptation_is_refused(layout: Layout) -> None:
    settings, cell = study("any"), ("tiny", "mpmath")
    relink(layout.evaluated(*cell), adapted=content_digest(layout.adapted(*cell)))
    assert "evaluate" in finished_stages(settings, layout, *cell)
    # Made again from something else, but the same: what was made from it still holds.
    relink(layout.adapted(*cell), settings={})
    assert "evaluate" in finished_stages(settings, layout, *cell)
    with new_folder(layout.adapted(*cell), {"base": content_digest(layout.pretrained("tiny"))}) as folder:
        for path in layout.adapted(*cell).glob("*.csv"):
            (folder / path.name).write_text(path.read_text() + "\n")
    assert "evaluate" not in finished_stages(settings, layout, *cell)
    with pytest.raises(OdysseyError, match=r"evaluate/tiny/mpmath: 'adapted' has changed.*dvc repro evaluate"):
        cell_record(settings, layout, *cell)


@pytest.mark.parametrize(
    ("made_from", "what"),
    [
        ({"base": "another"}, "'base'"),
        ({"domain": {"train": "another"}}, "'domain'"),
        ({"settings": {"learning_rate": 0.5}}, "setting 'learning_rate'"),
        ({"settings": {"seed": 5}}, "setting 'seed'"),
    ],
)
def test_an_adaptation_with_other_inputs_is_refused(layout: Layout, made_from: dict[str, Any], what: str) -> None:
    relink(layout.adapted("tiny", "mpmath"), **made_from)
    with pytest.raises(OdysseyError, match=f"{what} has changed"):
        cell_record(study("any"), layout, "tiny", "mpmath")


def test_a_split_that_was_damaged_is_refused(layout: Layout, tmp_path: Path) -> None:
    """Its digest would be published as that of what the numbers are of."""
    settings, cell = study("any"), ("tiny", "mpmath")
    shutil.copytree(layout.data, tmp_path / "copy")
    for path in (Layout(tmp_path / "copy").split(cell[1], "test"), Layout(tmp_path / "copy").source):
        before = path.read_bytes()
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        with pytest.raises(OdysseyError, match=f"{path.name}: damaged .* and run `dvc repro sample`"):
            cell_record(settings, Layout(tmp_path / "copy"), *cell)
        path.write_bytes(before)
    whole = cell_record(settings, Layout(tmp_path / "copy"), *cell)
    assert [one.md5 for one in whole.data] == [hashlib.md5(one.path.read_bytes()).hexdigest() for one in whole.data]


def test_a_report_of_other_results_is_refused(layout: Layout) -> None:
    relink(layout.report, inputs={"evaluate/tiny/mpmath": "another"})
    with pytest.raises(OdysseyError, match="dvc repro report"):
        records.summary_record(study("any"), layout)


def test_a_missing_result_names_its_stage_and_publishes_nothing(client: MlflowClient, layout: Layout) -> None:
    (layout.tokens("small", "mpmath") / MANIFEST).unlink()
    with pytest.raises(OdysseyError, match="dvc repro tokens"):
        publication.publish(study("missing"), layout)
    assert runs(client, "missing") == []


def test_a_real_report_is_published(tmp_path: Path) -> None:
    settings, layout = read_study(ROOT / "tests" / "smoke.yaml"), Layout(tmp_path)
    write_results(settings, layout)
    report.run(settings, layout)
    record = records.summary_record(settings, layout)
    assert any(name.endswith(".png") for name in record.files)
    assert record.metrics


# --- stores


def test_an_address_is_shown_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connection.shown("https://me:secret@host:8/mlflow?token=x") == "https://host:8/mlflow"
    assert connection.shown("sqlite:////elsewhere/mlflow.db") == "sqlite:////elsewhere/mlflow.db"
    monkeypatch.setenv("DVC_ROOT", "/elsewhere")
    assert connection.uri() == "sqlite:////elsewhere/mlflow.db"
    assert connection.shown(connection.uri()) == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://host")
    assert connection.uri() == "https://host"


def test_a_store_that_is_none_is_named(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.db").write_text("not a database " * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'text.db'}")
    with pytest.raises(OdysseyError, match=r"text\.db: not usable as an MLflow store"):
        publication.publish(study("any"), layout)


def test_metrics_go_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting:
        sizes: list[int] = []  # noqa: RUF012
        most_params = 0

        def log_batch(self, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
            self.sizes.append(len(metrics) + len(params) + len(tags))
            Counting.most_params = max(Counting.most_params, len(params))

        def log_inputs(self, run_id: str, datasets: Any) -> None: ...

        def log_artifacts(self, run_id: str, folder: str) -> None: ...

    record = Record("r", {"a": "b"}, {f"p{i}": "1" for i in range(150)}, [Metric("m", 0.5, i) for i in range(2500)])
    mlflow_runs.fill(Counting(), "id", record, state.State("unknown", True, b""))  # type: ignore[arg-type]
    assert Counting.sizes == [1000, 1000, 2500 + 150 + len({"a", "git_commit", "git_dirty"}) - 2000]
    assert Counting.most_params == 100


PUBLISH = """
import sys
from pathlib import Path
from odyssey.layout import Layout
from odyssey.settings import Settings
from odyssey.tracking.publication import publish
settings = Settings.model_validate_json(sys.argv[1])
print(publish(settings, Layout(Path(sys.argv[2])))["new"])
"""
MORTAL = """
import os, signal
from odyssey.tracking import runs
left, log_files = [1], runs._log_files
def log_once(*what):
    log_files(*what) if left and left.pop() else os.kill(os.getpid(), signal.SIGKILL)
runs._log_files = log_once
"""
"""Has the process killed where its second run gets its files."""


def publisher(folder: Path, layout: Layout, settings: Settings, first: str = "") -> subprocess.Popen[str]:
    """A process that publishes, after some code of ours."""
    command = [sys.executable, "-c", first + PUBLISH, settings.model_dump_json(), str(layout.data)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_six_first_publishers_at_once(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    folder = tmp_path / "fresh"
    folder.mkdir()
    only = {"models": {"tiny": study("any").models["tiny"]}}
    layout = fill(tmp_path, study("any").model_copy(update=only))
    processes = [publisher(folder, layout, study(name).model_copy(update=only)) for name in ("one", "two") * 3]
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, said
    assert sorted(int(out) for out, _ in said) == [0, 0, 0, 0, 3, 3]
    fresh = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    assert [len(runs(fresh, name)) for name in ("one", "two")] == [3, 3]


@pytest.mark.slow
def test_a_killed_publisher_is_healed(client: MlflowClient, store: Path, layout: Layout) -> None:
    process = publisher(store, layout, study("killed"), MORTAL)
    said = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, said
    assert sorted(run.info.status for run in runs(client, "killed")) == ["FINISHED", "RUNNING"]
    publication.publish(study("killed"), layout)
    found = runs(client, "killed")
    assert [run.info.status for run in found] == ["FINISHED"] * (len(CELLS) + 1)


# --- the UI


def test_the_ui_says_what_is_wrong(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OdysseyError, match="no study 'never' there yet"):
        serving.serve(study("never"), 5000)
    publication.publish(study("served"), layout)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OdysseyError, match="choose another with --port"):
            serving.serve(study("served"), other.getsockname()[1])
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with pytest.raises(OdysseyError, match="no study 'served' there yet"):
        serving.serve(study("served"), 5000)
    assert not (tmp_path / "mlflow.db").exists()
