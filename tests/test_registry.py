"""Models in MLflow's registry: a real, tiny one goes in and comes back the same; the card tells what is so."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, SHAPE
from published import LONG, study
from results import write_results

from odyssey import models, scoring, tokenization
from odyssey.corpora.parquet import read_texts
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.science.perplexity import Score
from odyssey.sections import PublishedModel, TrainedModel
from odyssey.settings import Settings
from odyssey.stages import claims
from odyssey.store import MANIFEST, new_folder, read_json, sha256, write_json
from odyssey.tools import score_file
from odyssey.tracking import publication
from odyssey.tracking.registry import register

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

MODEL, DOMAIN = "tiny", "mpmath"

pytestmark = pytest.mark.usefixtures("store")


def small_study(name: str) -> Settings:
    """Two domains and one model, of the shape that the real checkpoint has."""
    model = TrainedModel(architecture=SHAPE, pretrain_learning_rate=1e-3, adapt_learning_rate=2e-3)
    return study(name).model_copy(update={"models": {MODEL: model}})


def fill(folder: Path, settings: Settings, checkpoint: Path) -> Layout:
    """Invented results and a report, but for a real base model and a real adaptation to DOMAIN."""
    layout = Layout(folder / "data")
    write_results(settings, layout)
    put(layout.pretrained(MODEL), checkpoint)
    adapt(settings, layout, checkpoint)
    with new_folder(layout.report, {}) as new:
        (new / "tables").mkdir()
        about = {"model": MODEL, "domain": DOMAIN, "portion": "science", "outcome": "better", "mmd": 0.1, "fd": 0.2}
        numbers = dict.fromkeys(("zero_shot", "adapted", "change", "change_low", "change_high"), 1.0)
        pd.DataFrame([about | numbers]).to_csv(new / "tables" / "headline.csv", index=False)
        tokens = {"model": MODEL, "domain": DOMAIN, "split": "test", "direction": "up", "token": "the"}
        pd.DataFrame([tokens]).to_csv(new / "tables" / "top_tokens.csv", index=False)
        (new / "report.html").write_text("<p>the page</p>")
        write_json(new / "metrics.json", {MODEL: {"worse": {"science": 1}}})
    return layout


def adapt(settings: Settings, layout: Layout, checkpoint: Path, shift: float = 0.05) -> None:
    """Put a model that differs by some noise from the checkpoint in the place of DOMAIN's, and score it."""
    base, tokenizer = models.load(checkpoint)
    adapted, _ = models.load(checkpoint)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for weights in adapted.parameters():
            weights.add_(shift * torch.randn_like(weights))
    folder = layout.adapted(MODEL, DOMAIN)
    tables = {name: (folder / name).read_bytes() for name in ("curves.csv", "loss.csv")}
    with new_folder(folder, {"packages": {"torch": "1.2.3"}}) as new:
        models.save(adapted, tokenizer, new)
        for name, content in tables.items():
            (new / name).write_bytes(content)
    score(settings, layout, DOMAIN, {"zero_shot": base, "adapted": adapted}, tokenizer)
    claims.run(settings, layout)


def put(folder: Path, checkpoint: Path) -> None:
    with new_folder(folder, {"packages": {"torch": "1.2.3"}}) as new:
        shutil.copytree(checkpoint, new, dirs_exist_ok=True)


