"""`odyssey advise`: what it measures, how it forecasts, and what it says of bad input."""

from __future__ import annotations

import gzip
import importlib
import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from conftest import ROOT
from hub import Hub, hub_fixture, read_folder
from hub_content import openwebtext, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st

from odyssey.advisor import advice, probe, similarity, texts
from odyssey.advisor import forecast as forecasts
from odyssey.advisor.advice import Request, find_learning_rate
from odyssey.advisor.forecast import calibration, fit, forecast, unlike, verdict
from odyssey.advisor.render import render
from odyssey.advisor.texts import Texts
from odyssey.cli import main
from odyssey.corpora.parquet import Row, write_rows
from odyssey.errors import OdysseyError
from odyssey.published import CORPORA
from odyssey.science.overlap import ngram_overlap
from odyssey.store import write_json

__all__ = ["hub_fixture"]

WORDS = ["value", "row", "index", "frame", "returned", "of", "and", "see", "is", "its", "The", "in"]
Vectors = np.ndarray[Any, np.dtype[np.float32]]


def prose(documents: int, words: int, seed: int, vocabulary: Sequence[str] = WORDS) -> list[str]:
    """Documents of words drawn at random."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(list(vocabulary), words)) for _ in range(documents)]


def blocks(path: Path, documents: Sequence[str]) -> Path:
    """A text file, a document a block."""
    path.write_text("\n\n".join(documents), encoding="utf-8")
    return path


def of(documents: Sequence[Sequence[str]], name: str = "mine") -> Texts:
    words = sum(len(row.split()) for rows in documents for row in rows)
    return Texts(name, [list(rows) for rows in documents], len(documents), words)


def embed(rows: Sequence[str]) -> Vectors:
    """Unit vectors (n, 8) that depend on the words that a row has."""
    x = np.array([[sum(hash_of(word) >> k & 1 for word in row.split()) + 1 for k in range(8)] for row in rows])
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), dtype=np.float32)


def hash_of(word: str) -> int:
    return sum(ord(c) * 31**k for k, c in enumerate(word))


def message(action: Any) -> str:
    with pytest.raises(OdysseyError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- overlap


def test_overlap_worked_out() -> None:
    # Runs of three words: abc, bcd | xy, a short text's only one | none. Only abc stands in the others.
    found = ngram_overlap(["A b, c d.", "x y", "--"], ["z a b c", "y x"], 3, 0.5)
    assert found.ngrams == pytest.approx(1 / 3)
    assert (found.contained, found.contained_share) == (1, 0.5)
    with pytest.raises(ValueError, match="no document"):
        ngram_overlap(["..."], ["a"], 3, 0.5)


documents = st.lists(st.text("ab ", max_size=12), min_size=1, max_size=6)


@settings(deadline=None)
@given(documents, documents)
def test_overlap_is_whole_with_itself_and_never_falls_with_more_texts(own: list[str], others: list[str]) -> None:
    own = [*own, "a b"]
    assert ngram_overlap(own, [*others, *own], 3, 1.0)[:2] == (1.0, 1.0)
    few, more = ngram_overlap(own, others, 3, 0.5), ngram_overlap(own, [*others, "b a b a"], 3, 0.5)
    assert 0 <= few.ngrams <= more.ngrams <= 1
    assert few.contained <= more.contained


# --- texts


def test_rows_of_a_document_are_put_together(tmp_path: Path) -> None:
    rows = [Row(f"d{k // 2}#{k % 2}", f"d{k // 2}", f"row {k}") for k in range(6)]
    write_rows(tmp_path / "a.parquet", rows)
    # Two short rows of a document fit into one of 50 words.
    assert texts.read(tmp_path / "a.parquet", None, 0, "domain").documents == [
        ["row 0 row 1"],
        ["row 2 row 3"],
        ["row 4 row 5"],
    ]
    # Where all rows are of one "document", as in M2D2, none is known.
    write_rows(tmp_path / "b.parquet", [row._replace(document="train") for row in rows])
    assert len(texts.read(tmp_path / "b.parquet", None, 0, "domain").documents) == 6


def test_long_texts_become_rows_and_a_sample_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = blocks(tmp_path / "a.txt", [" ".join([str(k)] * 60) for k in range(40)])
    whole = texts.read(file, None, 0, "domain")
    assert [len(row.split()) for row in whole.documents[7]] == [50, 10]
    assert (whole.complete, whole.found, whole.words) == (True, 40, 2400)
    monkeypatch.setattr(texts, "KEPT_WORDS", 590)
    some = texts.read(file, None, 0, "domain")
    assert (some.complete, some.found, some.words, len(some.documents), some.kept_words) == (False, 40, 2400, 10, 600)
    assert some.documents == [rows for rows in whole.documents if rows in some.documents]
    assert texts.read(file, None, 1, "domain").documents != some.documents


def test_the_column_is_named_by_an_option(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"body": "some words"}\n', encoding="utf-8")
    assert message(lambda: texts.read(file, None, 0, "domain")).endswith(
        "no 'text'; there are 'body'; correct it with --text"
    )
    assert texts.read(file, "body", 0, "domain").documents == [["some words"]]
    # The name is the domain's column; the source corpus may have the usual one.
    with gzip.open(other := tmp_path / "b.json.gz", "wt", encoding="utf-8") as lines:
        lines.write('{"text": "other words"}\n')
    assert texts.read_source(str(other), "body", 0, tmp_path).documents == [["other words"]]
    assert "no such file or folder, nor one of openwebtext" in message(
        lambda: texts.read_source("web", None, 0, tmp_path)
    )


def test_a_corpus_of_the_hub_is_drawn_at_a_studys_revision_and_kept(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo, words = CORPORA["openwebtext"].repo, [f"Text number {k} of some." for k in range(30)]
    hub.add(repo, "dataset", dict(openwebtext(words, 2)))
    monkeypatch.setattr(texts, "HUB_TEXTS", 12)
    drawn = texts.read_source("openwebtext", None, 0, tmp_path)
    assert (drawn.found, drawn.complete, drawn.population) == (12, False, 8_013_769)
    assert {row for rows in drawn.documents for row in rows} <= set(words)
    assert drawn.commit is not None
    before = len(hub.gets("*.parquet"))
    assert texts.read_source("openwebtext", None, 0, tmp_path) == drawn
    assert len(hub.gets("*.parquet")) == before > 0
    assert texts._revision("openwebtext", ROOT) == "b4325f019c648b1641a1784748667e8b74e5e064"
    assert texts._revision("openwebtext", tmp_path) == "main"


# --- similarity


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 60))
def test_rows_are_spread_over_documents(sizes: list[int], wanted: int) -> None:
    numbered = [[(k, j) for j in range(size)] for k, size in enumerate(sizes)]
    taken = similarity.spread(numbered, wanted, np.random.default_rng(0))
    items = [item for document in taken for item in document]
    assert len(set(items)) == len(items) >= min(wanted, sum(sizes))
    most = max(map(len, taken))
    # As few of each as will do: with one less of each document, there would not be enough.
    assert most == 1 or sum(min(size, most - 1) for size in sizes) < wanted
    assert all(len({document for document, _ in rows}) == 1 for rows in taken)


def test_a_domain_like_the_source_is_as_far_from_it_as_itself() -> None:
    source = of([[row] for row in prose(300, 30, 0)])
    alike, other = (
        of([[row] for row in prose(80, 30, 1)]),
        of([[row] for row in prose(80, 30, 1, ["zeta", "omega", "phi"])]),
    )
    near, far = (similarity.measure(side, source, embed, lambda rows: 0, 0) for side in (alike, other))
    assert near.n == far.n == 80
    assert 0.7 < near.fd_ratio < 1.4 < 3 < far.fd_ratio
    assert near.fd_within == far.fd_within  # the same rows of the source corpus
    assert (near.contained_share, far.ngrams, near.lower_bound) == (0, 0, False)


def test_what_cannot_be_compared_is_refused() -> None:
    source = of([[row] for row in prose(200, 30, 0)], "corpus")
    few = of([[row] for row in prose(49, 30, 1)])
    assert "mine and corpus hold the same texts" in message(
        lambda: similarity.measure(of(source.documents[::-1]), source, embed, lambda rows: 0, 0)
    )
    assert "49 rows of at most 50 words in mine, 200 in corpus; needed are 50 and 150" in message(
        lambda: similarity.measure(few, source, embed, lambda rows: 0, 0)
    )
    long = of([["a b"], [f"word {k}" for k in range(400)]], "corpus")
    assert "corpus: too few documents" in message(
        lambda: similarity.measure(of([[row] for row in prose(99, 9, 1)]), long, embed, lambda rows: 0, 0)
    )


# --- forecast


def cell(domain: str = "d", **numbers: Any) -> dict[str, Any]:
    usual = {"parameters": 1e5, "learning_rate": 1e-3, "tokens": 3e4, "share": 0.25, "zero_shot": 4.0, "rows": 200.0}
    return {
        "domain": domain,
        "encoder": "minilm",
        "fd_ratio": 2.0,
        **usual,
        "half": 0.0,
        "change": 0.0,
        "change_low": -0.1,
        "change_high": 0.1,
    } | numbers


def test_the_spread_is_that_of_domains_left_out() -> None:
    # Forecast by the mean of the others: -3 by 1, -1 by 1/3 and so on, whatever the number of cells of each.
    cells = [cell(f"d{y}", outcome=y) for y in (-3, -1, 1, 3) for _ in range(2)]
    found = fit(cells, ())
    assert found.predict(cells[0]) == pytest.approx(0, abs=1e-12)
    squares = [16, 16 / 9]
    assert found.error == pytest.approx(math.sqrt(sum(squares) / 2))
    # The line through (1, 16) and (1/3, 16/9) is below 0 at 0; the best that is not goes through 0.
    slope = (16 * 1 + 16 / 9 / 3) / (1 + 1 / 9)
    assert found.growth == pytest.approx((0, slope))
    assert found.spread(-2) == pytest.approx(math.sqrt(2 * slope))
    assert found.spread(0) == pytest.approx(found.error / 2)
    # Student's t of 3 degrees of freedom is 1.638 at 0.9.
    assert found.freedom == 3
    assert found.interval(cells[0], 0.8)[1] == pytest.approx(1.638 * found.error / 2, rel=1e-3)
    assert found.p_worse(cells[0]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="4 domains are too few for 3 coefficients"):
        fit(cells, ("change", "log_fd_ratio"))


def test_a_plane_is_found_again() -> None:
    seen = [(0, 0.1), (1, -0.3), (2, 0.2), (3, 0.0), (4, -0.1), (5, 0.3)]
    cells = [cell(str(k), fd_ratio=math.exp(k), change=c, outcome=0.5 - 2 * k + 3 * c) for k, c in seen]
    found = fit(cells, ("change", "log_fd_ratio"))
    assert found.coefficients == pytest.approx([0.5, 3, -2])
    assert found.error == pytest.approx(0, abs=1e-9)


def spanned() -> list[dict[str, Any]]:
    """A calibration in which the outcome is twice the change at a ratio of 2, up to noise."""
    rng = np.random.default_rng(0)
    return [
        cell(f"d{k % 20}", fd_ratio=1.2 + 0.1 * (k % 20), change=c, half=c, outcome=2 * c + 0.05 * rng.normal())
        for k, c in enumerate(np.linspace(-0.5, 0.5, 80))
    ]


@settings(deadline=None, max_examples=30)
@given(st.floats(-0.6, 0.6))
def test_the_verdict_is_where_the_interval_lies(change: float) -> None:
    found = forecast(cell(change=change, half=change), spanned(), 0.8)
    assert not found.outside
    assert found.p_worse is not None
    assert found.interval[0] < found.change < found.interval[1]
    assert found.verdict == verdict(*found.interval)
    assert found.verdict == ("adapt" if found.p_worse < 0.1 else "do not adapt" if found.p_worse > 0.9 else "unclear")


def test_without_a_probe_similarity_answers() -> None:
    probed = ("share", "half", "change", "change_low", "change_high")
    bare = {key: value for key, value in cell().items() if key not in probed}
    found = forecast(bare, spanned(), 0.8)
    assert (found.basis, found.outside, found.precedents) == ("similarity", (), None)
    beyond = forecast({**bare, "parameters": 1e9}, spanned(), 0.8)
    assert (beyond.verdict, beyond.p_worse) == ("unclear", None)
    assert math.isnan(beyond.change)


def test_outside_of_the_calibration_the_probe_answers() -> None:
    found = forecast(cell(parameters=1.2e8, learning_rate=5e-5, encoder="other"), spanned(), 0.8)
    assert (found.change, found.interval, found.p_worse) == (0.0, (-0.1, 0.1), None)
    assert found.outside == (
        "encoder other",
        "parameters 1.2e+08 (seen: 1e+05 to 1e+05)",
        "learning rate 5e-05 (seen: 0.001 to 0.001)",
    )
    assert unlike(cell(fd_ratio=1.0), spanned()) == ("fd ratio 1 (seen: 1.2 to 3.1)",)


BEGINNINGS: dict[str, dict[str, Any]] = {
    "better": {"half": -0.1, "change": -0.2, "change_low": -0.3, "change_high": -0.1},
    "neither better nor worse": {"half": -0.1, "change": 0.0, "change_low": -0.1, "change_high": 0.1},
    "worse but falling": {"half": 0.3, "change": 0.2, "change_low": 0.1, "change_high": 0.3},
    "worse, not falling": {"half": 0.1, "change": 0.2, "change_low": 0.1, "change_high": 0.3},
    "worse, not falling, near the source": {"change": 0.2, "change_low": 0.1, "change_high": 0.3, "fd_ratio": 1.1},
}


@pytest.mark.parametrize("so_far", BEGINNINGS)
@pytest.mark.parametrize(("ends", "expected"), [((-1, -1, -1, -1, 1), "adapt"), ((1, 1, 1, 1, -1), "do not adapt"),
                                                ((1, 1, 1, -1, -1), "unclear"),
 ((1, 1, 1), "unclear"), ((), "unclear")])  # fmt: skip
def test_a_beginning_is_trusted_if_others_like_it_ended_alike(
    so_far: str, ends: tuple[int, ...], expected: str
) -> None:
    cells = [cell(**BEGINNINGS[so_far], outcome=end) for end in ends * 2]
    others = [cell(**how, outcome=-1) for name, how in BEGINNINGS.items() if name != so_far]
    found = forecast(cell(**BEGINNINGS[so_far], parameters=1e9), cells + others, 0.8)
    assert found.precedents == (so_far, 2 * ends.count(1), 2 * len(ends))
    assert found.verdict == expected


def test_the_calibration_is_whole() -> None:
    cells = calibration()
    assert len({(one["seed"], one["model"], one["domain"]) for one in cells}) == len(cells)
    assert len({one["domain"] for one in cells}) == 20
    numbers = [value for one in cells for value in one.values() if isinstance(value, float)]
    assert np.isfinite(numbers).all()
    assert not [one for one in cells if unlike(one, cells)]


# --- the probe's part and the held-out part


def test_whole_documents_are_dealt(checkpoint: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    many = of([[row, row] for row in prose(100, 20, 0)])
    dealt = probe.deal(many, tokenizer, 16, 0)
    whole = probe.encode(tokenizer, many.documents)
    assert dealt.total == len(whole.ids)
    # The probe's share, to the token; what is left of its last document is of no use.
    assert len(dealt.train) == round(0.25 * dealt.total)
    assert 0.7 < len(dealt.held_out.ids) / dealt.total < 0.75
    rows = str(tokenizer.decode(dealt.held_out.ids)).split("\n")
    assert len(rows) == 2 * len(np.unique(dealt.held_out.document))
    assert not set(rows) & set(str(tokenizer.decode(dealt.train)).split("\n"))
    again = probe.deal(many, tokenizer, 16, 0)
    np.testing.assert_array_equal(again.held_out.ids, dealt.held_out.ids)
    few = of([[row] for row in prose(24, 20, 0)])
    told = message(lambda: probe.deal(few, tokenizer, 16, 0))
    assert "mine: too few texts for an estimate: 24 documents, " in told
    assert "needed are 512 tokens to train a probe on, and as many in at least 20 others (in a .txt file" in told


def test_a_learning_rate_is_the_users_or_the_papers(tmp_path: Path) -> None:
    asked = Request(model="GPT2", source="s", domain=tmp_path)
    assert find_learning_rate(asked) == (5e-5, "the paper's")
    write_json(tmp_path / "published.json", {"checkpoint": "huggyllama/llama-7b", "commit": "c"})
    assert find_learning_rate(Request(str(tmp_path), "s", tmp_path)) == (5e-6, "the paper's")
    assert find_learning_rate(Request("of/mine", "s", tmp_path, learning_rate=0.1)) == (0.1, "yours")
    assert "model 'of/mine': say at which rate you would adapt it, with --learning-rate" in message(
        lambda: find_learning_rate(Request("of/mine", "s", tmp_path))
    )


# --- the command


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source corpus, texts like it, and a store for MLflow's runs."""
    folder = tmp_path_factory.mktemp("advise")
    blocks(folder / "source.txt", prose(200, 30, 0))
    blocks(folder / "domain.txt", prose(100, 20, 1))
    return folder


