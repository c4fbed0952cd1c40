"""Stages `sample` and `pretrain` on what a stand-in hub serves and on a user's own files."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, read_study
from hub import Hub, go_offline, hub_fixture, read_folder
from hub_content import dolma, m2d2_archive, openwebtext, redpajama, tiny_model

from odyssey.corpora import retries
from odyssey.corpora.m2d2 import REPO
from odyssey.corpora.parquet import read_texts
from odyssey.errors import OdysseyError
from odyssey.layout import SOURCE, Layout
from odyssey.published import CORPORA
from odyssey.settings import Settings, validate
from odyssey.stages import pretrain, sample
from odyssey.store import MANIFEST, content_digest, read_json, sha256

__all__ = ["hub_fixture"]

TEXTS = [f"Text number {k}\nhas two lines: {'x' * (k % 7)}." for k in range(60)]
DOMAINS = {"hep-ex": {"corpus": "m2d2", "revision": "main"}, "General_referece": {"corpus": "m2d2", "revision": "main"}}
SPLITS = {"train": b"a b c\n\n  d e \nf\xff\n", "valid": b"v w\n", "test": b"t\nu\n"}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "RETRY_DELAYS", (0.0,))


def study(source: dict[str, Any], domains: dict[str, Any] = DOMAINS, **change: Any) -> Settings:
    """The study of GPT2-small with another source corpus and these domains."""
    raw = yaml.safe_load((ROOT / "studies" / "gpt2-small.yaml").read_text(encoding="utf-8"))
    raw |= {"source": source, "domains": domains, "adapt_to": "all", "models": {"m": model("of/nobody", None)}}
    return validate(raw | {"study": "s", "seed": 0, "accept_licenses": True} | change, "s.yaml")


def model(checkpoint: str, revision: str | None = "main", context: int = 32) -> dict[str, Any]:
    return {"checkpoint": checkpoint, "revision": revision, "context": context, "adapt_learning_rate": 1e-4}


def of(corpus: str, rows: int | None) -> dict[str, Any]:
    return {"corpus": corpus, "revision": "main", "rows": rows}


def serve(hub: Hub, texts: list[str] = TEXTS) -> None:
    """M2D2's two domains and the three source corpora."""
    archives: dict[str, bytes | Path] = {f"data/{name}.tar.gz": m2d2_archive(name, SPLITS) for name in DOMAINS}
    hub.add(REPO, "dataset", archives)
    hub.add(CORPORA["openwebtext"].repo, "dataset", dict(openwebtext(texts, 4)))
    listed, hosted = dolma(texts, 4, hub.cdn)
    for path, data in hosted.items():
        hub.add_host_file(path, data)
    hub.add(CORPORA["dolma"].repo, "dataset", dict(listed))
    hub.add(CORPORA["redpajama"].repo, "dataset", dict(redpajama(texts)))