def score(settings: Settings, layout: Layout, domain: str, networks: dict[str, Any], tokenizer: Any) -> None:
    ids, n_bytes = tokenization.encode(tokenizer, read_texts(layout.split(domain, "test")), "\n")
    scores: dict[str, Any] = {"context": SHAPE.context, "separator": "\n", "unit": "document", "parameters": 4321}
    with new_folder(layout.evaluated(MODEL, domain), {}) as new:
        for label, network in networks.items():
            nll = scoring.token_nll(network, ids, SHAPE.context, 64)
            np.save(new / f"{label}.npy", nll)
            scores[label] = Score.of(nll, n_bytes).as_dict()
        np.save(new / "token_ids.npy", np.zeros(len(ids) - 1, dtype=np.int32))
        np.save(new / "units.npy", np.arange(len(ids) - 1, dtype=np.int32) // 4)
        write_json(new / "scores.json", scores)


def stored(layout: Layout, domain: str = DOMAIN, label: str = "adapted") -> Score:
    return Score(**read_json(layout.evaluated(MODEL, domain) / "scores.json")[label])


@pytest.fixture(scope="module")
def settings() -> Settings:
    return small_study("kept")


@pytest.fixture(scope="module")
def layout(store: Path, settings: Settings, checkpoint: Path) -> Layout:
    """Real results, published."""
    layout = fill(store, settings, checkpoint)
    publication.publish(settings, layout)
    return layout


@pytest.fixture(scope="module")
def said(settings: Settings, layout: Layout) -> str:
    """What the first registration says."""
    return register(settings, layout, MODEL, DOMAIN, None)


@pytest.fixture(scope="module")
def version(said: str, client: MlflowClient) -> ModelVersion:
    """The version that it made."""
    return client.get_model_version("kept-tiny-mpmath", "1")


@pytest.fixture(scope="module")
def run(version: ModelVersion, client: MlflowClient) -> Run:
    """The run that it is of."""
    return client.get_run(str(version.run_id))


def files(version: ModelVersion) -> Path:
    return Path(unquote(urlsplit(version.source).path))


def logged_model(run: Run, client: MlflowClient) -> LoggedModel:
    assert run.outputs
    (output,) = run.outputs.model_outputs
    return client.get_logged_model(output.model_id)


# --- in and back


def test_a_loaded_model_has_the_perplexity_that_was_stored(said: str, layout: Layout) -> None:
    import mlflow

    parts = mlflow.transformers.load_model("models:/kept-tiny-mpmath/1", return_type="components")
    ids, n_bytes = tokenization.encode(parts["tokenizer"], read_texts(layout.split(DOMAIN, "test")), "\n")
    found = Score.of(scoring.token_nll(parts["model"], ids, SHAPE.context, 64), n_bytes)
    assert found == stored(layout)
    assert found.perplexity != stored(layout, label="zero_shot").perplexity
    assert parts["model"].dtype == torch.float32


def test_the_files_are_a_checkpoint_for_the_other_commands(
    version: ModelVersion, layout: Layout, tmp_path: Path
) -> None:
    model = files(version) / "model"
    (tmp_path / "rows.txt").write_text("\n".join(read_texts(layout.split(DOMAIN, "test"))))
    assert score_file(str(model), tmp_path / "rows.txt")["perplexity"] == stored(layout).perplexity
    for name, expected in read_json(layout.adapted(MODEL, DOMAIN) / MANIFEST)["files"].items():
        assert name.endswith(".csv") or sha256(model / name) == expected
    assert not list(model.rglob("*.csv"))


def test_predict_goes_on_with_a_text_however_long(said: str) -> None:
    import mlflow

    model = mlflow.pyfunc.load_model("models:/kept-tiny-mpmath/1")
    start = "The value of row"
    (short,), (longer,) = (model.predict(start, params={"max_new_tokens": n}) for n in (1, 5))
    assert start < short < longer
    text = f"{start} " * 100  # many times the context
    assert model.predict(text, params={"max_new_tokens": 5})[0].startswith(text)


@pytest.mark.slow
def test_the_card_does_what_it_says(version: ModelVersion, layout: Layout) -> None:
    card = str(version.description)
    (code,), (shell,) = (re.findall(rf"```{language}\n(.*?)```", card, re.DOTALL) for language in ("python", "sh"))
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["tokenizer"]("The").input_ids
    assert names["model"].num_parameters() > 0
    assert names["text"][0].startswith("The first")
    Path("rows.txt").write_text("\n".join(read_texts(layout.split(DOMAIN, "test"))))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-euc", shell], env=environment, check=True, capture_output=True, text=True)
    assert f"perplexity     {stored(layout).perplexity:.6g}" in done.stdout
    assert f"**{stored(layout).perplexity:,.2f}**" in card


# --- what the registry holds


def test_a_version_leads_to_its_run(
    said: str, version: ModelVersion, run: Run, client: MlflowClient, layout: Layout
) -> None:
    assert (run.data.tags["model"], run.data.tags["domain"]) == (MODEL, DOMAIN)
    assert said.splitlines()[0] == (
        "registered version 1 of kept-tiny-mpmath in sqlite:///mlflow.db, "
        f"from the run '{run.info.run_name}' ({run.info.run_id})"
    )
    expected = {"study": "kept", "model": MODEL, "domain": DOMAIN, "seed": "0"}
    expected["weights_sha256"] = sha256(layout.adapted(MODEL, DOMAIN) / "model.safetensors")
    assert {key: value for key, value in version.tags.items() if key != "odyssey.digest"} == expected
    assert not version.aliases
    logged = logged_model(run, client)
    assert (logged.source_run_id, str(logged.status)) == (run.info.run_id, "READY")
    assert logged.params == run.data.params
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "kept-tiny-mpmath", "version": "1"}]


def test_the_models_numbers_are_its_runs_and_the_run_keeps_one_of_each(
    run: Run, client: MlflowClient, layout: Layout
) -> None:
    numbers = logged_model(run, client).metrics or []
    assert pytest.approx(stored(layout).perplexity, rel=1e-5) in [metric.value for metric in numbers]
    assert run.inputs
    (test,) = (i.dataset for i in run.inputs.dataset_inputs if i.dataset.name == f"{DOMAIN}/test")
    for metric in numbers:
        assert (metric.dataset_name, metric.dataset_digest) == (test.name, test.digest)
        assert metric.value == run.data.metrics[metric.key]
        assert len(client.get_metric_history(run.info.run_id, metric.key)) == 1


