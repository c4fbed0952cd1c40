"""Studies of the paper's shape from a stand-in hub through every stage to figures and MLflow, as users run them.

The project's own study files, with fewer domains and tiny models and corpora laid out as the real ones are.
Run by `make smoke`. The tests share one copy and stand in the order in which they use it.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub import Hub, read_folder
from hub_content import dolma, m2d2_archive, openwebtext, redpajama, tiny_model
from project import ROOT, Project

from odyssey.corpora.docstrings import read_documents
from odyssey.corpora.m2d2 import REPO
from odyssey.published import CORPORA
from odyssey.settings import load_settings
from odyssey.store import sha256

pytestmark = pytest.mark.slow

WIKI, S2ORC = "Culture_and_the_arts__Culture_and_Humanities", "hep-ex"
MEASURED = {WIKI: "click", S2ORC: "sympy.logic", "General_referece": "jinja2", "Philosophy": "networkx.utils"}
"""Domains, and whose documentation strings stand for their texts; models are adapted to the first two."""
MODELS = {"gpt2-small": "gpt2", "olmo-1b": "olmo", "llama-7b": "llama"}
LIKE_SMALL = ("gpt2-large", "gpt2-xl")
"""Studies that differ from gpt2-small's in the checkpoint and in what fits the GPU."""
CONTEXT = 64


def lines(module: str) -> list[str]:
    """Documentation strings as M2D2 has text: a paragraph a line."""
    return [" ".join(part.split()) for d in read_documents([module]) for part in d.text.split("\n\n") if part.strip()]