def message(action: Callable[[], object]) -> str:
    with pytest.raises(OdysseyError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what is drawn


@pytest.mark.parametrize("corpus", ["openwebtext", "dolma", "redpajama"])
def test_a_source_corpus_is_drawn_from_all_its_files(hub: Hub, tmp_path: Path, corpus: str) -> None:
    serve(hub)
    layout = Layout(tmp_path)
    sample.run(study(of(corpus, None)), layout)
    assert sorted(read_texts(layout.source)) == sorted(TEXTS)
    assert read_json(layout.corpus(SOURCE) / "summary.json") == {"rows": 60, "documents": 60, "population_rows": 60}
    sample.run(study(of(corpus, 20)), layout)
    drawn = read_texts(layout.source)
    assert len(set(drawn)) == 20
    assert set(drawn) < set(TEXTS)
    assert read_json(layout.corpus(SOURCE) / "summary.json")["population_rows"] == 60
    assert not list(layout.sample.glob(".*"))


def test_the_same_rows_whatever_the_number_of_workers(hub: Hub, tmp_path: Path) -> None:
    serve(hub)
    found = []
    for workers, seed in ((1, 0), (3, 0), (1, 1)):
        settings = study(of("dolma", 20), seed=seed)
        rules = settings.sample.model_copy(update={"workers": workers})
        layout = Layout(tmp_path / f"{workers}-{seed}")
        sample.run(settings.model_copy(update={"sample": rules}), layout)
        found.append(sha256(layout.source))
    assert found[0] == found[1] != found[2]


def test_a_domain_of_m2d2_is_its_archive_line_by_line(hub: Hub, tmp_path: Path) -> None:
    serve(hub)
    layout = Layout(tmp_path)
    sample.run(study(of("redpajama", 5)), layout)
    assert read_texts(layout.split("hep-ex", "train")) == ["a b c", "d e", "f\ufffd"]
    assert read_texts(layout.split("hep-ex", "test")) == ["t", "u"]
    summary = read_json(layout.corpus("hep-ex") / "summary.json")
    assert summary["train"] == {"rows": 3, "words": 6}
    limited = study(of("redpajama", 5), sample={**SAMPLE, "rows": {"train": 2, "valid": None, "test": 1}})
    sample.run(limited, layout)
    assert read_texts(layout.split("hep-ex", "train")) == ["a b c", "d e"]
    assert read_texts(layout.split("hep-ex", "test")) == ["t"]
    assert read_json(layout.corpus("hep-ex") / "summary.json")["population_rows"] == 3


SAMPLE: dict[str, Any] = {"row_words": 50, "min_document_words": 3, "shingle_words": 8, "near_copy": 0.5, "workers": 1}
SAMPLE["rows"] = {"train": None, "valid": 3, "test": 3}


def test_finished_cells_are_kept_and_the_commit_is_recorded(hub: Hub, tmp_path: Path) -> None:
    serve(hub)
    settings, layout = study(of("openwebtext", 20)), Layout(tmp_path)
    sample.run(settings, layout)
    manifests = {path: path.stat().st_mtime_ns for path in layout.sample.rglob(MANIFEST)}
    assert len(manifests) == 3
    hub.requests.clear()
    sample.run(settings, layout)
    assert {path: path.stat().st_mtime_ns for path in layout.sample.rglob(MANIFEST)} == manifests
    assert not hub.gets("*/resolve/*")
    made_from = read_json(layout.corpus("hep-ex") / MANIFEST)["made_from"]
    assert len(made_from["commit"]) == 40
    # Another revision of one repository: only what is of it is made again.
    hub.add(
        REPO, "dataset", {f"data/{name}.tar.gz": m2d2_archive(name, SPLITS | {"test": b"new\n"}) for name in DOMAINS}
    )
    sample.run(settings, layout)
    assert read_texts(layout.split("hep-ex", "test")) == ["new"]
    assert (layout.corpus(SOURCE) / MANIFEST).stat().st_mtime_ns == manifests[layout.corpus(SOURCE) / MANIFEST]


def test_a_draw_that_was_interrupted_goes_on(hub: Hub, tmp_path: Path) -> None:
    serve(hub)
    settings, layout = study(of("openwebtext", 20)), Layout(tmp_path / "data")
    hub.fail("*train-00002*", status=503, times=None)
    assert "out of order" in message(lambda: sample.run(settings, layout))
    assert not layout.corpus(SOURCE).exists()
    drawn = {path.name: path.stat().st_mtime_ns for path in layout.sample.glob(".source-*.partial/*.parquet")}
    assert len(drawn) == 2
    hub.mend()
    hub.requests.clear()
    (layout.sample / ".source-of-other-settings.partial").mkdir()
    sample.run(settings, layout)
    assert not list(layout.sample.glob(".*"))
    assert not [path for path in ("*train-00000*", "*train-00001*") if hub.gets(path)]
    undisturbed = Layout(tmp_path / "again")
    sample.run(settings, undisturbed)
    assert sha256(layout.source) == sha256(undisturbed.source)


def test_a_draw_that_was_finished_leaves_nothing_though_its_run_was_killed(hub: Hub, tmp_path: Path) -> None:
    """Between the corpus's being there and the end of what it was drawn from."""
    serve(hub)
    settings, layout = study(of("openwebtext", 20)), Layout(tmp_path)
    sample.run(settings, layout)
    before = (layout.corpus(SOURCE) / MANIFEST).stat().st_mtime_ns
    (layout.sample / ".source-0123456789ab.partial").mkdir()
    sample.run(settings, layout)
    assert not list(layout.sample.glob(".*"))
    assert (layout.corpus(SOURCE) / MANIFEST).stat().st_mtime_ns == before


# --- a user's own texts


def own(tmp_path: Path, count: int = 40) -> Path:
    """A folder of JSON lines with `count` documents of different words."""
    folder = tmp_path / "texts"
    folder.mkdir()
    records = [{"id": k, "body": " ".join(f"w{k}x{j}" for j in range(12))} for k in range(count)]
    with gzip.open(folder / "a.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    return folder


def test_own_texts_are_split_by_document(tmp_path: Path) -> None:
    own(tmp_path)
    (tmp_path / "texts" / "b.jsonl").write_text(json.dumps({"body": " ".join(f"w3x{j}" for j in range(12))}) + "\n")
    domain = {"corpus": "local", "portion": "mine", "path": "texts", "text": "body"}
    settings = study({"corpus": "local", "path": "texts", "text": "body", "rows": 10}, {"mine": domain}, sample=SAMPLE)
    layout = Layout(tmp_path / "data")
    sample.run(settings, layout, tmp_path)
    rows = {split: read_texts(layout.split("mine", split)) for split in ("train", "valid", "test")}
    # 41 documents, one a copy of another; a tenth of 40 is more than the 3 asked for.
    assert {split: len(found) for split, found in rows.items()} == {"train": 34, "valid": 3, "test": 3}
    assert len({row for found in rows.values() for row in found}) == 40
    # A model that was published is taken to have read the texts as they are.
    assert len(read_texts(layout.source)) == 10
    assert read_json(layout.corpus(SOURCE) / "summary.json")["population_rows"] == 41
    before = (layout.corpus("mine") / MANIFEST).stat().st_mtime_ns
    sample.run(settings, layout, tmp_path)
    assert (layout.corpus("mine") / MANIFEST).stat().st_mtime_ns == before
    (tmp_path / "texts" / "b.jsonl").unlink()
    sample.run(settings, layout, tmp_path)
    assert (layout.corpus("mine") / MANIFEST).stat().st_mtime_ns != before


def test_a_model_trained_here_reads_none_of_its_domains_texts(tmp_path: Path) -> None:
    folder = own(tmp_path)
    more = [{"body": " ".join(f"v{k}x{j}" for j in range(12))} for k in range(10)]
    (folder / "more.jsonl").write_text("".join(json.dumps(record) + "\n" for record in more))
    smoke = read_study(ROOT / "tests" / "smoke.yaml")
    domain = {"corpus": "local", "portion": "mine", "path": "texts/a.jsonl.gz", "text": "body"}
    raw = smoke.model_dump() | {"accept_licenses": False, "adapt_to": "all", "domains": {"mine": domain}}
    raw |= {"source": {"corpus": "local", "path": "texts", "text": "body", "rows": 50}}
    raw["sample"] = SAMPLE | {"rows": {"train": 10, "valid": 3, "test": 3}}
    layout = Layout(tmp_path / "data")
    sample.run(validate(raw, "own.yaml"), layout, tmp_path)
    used = {row for split in ("train", "valid", "test") for row in read_texts(layout.split("mine", split))}
    assert len(used) == 16
    assert sorted(read_texts(layout.source)) == sorted(record["body"] for record in more)


# --- published models


@pytest.mark.parametrize("family", ["gpt2", "olmo", "llama"])
def test_a_published_model_is_pinned_and_found_again(
    hub: Hub, tmp_path: Path, family: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from odyssey import models, scoring, tokenization

    commit = hub.add("some/model", "model", dict(read_folder(tiny_model(family, tmp_path / "made"))))
    settings, layout = study(of("openwebtext", 5), models={"m": model("some/model")}), Layout(tmp_path / "data")
    pretrain.run(settings, layout)
    held = read_json(layout.pretrained("m") / "published.json")
    assert (held["checkpoint"], held["commit"]) == ("some/model", commit)
    assert not list(hub.cache.rglob("*.bin"))  # pickles are left where they are
    # The branch moves on; what is loaded stays what was pinned, also without a network.
    hub.add("some/model", "model", {"config.json": b"{}"})
    go_offline(monkeypatch)
    network, tokenizer = models.load(layout.pretrained("m"))
    ids, _ = tokenization.encode(tokenizer, ["one row", "and another"], "\n")
    assert set(tokenization.newline_ids(tokenizer)) & set(ids.tolist())
    assert scoring.token_nll(network, ids, 32, 64).shape == (len(ids) - 1,)
    longer = study(of("openwebtext", 5), models={"m": model("some/model", commit, context=65)})
    for stage in (sample, pretrain):
        said = message(lambda stage=stage: stage.run(longer, Layout(tmp_path / "other")))  # type: ignore[misc]
        assert "longer than the 64 tokens" in said


def test_a_folder_of_the_same_name_does_not_replace_a_pinned_model(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from odyssey import models

    hub.add("some/model", "model", dict(read_folder(tiny_model("gpt2", tmp_path / "made"))))
    (tmp_path / "some" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    layout = Layout(tmp_path / "data")
    pretrain.run(study(of("openwebtext", 5), models={"m": model("some/model")}), layout)
    models.load(layout.pretrained("m"))


def test_a_model_that_cannot_be_had_is_found_out_before_corpora_are_fetched(hub: Hub, tmp_path: Path) -> None:
    serve(hub)
    hub.add("some/model", "model", {"config.json": b"{}"}, gated=True)
    for name, expected in (("some/model", "accept the licence"), ("some/other", "no such model")):
        settings = study(of("openwebtext", 5), models={"m": model(name)})
        assert expected in message(lambda settings=settings: sample.run(settings, Layout(tmp_path)))  # type: ignore[misc]
    assert not hub.gets("*openwebtext*")


def test_a_model_in_a_folder_is_hashed(tmp_path: Path, checkpoint: Path) -> None:
    import shutil

    from odyssey import models

    folder = Path(shutil.copytree(checkpoint, tmp_path / "model"))
    about = model(str(folder), None, context=16)
    settings, layout = study(of("openwebtext", 5), models={"m": about}), Layout(tmp_path / "data")
    pretrain.run(settings, layout)
    first = content_digest(layout.pretrained("m"))
    models.load(layout.pretrained("m"))
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert "config.json: missing or changed" in message(lambda: models.load(layout.pretrained("m")))
    pretrain.run(settings, layout)
    models.load(layout.pretrained("m"))
    assert content_digest(layout.pretrained("m")) != first


def test_a_published_model_that_lacks_weights_is_refused(hub: Hub, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny_model("gpt2", tmp_path / "made")
    weights = load_file(folder / "model.safetensors")
    del weights["h.0.mlp.c_fc.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    hub.add("some/model", "model", dict(read_folder(folder)))
    settings = study(of("openwebtext", 5), models={"m": model("some/model")})
    said = message(lambda: pretrain.run(settings, Layout(tmp_path / "data")))
    assert "lacks 1 weights" in said


# --- what goes wrong


def test_nothing_is_fetched_without_consent(hub: Hub, tmp_path: Path) -> None:
    serve(hub)
    settings = study(of("openwebtext", 5), models={"m": model("huggyllama/llama-7b")}, accept_licenses=False)
    for stage, source in ((sample, "machelreid/m2d2"), (pretrain, "huggyllama/llama-7b")):
        said = message(lambda stage=stage: stage.run(settings, Layout(tmp_path)))  # type: ignore[misc]
        assert f"{source} (" in said
        assert "--accept-licenses" in said
    assert not hub.gets("*resolve*")
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"data/hep-ex.tar.gz": m2d2_archive("hep-ex", SPLITS)[:100]}, "not a whole tar.gz archive"),
        ({"data/hep-ex.tar.gz": m2d2_archive("hep-ex", SPLITS, prefix="../../")}, "points outside the archive"),
        ({"data/hep-lat.tar.gz": b""}, "no such file; near it are data/hep-lat.tar.gz"),
    ],
)
def test_a_bad_archive_leaves_no_cell(hub: Hub, tmp_path: Path, files: dict[str, bytes], expected: str) -> None:
    serve(hub)
    hub.add(REPO, "dataset", dict(files))
    only = {"hep-ex": DOMAINS["hep-ex"]}
    assert expected in message(lambda: sample.run(study(of("openwebtext", 5), only), Layout(tmp_path)))
    assert (tmp_path / "sample" / "source").is_dir()  # what was finished is kept
    assert not (tmp_path / "sample" / "domains" / "hep-ex").exists()


def test_a_line_that_is_not_json_is_named(hub: Hub, tmp_path: Path) -> None:
    serve(hub)
    files = redpajama(TEXTS)
    files["arxiv_sample.jsonl"] += b"{broken\n"
    hub.add(CORPORA["redpajama"].repo, "dataset", dict(files))
    said = message(lambda: sample.run(study(of("redpajama", None)), Layout(tmp_path)))
    assert "arxiv_sample.jsonl, line 7: not JSON" in said


def test_restricted_and_unreachable_are_told_apart(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(hub)
    hub.add(REPO, "dataset", {"data/hep-ex.tar.gz": b""}, gated=True)
    run = lambda: sample.run(study(of("openwebtext", 5), {"hep-ex": DOMAINS["hep-ex"]}), Layout(tmp_path))  # noqa: E731
    assert "accept the licence on https://huggingface.co/datasets/machelreid/m2d2" in message(run)
    hub.shut_down()
    assert "cannot be reached" in message(run)
    go_offline(monkeypatch)
    assert "unset HF_HUB_OFFLINE" in message(run)