def test_the_same_bytes_are_registered_once(said: str, settings: Settings, layout: Layout) -> None:
    again = register(settings, layout, MODEL, DOMAIN, None)
    assert again == "nothing to do: version 1 of kept-tiny-mpmath in sqlite:///mlflow.db has these bytes"


def test_other_bytes_are_the_next_version(client: MlflowClient, checkpoint: Path, tmp_path: Path) -> None:
    settings = small_study("anew")
    layout = fill(tmp_path, settings, checkpoint)
    ends = []
    for shift in (0.01, 0.02):
        adapt(settings, layout, checkpoint, shift)
        publication.publish(settings, layout)
        ends.append(register(settings, layout, MODEL, DOMAIN, "it's one").splitlines()[0])
    assert [said.split(" in ")[0] for said in ends] == [f"registered version {n} of it's one" for n in (1, 2)]
    first, second = (client.get_model_version("it's one", n) for n in "12")
    assert first.run_id != second.run_id
    assert first.tags["odyssey.digest"] != second.tags["odyssey.digest"]
    # The first weights again, but with another analysis: their run is another, the bytes are not.
    adapt(settings, layout, checkpoint, 0.01)
    with new_folder(tmp_path / "other", {}) as new:
        shutil.copytree(layout.tokens(MODEL, LONG), new, dirs_exist_ok=True)
        (new / MANIFEST).unlink()
    shutil.rmtree(layout.tokens(MODEL, DOMAIN))
    (tmp_path / "other").rename(layout.tokens(MODEL, DOMAIN))
    claims.run(settings, layout)
    publication.publish(settings, layout)
    again = register(settings, layout, MODEL, DOMAIN, "it's one")
    assert again.startswith("nothing to do: version 1 of it's one ")
    assert again.endswith(f"; it is of an earlier run, {first.run_id}")


def test_a_base_model_is_the_summarys(client: MlflowClient, settings: Settings, layout: Layout) -> None:
    said = register(settings, layout, MODEL, None, None)
    version = client.get_model_version("kept-tiny", "1")
    assert "from the run 'kept summary'" in said
    assert client.get_run(str(version.run_id)).info.run_name == "kept summary"
    assert "domain" not in version.tags
    for domain in settings.adapted:
        perplexity = stored(layout, domain, "zero_shot").perplexity
        assert f"- Test split of `{domain}`: perplexity {perplexity:,.2f}, " in str(version.description)
    model = files(version) / "model"
    assert sha256(model / "model.safetensors") == sha256(layout.pretrained(MODEL) / "model.safetensors")
    card = (model / "README.md").read_text()
    for path in (layout.source, layout.split(LONG, "test")):
        assert sha256(path) in card
    assert "- Adaptation" not in card


def test_a_checkpoint_of_ones_own_is_registered_as_it_is_and_loaded_as_it_was_scored(
    client: MlflowClient, checkpoint: Path, tmp_path: Path
) -> None:
    import mlflow

    settings = small_study("own")
    layout = fill(tmp_path, settings, checkpoint)
    network, tokenizer = models.load(checkpoint)
    own = tmp_path / "mine"
    models.save(network.bfloat16(), tokenizer, own)
    (own / "training.log").write_text("not a part of it")
    (own / "pytorch_model.bin").write_bytes(b"a pickle")
    chosen = PublishedModel(checkpoint=str(own), revision=None, context=16, adapt_learning_rate=1e-3)
    settings = settings.model_copy(update={"models": {MODEL: chosen}})
    with new_folder(layout.pretrained(MODEL), {}) as new:
        models.pin(str(own), None, new)
    publication.publish(settings, layout)
    register(settings, layout, MODEL, None, None)
    model = files(client.get_model_version("own-tiny", "1")) / "model"
    assert {path.name for path in model.iterdir()} == {*(path.name for path in checkpoint.iterdir()), "README.md"}
    assert sha256(model / "model.safetensors") == sha256(own / "model.safetensors")
    parts = mlflow.transformers.load_model("models:/own-tiny/1", return_type="components")
    assert settings.evaluate.precision == "float32"
    assert parts["model"].dtype == torch.float32
    (own / "config.json").write_text("{}")
    with pytest.raises(OdysseyError, match=r"mine: its files have changed since they were looked at; run `dvc repro"):
        register(settings, layout, MODEL, None, None)