def archive(config: str, rows: Sequence[str]) -> bytes:
    train, valid = rows[: len(rows) * 8 // 10], rows[len(rows) * 8 // 10 : len(rows) * 9 // 10]
    splits = {"train": train[:150], "valid": valid[:10], "test": rows[len(rows) * 9 // 10 :][:15]}
    return m2d2_archive(config, {split: "\n\n".join(own).encode() for split, own in splits.items()}, prefix="./")


def small(name: str) -> dict[str, Any]:
    """A study's own file, cut down to what a test can run."""
    study: dict[str, Any] = yaml.safe_load((ROOT / "studies" / f"{name}.yaml").read_text(encoding="utf-8"))
    study["domains"] = {domain: {"corpus": "m2d2", "revision": "main"} for domain in MEASURED}
    study["adapt_to"] = [WIKI, S2ORC]
    study["models"][name] |= {"revision": "main", "context": CONTEXT, "adapt_learning_rate": 1e-3}
    study["source"] |= {"revision": "main", "rows": 40 if study["source"]["rows"] else None}
    study["embed"] |= {"max_texts": 20, "batch_size": 16}
    study["adapt"] |= {"batch_size": 4, "curve_points": 3, "train_start": 0.2}
    if isinstance(study["adapt"]["engine"], str):  # a file of settings
        study["adapt"]["engine"] = yaml.safe_load((ROOT / study["adapt"]["engine"]).read_text(encoding="utf-8"))
    study["adapt"]["engine"]["micro_batch_size"] = 2
    study["tokens"] = {"chunks": 2, "chunk_tokens": 256, "source_texts": 100}
    return study


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The hub with M2D2, the three source corpora and the three families of models."""
    folder = tmp_path_factory.mktemp("hub")
    texts = [document.text for document in read_documents(["flask"]) if len(document.text) > 80][:120]
    with Hub(folder) as stand_in:
        archives: dict[str, bytes | Path] = {
            f"data/{config}.tar.gz": archive(config, lines(module)) for config, module in MEASURED.items()
        }
        stand_in.add(REPO, "dataset", archives)
        stand_in.add(CORPORA["openwebtext"].repo, "dataset", dict(openwebtext(texts, 3)))
        listed, hosted = dolma(texts, 3, stand_in.cdn)
        for path, data in hosted.items():
            stand_in.add_host_file(path, data)
        stand_in.add(CORPORA["dolma"].repo, "dataset", dict(listed))
        stand_in.add(CORPORA["redpajama"].repo, "dataset", dict(redpajama(texts)))
        for name, family in (MODELS | dict.fromkeys(LIKE_SMALL, "gpt2")).items():
            checkpoint = yaml.safe_load((ROOT / "studies" / f"{name}.yaml").read_text())["models"][name]["checkpoint"]
            model = tiny_model(family, folder / name, texts=texts, context=CONTEXT)  # type: ignore[arg-type]
            stand_in.add(checkpoint, "model", dict(read_folder(model)))
        yield stand_in


@pytest.fixture(scope="module")
def copy(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("paper") / "project"
    yield Project(folder, "gpt2-small", {name: small(name) for name in (*MODELS, *LIKE_SMALL)}, **hub.environment)
    shutil.rmtree(folder.parent, ignore_errors=True)


def fetched(hub: Hub) -> list[str]:
    """Files whose content was asked for."""
    return [request.path for request in hub.gets() if "/resolve/" in request.path or "/cdn/" in request.path]


def check(copy: Project, study: str) -> None:
    """That every stage of a study has left what it should, in files and in MLflow."""
    data = copy.folder / "data" / study
    rows = list(csv.DictReader((data / "similarity" / "similarity.csv").open(encoding="utf-8")))
    assert [row["domain"] for row in rows] == list(MEASURED)
    assert [row["portion"] for row in rows] == ["Wiki", "S2ORC", "Wiki", "S2ORC"]
    assert {row["n_source"] for row in rows} == {"120" if study == "llama-7b" else "40"}
    for domain in (WIKI, S2ORC):
        scores = json.loads((data / "evaluate" / study / domain / "scores.json").read_text())
        assert scores["zero_shot"]["nll_sum"] != scores["adapted"]["nll_sum"]
        newlines = json.loads((data / "tokens" / study / domain / "summary.json").read_text())["newline_ids"]
        assert newlines
        assert study != "llama-7b" or newlines == [13]
        tokens = list(csv.DictReader((data / "tokens" / study / domain / "test.csv").open(encoding="utf-8")))
        assert {int(row["token_id"]) for row in tokens if row["token"] == "\\n"} & set(newlines)
    held = {path.stem for path in (data / "report" / "png").glob("*.png")}
    distance = {"olmo-1b": "figure5", "llama-7b": "figure6"}.get(study, "figure2")
    assert {distance, *(f"figure{number}_{study}" for number in (1, 3, 4))} <= held
    runs = copy.runs(study)
    assert {run.data.tags.get("domain") for run in runs} == {WIKI, S2ORC, None}
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_it_is_planned_before_anything_is_fetched(copy: Project, hub: Hub) -> None:
    said = copy.run("odyssey", "plan", "--study", "gpt2-small", "--gpu", "A100-80GB", "--json")
    found = json.loads(said[said.index("{") :])  # after the line that every command begins with
    assert found["study"] == "gpt2-small"
    assert found["sizes"].startswith("asked of the hub")
    assert found["totals"]["fetched"] > 0
    assert found["fits_gpu"]
    assert not fetched(hub)


def test_nothing_non_commercial_is_fetched_without_consent(copy: Project, hub: Hub) -> None:
    said = copy.run("dvc", "repro", status=255)
    assert "machelreid/m2d2" in said
    assert "accept_licenses: true" in said
    assert "--accept-licenses" in said
    assert not fetched(hub)
    assert not list((copy.folder / "data").rglob("*.parquet"))


def test_gpt2_on_openwebtext_by_dvc_repro(copy: Project) -> None:
    copy.run("odyssey", "study", "gpt2-small", "--accept-licenses")
    copy.run("dvc", "repro")
    check(copy, "gpt2-small")
    assert "up to date" in copy.run("dvc", "repro")
    # As here, dvc.lock is in git: `dvc exp run` starts from what git has.
    copy.commit("dvc.lock")


def contents(copy: Project, study: str) -> dict[str, str]:
    """sha256 of a study's results; what tells when they were published is left out."""
    return {name: sha256(path) for name, path in copy.files(study).items() if "/track/" not in name}


def test_olmo_on_dolma_by_dvc_exp_run(copy: Project) -> None:
    copy.run("dvc", "exp", "run", "-S", "study=olmo-1b")
    check(copy, "olmo-1b")


def test_llama_on_redpajama_by_mlflow_run(copy: Project) -> None:
    before = contents(copy, "olmo-1b")
    copy.run("mlflow", "run", ".", "--env-manager", "local", "-P", "study=llama-7b")
    check(copy, "llama-7b")
    assert contents(copy, "olmo-1b") == before


def test_going_back_makes_nothing_again(copy: Project, hub: Hub) -> None:
    runs = {study: {run.info.run_id for run in copy.runs(study)} for study in MODELS}
    hub.requests.clear()
    # `dvc exp run` clears what is not of the study in use: it comes back from DVC's cache.
    assert "gpt2-small/adapt" not in " ".join(contents(copy, "gpt2-small"))
    said = copy.run("odyssey", "study", "gpt2-small")
    assert "looking in DVC's cache for what is not here: sample@gpt2-small" in said
    assert "Running stage" not in copy.run("dvc", "repro")
    check(copy, "gpt2-small")
    before = contents(copy, "gpt2-small")
    assert "Running stage" not in copy.run("dvc", "exp", "run", "-S", "study=olmo-1b")
    assert "Running stage" not in copy.run("dvc", "exp", "run", "-S", "study=gpt2-small")
    assert contents(copy, "gpt2-small") == before
    assert {study: {run.info.run_id for run in copy.runs(study)} for study in MODELS} == runs
    assert not fetched(hub)


def test_what_was_fetched_serves_offline(copy: Project, hub: Hub) -> None:
    before = contents(copy, "gpt2-small")
    shutil.rmtree(copy.folder / "data/gpt2-small/adapt/gpt2-small" / S2ORC)
    shutil.rmtree(copy.folder / "data/gpt2-small/sample")
    copy.environment["HF_HUB_OFFLINE"] = "1"
    hub.requests.clear()
    copy.run("odyssey", "sample")
    said = copy.run("odyssey", "adapt", "--model", "gpt2-small", "--domain", S2ORC)
    assert "1 of 1 domains to do" in said
    assert not hub.requests
    assert contents(copy, "gpt2-small") == before


def test_domains_chosen_by_similarity_can_be_named_by_a_study(copy: Project) -> None:
    said = copy.run("odyssey", "choose", "ends", "--by", "fd", "--count", "2")
    chosen = yaml.safe_load((copy.folder / "studies/selections/ends.yaml").read_text())
    assert len(chosen) == 2
    assert "adapt_to: studies/selections/ends.yaml" in said
    study = small("gpt2-small") | {"adapt_to": "studies/selections/ends.yaml"}
    (copy.folder / "studies/ends.yaml").write_text(yaml.safe_dump(study))
    copy.run("odyssey", "study", "ends")
    assert load_settings(copy.folder / "params.yaml").adapt_to == chosen


@pytest.mark.parametrize("name", LIKE_SMALL)
def test_larger_gpt2_on_openwebtext(copy: Project, name: str) -> None:
    copy.environment["HF_HUB_OFFLINE"] = "0"
    copy.run("odyssey", "study", name, "--accept-licenses")
    copy.run("dvc", "repro")
    check(copy, name)