@pytest.fixture(autouse=True)
def _quick(sides: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are logged into the folder; vectors are made without an encoder's weights."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(sides)
    monkeypatch.setattr(advice, "load_encoder", lambda name, sha256: name)
    monkeypatch.setattr(advice, "encode", lambda encoder, rows, size, advance: embed(rows))
    monkeypatch.setattr(advice, "count_truncated", lambda encoder, rows: sum(" " not in row for row in rows))


def ask(model: Path | str, *options: str, domain: str = "domain.txt", rate: str = "1e-3", status: int = 0) -> Result:
    given = ["advise", "--model", str(model), "--source", "source.txt", "--domain", domain]
    result = CliRunner().invoke(main, [*given, *(["--learning-rate", rate] if rate else []), *options])
    assert result.exit_code == status, result.output
    return result


def test_advice_fits_on_a_screen_and_is_logged(checkpoint: Path, sides: Path) -> None:
    from mlflow import MlflowClient

    shown = ask(checkpoint).stdout.splitlines()
    assert len(shown) <= 28
    assert max(map(len, shown)) <= 80
    assert shown[0] == f"Should {checkpoint.parent.name}/{checkpoint.name} be adapted to domain.txt?"
    assert shown[2].partition(": ")[0] in ("ADAPT", "DO NOT ADAPT", "UNCLEAR")
    heads = [line[:16].strip() for line in shown[3:] if line and line[0] != " "]
    assert heads == ["Not calibrated", "Expected", "Similarity", "In the source", "Zero-shot", "Probe", "Texts",
                     "Would gain", "Would lose", "To be sure"]  # fmt: skip
    client = MlflowClient(f"sqlite:///{sides / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("advice")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags["verdict"] == shown[2].partition(": ")[0].lower()
    assert run.data.params["model/learning_rate"] == "0.001"
    assert run.data.metrics["zero_shot/perplexity"] > 1
    assert {"forecast/change", "similarity/fd_ratio", "probe/change_interval/low"} <= set(run.data.metrics)
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {
        "advice.json",
        "advice.txt",
        "tokens.json",
    }


def test_a_calibrated_forecast_is_shown(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = advice.advise(Request(str(checkpoint), "source.txt", Path("domain.txt"), learning_rate=1e-3))
    cells = [
        {**made.cell, "domain": f"d{k % 20}", "fd_ratio": 1 + 0.1 * (k % 20), "change": c, "outcome": 1 + c}
        for k, c in enumerate(np.linspace(-1, 1, 80).tolist())
    ]
    monkeypatch.setattr(forecasts, "calibration", lambda: cells)
    lines = render(made).splitlines()
    assert len(lines) <= 28
    assert lines[2] == "DO NOT ADAPT: the model should get worse at these texts"
    expected = 1 + made.cell["change"]
    assert lines[3].startswith(f"Expected        {expected:+.3f} nats per token (perplexity x{math.exp(expected):.2f})")
    assert "probability of worse 1.00" in lines[5]
    assert lines[6].startswith("From            probe and similarity, calibrated on 80 adaptations of the")


def test_json_has_all_of_it_and_is_the_same_again(checkpoint: Path) -> None:
    first, second = (json.loads(ask(checkpoint, "--json").stdout) for _ in range(2))
    for found in (first, second):
        assert found["probe"].pop("seconds") > 0
        assert found["cost"].pop("seconds") > 0
    assert first == second
    assert first["forecast"]["change"] == pytest.approx(first["probe"]["points"][-1]["change"], abs=1e-6)
    # The tokens' contributions are the change, divided up.
    assert sum(row["contribution"] for row in first["tokens"]) == pytest.approx(first["probe"]["change"], abs=1e-6)
    assert first["probe"]["tokens"] / first["domain"]["tokens"] == pytest.approx(0.25, abs=0.02)
    low, high = first["zero_shot"]["perplexity_interval"]
    assert low < first["zero_shot"]["perplexity"] < high
    assert first["cost"] == {"tokens": first["domain"]["tokens"], "steps": first["cost"]["steps"], "measured": True}
    assert not first["warnings"]


def test_without_probe_less_is_said(checkpoint: Path) -> None:
    found = json.loads(ask(checkpoint, "--json", "--no-probe").stdout)
    assert (found["verdict"], found["probe"], found["tokens"]) == ("unclear", None, [])
    assert found["forecast"]["change"] is None
    assert "Probe" not in ask(checkpoint, "--no-probe").stdout


def test_a_model_of_the_hub_is_known_by_its_commit(hub: Hub, tmp_path: Path) -> None:
    hub.add("of/mine", "model", read_folder(tiny_model("llama", tmp_path / "model", context=16)))
    found = json.loads(ask("of/mine", "--json", "--no-probe").stdout)
    assert (found["model"]["name"], found["model"]["learning_rate_from"]) == ("of/mine", "yours")
    assert re.fullmatch("[0-9a-f]{40}", found["model"]["commit"])
    assert "non-commercial use only: huggyllama/llama-7b" in ask("huggyllama/llama-7b", rate="", status=1).stderr


def test_contamination_is_reported(checkpoint: Path, sides: Path) -> None:
    blocks(sides / "read.txt", [*prose(200, 30, 0)[:30], *prose(70, 20, 1)])
    found = json.loads(ask(checkpoint, "--json", domain="read.txt").stdout)
    assert found["similarity"]["contained"] == 30
    assert found["warnings"][0].startswith("contamination: 43% of the domain's 8-grams and 30 of its documents")


def test_a_script_that_the_tokenizer_shatters_is_reported(checkpoint: Path, sides: Path) -> None:
    blocks(sides / "greek.txt", prose(100, 20, 1, ["λόγος", "γραμμή", "πίνακας", "τιμή", "στήλη", "αρχείο"]))
    found = json.loads(ask(checkpoint, "--json", domain="greek.txt").stdout)
    assert found["domain"]["bytes_per_token"] < 1.1 < 2 < found["source"]["bytes_per_token"]
    assert found["warnings"][0].startswith("the tokenizer shatters these texts: 1.0")


def test_rows_of_unlike_length_are_reported(checkpoint: Path, sides: Path) -> None:
    # Without spaces a row cannot be cut: the encoder reads its beginning, the source's rows have 30 words.
    blocks(sides / "long.txt", ["".join(row.split()) for row in prose(100, 20, 1)])
    found = json.loads(ask(checkpoint, "--json", domain="long.txt").stdout)
    assert [warning.partition(":")[0] for warning in found["warnings"]] == [
        "rows differ in length",
        "the encoder reads the beginning only of 100% of the domain's rows and 0% of the source's",
    ]


def test_bad_input_is_one_line(checkpoint: Path, sides: Path) -> None:
    def told(*options: str, **given: Any) -> str:
        lines = ask(checkpoint, *options, status=1, **given).stderr.strip().splitlines()
        assert lines[-1].startswith("Error: ")
        return lines[-1]

    assert "say at which rate you would adapt it" in told(rate="")
    assert "--source and --domain are the same, source.txt" in told(domain="source.txt")
    blocks(sides / "copy.txt", prose(200, 30, 0))
    assert "copy.txt and source.txt hold the same texts" in told(domain="copy.txt")
    assert "none.txt: no such file or folder" in told(domain="none.txt")
    blocks(sides / "few.txt", prose(10, 20, 1))
    assert "few.txt: too few texts for an estimate: 10 documents" in told(domain="few.txt")
    (sides / "blank.txt").write_text("\n \n", encoding="utf-8")
    assert "blank.txt: no text in it" in told(domain="blank.txt")
    assert "the probe changed nothing; is the learning rate of 1e-30 too low?" in told(rate="1e-30")
    blocks(sides / "alike.txt", [f"the same row {'again ' * 20}"] * 200)
    assert "alike.txt: its rows are all the same text" in told("--source", "alike.txt")


def test_a_long_context_is_probed_in_shorter_windows(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "LONGEST_CONTEXT", 8)
    made = advice.advise(Request(str(checkpoint), "source.txt", Path("domain.txt"), learning_rate=1e-3))
    assert made.context == 8
    assert made.probe is not None
    assert made.probe.tokens % 8 == 0


def test_a_study_that_cannot_be_read_does_not_hinder_advice(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    for name, content in {"a": "{", "b": "[1]", "c": "source: {corpus: dolma}", "d": "source: [1]"}.items():
        (tmp_path / "studies" / f"{name}.yaml").write_text(content)
    assert texts._revision("dolma", tmp_path) == "main"
    (tmp_path / "studies" / "e.yaml").write_text("source: {corpus: dolma, revision: abc}")
    assert texts._revision("dolma", tmp_path) == "abc"


# --- the validation


def test_the_published_validation_follows_from_the_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark = importlib.import_module("advisor")
    table = benchmark.validate(calibration())
    published = pd.read_csv(ROOT / "benchmarks" / "advisor.csv", keep_default_na=False)
    assert published[["seed", "model", "domain"]].equals(table[["seed", "model", "domain"]])
    assert published["advisor/verdict"].equals(table["advisor/verdict"])
    np.testing.assert_allclose(published["advisor/expected"], table["advisor/expected"], atol=1e-4)
    # What the README promises: a domain that was left out is forecast better than by either simple rule.
    report = importlib.import_module("advisor_report")
    ours, always, alone = (report.judge(table, rule) for rule in ("advisor", "always", "similarity"))
    findings = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    near = table[table["portion"] == "software"]
    for name, rule, row in (("advisor", "advisor", ours), ("similarity alone", "similarity", alone)):
        (line,) = re.findall(rf"(?m)^\| {name} \|(.*)\|$", findings)
        told = (row.sign, report.judge(near, rule).sign, row.brier, row.decided, row.right, row.coverage)
        assert [float(cell) for cell in line.split("|")] == pytest.approx(told, abs=0.0051)
    torch = table[table["domain"] == "torch"].groupby("model")["outcome"].mean()
    tiny, small = (f"×{math.exp(torch[model]):.2f}" for model in ("tiny", "small"))
    assert f"({tiny} with `tiny` and {small} with\n  `small`, on average)" in findings
    assert f"about worse or better in {ours.sign:.0%} of them" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert ours.sign > max(always.sign, alone.sign)
    assert ours.brier < min(always.brier, alone.brier)
    assert 0.7 <= ours.coverage <= 0.9