def test_signature_environment_and_files(version: ModelVersion) -> None:
    folder = files(version)
    about = yaml.safe_load((folder / "MLmodel").read_text())
    inputs, outputs, params = (json.loads(about["signature"][key]) for key in ("inputs", "outputs", "params"))
    assert inputs == outputs == [{"type": "string", "required": True}]
    assert {param["name"]: param["default"] for param in params} == {"max_new_tokens": 20, "do_sample": False}
    pinned = set((ROOT / "requirements.lock").read_text().splitlines())
    needed = (folder / "requirements.txt").read_text().splitlines()
    assert any(line.startswith("transformers==") for line in needed)
    assert set(needed) <= pinned
    assert yaml.safe_load((folder / "conda.yaml").read_text())["dependencies"][-1] == {"pip": needed}
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert kinds <= {"", ".yaml", ".txt", ".json", ".safetensors", ".md"}
    assert not any(stat.S_ISLNK(path.lstat().st_mode) for path in folder.rglob("*"))


# --- what is in the way


def test_what_cannot_be_registered(settings: Settings, layout: Layout, tmp_path: Path, checkpoint: Path) -> None:
    for model, domain, message in (
        ("tyni", None, "no model 'tyni'"),
        (MODEL, "mpmaht", "no domain 'mpmaht' under 'adapt_to' in the study; did you mean 'mpmath'"),
        (MODEL, LONG, rf"tiny/{LONG}: holds no \*\.safetensors"),
    ):
        with pytest.raises(OdysseyError, match=message):
            register(settings, layout, model, domain, None)
    for name in ("a/b", "a:b", "", ".."):
        with pytest.raises(OdysseyError, match=re.escape(f"--name '{name}': ") + ".*; give another one"):
            register(settings, layout, MODEL, DOMAIN, name)
    with pytest.raises(OdysseyError, match=r"not there yet; run `dvc repro"):
        register(settings, Layout(tmp_path / "nothing"), MODEL, DOMAIN, None)


def test_what_is_not_published_is_not_registered(
    settings: Settings, layout: Layout, checkpoint: Path, tmp_path: Path
) -> None:
    other = Layout(tmp_path / "data")
    shutil.copytree(layout.data, other.data)
    adapt(settings, other, checkpoint, 0.03)
    for domain in (DOMAIN, None):
        with pytest.raises(OdysseyError, match="of study 'kept' are not published there; run `odyssey track` first"):
            register(settings, other, MODEL, domain, None)
    with pytest.raises(OdysseyError, match="of study 'never' are not published there"):
        register(settings.model_copy(update={"study": "never"}), layout, MODEL, DOMAIN, None)


def test_a_damaged_checkpoint_is_not_registered(settings: Settings, layout: Layout, tmp_path: Path) -> None:
    other = Layout(tmp_path / "data")
    shutil.copytree(layout.data, other.data)
    weights = other.adapted(MODEL, DOMAIN) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(OdysseyError, match=r"model.safetensors: damaged .* run `dvc repro adapt`"):
        register(settings, other, MODEL, DOMAIN, None)


def test_an_interrupted_registration_is_made_good(
    client: MlflowClient, settings: Settings, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def fail(*_: Any, **__: Any) -> None:
        raise MlflowException("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "log_model_artifacts", fail)
        with pytest.raises(OdysseyError, match=r"mlflow\.db: the disk is full; run the command again"):
            register(settings, layout, MODEL, DOMAIN, "broken")
    experiment = client.get_experiment_by_name("kept")
    assert experiment is not None

    def logged() -> list[str]:
        found = client.search_logged_models([experiment.experiment_id])
        return [str(one.status) for one in found if one.name == "broken"]

    assert logged() == ["PENDING"]
    assert register(settings, layout, MODEL, DOMAIN, "broken").startswith("registered version 1 ")
    assert logged() == ["READY"]


@pytest.mark.slow
def test_a_remote_registry(
    server: str, settings: Settings, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    publication.publish(settings, layout)
    assert register(settings, layout, MODEL, DOMAIN, None).startswith("registered version 1 ")
    assert register(settings, layout, MODEL, DOMAIN, None).startswith("nothing to do: version 1 ")
    with pytest.raises(OdysseyError, match="--name 'a/b': "):
        register(settings, layout, MODEL, DOMAIN, "a/b")
    got = mlflow.artifacts.download_artifacts("models:/kept-tiny-mpmath/1", dst_path=str(tmp_path))
    (tmp_path / "rows.txt").write_text("\n".join(read_texts(layout.split(DOMAIN, "test"))))
    assert score_file(f"{got}/model", tmp_path / "rows.txt")["perplexity"] == stored(layout).perplexity
    parts = mlflow.transformers.load_model("models:/kept-tiny-mpmath/1", return_type="components")
    assert parts["model"].num_parameters() > 0
