"""How rows are joined: a decomposition worked out, and the stage on a tiny model."""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, SHAPE
from hub_content import tiny_model
from hypothesis import given
from hypothesis import strategies as st

from odyssey import models, tokenization, training
from odyssey.corpora.parquet import Row, write_rows
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.planning.machine import Device, Machine
from odyssey.planning.plan import make_plan
from odyssey.science.joins import Joined, by_group, joint_tokens, total
from odyssey.sections import TrainedModel
from odyssey.settings import Settings, load_settings
from odyssey.stages import adapt, evaluate, joins
from odyssey.store import content_digest, new_folder, sha256

WAYS = ["newline", "space", "end_of_text"]
MODEL, DOMAINS = "one", ("click", "jinja2")
N_TEST = 9
END = "<|endoftext|>"


# --- the arithmetic


def test_a_change_is_the_joints_and_the_rests() -> None:
    # 4 tokens, one of them a joint: it goes from 1 to 5 nats, the others from 6 in all to 3.
    before, after = np.array([2.0, 1.0, 2.0, 2.0]), np.array([1.0, 5.0, 1.0, 1.0])
    (found,) = by_group(np.zeros(4, dtype=int), 1, before, after, np.array([False, True, False, False]))
    assert found == Joined(4, 7.0, 8.0, 1, 1.0, 5.0)
    assert found.change == 1 / 4
    assert found.joint_contribution == 4 / 4
    assert found.change_rest == -3 / 3
    assert found.perplexity == pytest.approx((math.exp(7 / 4), math.exp(2)))
    # 6 and 3 nats over 3 bytes
    assert found.bits_per_byte(3) == pytest.approx((2 / math.log(2), 1 / math.log(2)))


Token = st.tuples(st.integers(0, 4), st.floats(0, 30, width=32), st.floats(0, 30, width=32), st.booleans())


@given(st.lists(Token, min_size=1, max_size=200).filter(lambda tokens: not all(token[3] for token in tokens)))
def test_documents_sum_to_the_whole_and_parts_to_the_change(tokens: list[tuple[int, float, float, bool]]) -> None:
    group, before, after, joint = (np.array(column) for column in zip(*tokens, strict=True))
    parts = by_group(group, 5, before.astype(np.float32), after.astype(np.float32), joint)
    whole = total(parts)
    assert [part.tokens for part in parts] == np.bincount(group, minlength=5).tolist()
    assert whole.nll_before == pytest.approx(before.sum(), abs=1e-9)
    assert whole.joint_nll_after == pytest.approx(after[joint].sum(), abs=1e-9)
    rest = whole.change_rest * (whole.tokens - whole.joint_tokens) / whole.tokens
    assert whole.joint_contribution + rest == pytest.approx(whole.change, abs=1e-9)


def test_joints_begin_rows() -> None:
    # Rows: "7 5", joint 0 and "0 5", joint 0 and nothing, "6", which has no joint of its own.
    ids, row_of = np.array([7, 5, 0, 0, 5, 0, 6]), np.array([0, 0, 1, 1, 1, 2, 3])
    assert np.flatnonzero(joint_tokens(ids, row_of, 0)).tolist() == [2, 5]
    assert not joint_tokens(ids, row_of, 7).any()
    assert not joint_tokens(ids, row_of, None).any()
    assert joint_tokens(ids[:0], row_of[:0], 0).shape == (0,)


@pytest.mark.parametrize("family", ["gpt2", "olmo", "llama"])
def test_joints_are_found_whatever_the_tokenizer(family: Any, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model(family, tmp_path))
    rows = ["the history", "of the city", "(begins)", "the end"]
    for way, n in (("newline", 3), ("space", 0), ("end_of_text", 3)):
        separator = joins.separator_of(way, tokenizer, "it")  # type: ignore[arg-type]
        ids, _, row_of = tokenization.encode_by_row(tokenizer, rows, separator)
        joint = joint_tokens(ids, row_of, joins.joint_id(tokenizer, separator))
        assert joint.sum() == n
        assert not n or tokenization.token_texts(tokenizer, ids[joint].tolist()) == [separator] * n


# --- the stage


@pytest.fixture(scope="module")
def study(smoke_settings: Settings) -> Settings:
    """The smoke study with the tiny model, two domains and all ways of joining."""
    model = TrainedModel(architecture=SHAPE, pretrain_learning_rate=1e-3, adapt_learning_rate=1e-2)
    domains = {name: smoke_settings.domains[name] for name in DOMAINS}
    changed = {"models": {MODEL: model}, "domains": domains, "adapt_to": list(DOMAINS), "joins": WAYS}
    return smoke_settings.model_copy(update=changed)


@pytest.fixture(scope="module")
def given_data(study: Settings, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A data folder with splits, the tiny model, and the stages before `joins` run."""
    layout = Layout(tmp_path_factory.mktemp("data"))
    with new_folder(layout.pretrained(MODEL), {}) as folder:
        shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
    rng = np.random.default_rng(0)
    words = ["the", "value", "of", "row", "is", "returned", "see", "frame", "(and)", END]
    for domain in DOMAINS:
        with new_folder(layout.corpus(domain), {}) as folder:
            for split, n in (("train", 30), ("valid", 3), ("test", N_TEST)):
                texts = [" ".join([domain, *rng.choice(words, 8)]) for _ in range(n)]
                rows = [Row(f"d{k // 2}#{k % 2}", f"d{k // 2}", text) for k, text in enumerate(texts)]
                write_rows(folder / f"{split}.parquet", rows)
    adapt.run(study, layout)
    evaluate.run(study, layout)
    return layout


@pytest.fixture(scope="module")
def made(study: Settings, given_data: Layout) -> Layout:
    """The same after `joins`."""
    joins.run(study, given_data)
    return given_data


def test_a_cell_holds_every_pair_of_ways(study: Settings, made: Layout) -> None:
    assert json.loads((made.joins / "summary.json").read_text()) == {"joins": WAYS}
    for domain in DOMAINS:
        table = read(made.joined(MODEL, domain) / "joins.csv")
        assert [(row["trained"], row["scored"]) for row in table] == [(t, s) for t in WAYS for s in WAYS]
        documents = read(made.joined(MODEL, domain) / "documents.csv")
        for row in table:
            # The end-of-text tokens that stand in the rows themselves are no joints.
            assert int(row["joint_tokens"]) == (0 if row["scored"] == "space" else N_TEST - 1)
            own = [d for d in documents if (d["trained"], d["scored"]) == (row["trained"], row["scored"])]
            assert [d["document"] for d in own] == [f"d{k}" for k in range((N_TEST + 1) // 2)]
            for column in joins.SUMS:
                assert sum(float(d[column]) for d in own) == pytest.approx(float(row[column]), abs=1e-9)
            rest = float(row["change_rest"]) * (1 - int(row["joint_tokens"]) / int(row["tokens"]))
            assert float(row["joint_contribution"]) + rest == pytest.approx(float(row["change"]), abs=1e-9)
        for scored in WAYS:  # how adaptation joins makes no difference to the base model
            assert len({row["nll_before"] for row in table if row["scored"] == scored}) == 1


def test_the_studys_own_way_gives_what_evaluate_gives(study: Settings, made: Layout) -> None:
    assert study.evaluate.separator == "\n"
    for domain in DOMAINS:
        scores = json.loads((made.evaluated(MODEL, domain) / "scores.json").read_text())
        row = read(made.joined(MODEL, domain) / "joins.csv")[0]
        for label, column in (("zero_shot", "nll_before"), ("adapted", "nll_after")):
            assert float(row[column]) == pytest.approx(scores[label]["nll_sum"], abs=1e-9)
            assert int(row["tokens"]) == scores[label]["tokens"]


def test_another_way_is_trained_as_adapt_would(study: Settings, made: Layout, tmp_path: Path) -> None:
    spaced = study.model_copy(update={"evaluate": study.evaluate.model_copy(update={"separator": " "})})
    layout = Layout(Path(shutil.copytree(made.data, tmp_path / "data")))
    for stage in (adapt, evaluate):
        stage.run(spaced, layout, model=MODEL, domain=DOMAINS[0])
    scores = json.loads((layout.evaluated(MODEL, DOMAINS[0]) / "scores.json").read_text())
    row = next(r for r in read(made.joined(MODEL, DOMAINS[0]) / "joins.csv") if r["trained"] == r["scored"] == "space")
    assert float(row["nll_after"]) == pytest.approx(scores["adapted"]["nll_sum"], rel=1e-6)


def test_kept_cells_are_not_touched_and_adapts_checkpoint_is_not_trained_again(
    study: Settings, made: Layout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = DOMAINS
    before = sha256(made.joined(MODEL, first) / "joins.csv")
    stamp = (made.joined(MODEL, second) / "manifest.json").stat().st_mtime_ns
    shutil.rmtree(made.joined(MODEL, first))
    (made.joins / MODEL / "gone").mkdir()
    trained: list[str] = []
    plain = training.train

    def watched(*args: Any, label: str, **options: Any) -> Any:
        trained.append(label)
        return plain(*args, label=label, **options)

    monkeypatch.setattr(training, "train", watched)
    capsys.readouterr()
    joins.run(study, made)
    assert "1 of 2 domains to do, 1 kept" in capsys.readouterr().out
    assert trained == [f"{MODEL} on {first} joined by {way}" for way in ("space", "end_of_text")]
    assert sha256(made.joined(MODEL, first) / "joins.csv") == before
    assert (made.joined(MODEL, second) / "manifest.json").stat().st_mtime_ns == stamp
    assert not (made.joins / MODEL / "gone").exists()
    manifest = json.loads((made.joined(MODEL, first) / "manifest.json").read_text())
    assert manifest["made_from"]["adapted"] == content_digest(made.adapted(MODEL, first))
    assert set(manifest["files"]) == {"joins.csv", "documents.csv"}


def test_an_end_of_text_token_that_is_none_is_refused(study: Settings, made: Layout, tmp_path: Path) -> None:
    layout = Layout(Path(shutil.copytree(made.data, tmp_path / "data")))
    config = json.loads((layout.pretrained(MODEL) / "tokenizer_config.json").read_text())
    with new_folder(tmp_path / "base", {}) as folder:
        shutil.copytree(layout.pretrained(MODEL), folder, dirs_exist_ok=True)
        (folder / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": None}))
    shutil.rmtree(layout.pretrained(MODEL))
    (tmp_path / "base").rename(layout.pretrained(MODEL))
    with pytest.raises(OdysseyError, match=f"model '{MODEL}': its tokenizer has no end-of-text token; take end_of"):
        joins.run(study, layout, model=MODEL, domain=DOMAINS[0])
    _, tokenizer = models.load(made.pretrained(MODEL))

    class Split:
        """A tokenizer that takes its end-of-text token apart."""

        eos_token = "of the value"
        eos_token_id = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

        def __call__(self, *args: Any, **options: Any) -> Any:
            return tokenizer(*args, **options)

    with pytest.raises(OdysseyError, match="model 'it': its end-of-text token 'of the value' is not one token"):
        joins.separator_of("end_of_text", Split(), "it")  # type: ignore[arg-type]


def test_a_study_that_asks_for_none_has_a_result_at_once(tmp_path: Path) -> None:
    left = tmp_path / "mini" / "joins" / "small" / "pandas"
    left.mkdir(parents=True)
    (tmp_path / "params.yaml").write_text("study: mini\nseed: 0\naccept_licenses: false\n")
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    code = (
        "import sys; from odyssey.cli import main; main(sys.argv[1:], standalone_mode=False); "
        "assert 'torch' not in sys.modules"
    )
    options = ["--params", str(tmp_path / "params.yaml"), "--data", str(tmp_path), "joins"]
    subprocess.run([sys.executable, "-c", code, *options], check=True, cwd=tmp_path)
    assert [path.name for path in (tmp_path / "mini" / "joins").iterdir()] == ["summary.json"]
    assert json.loads((tmp_path / "mini" / "joins" / "summary.json").read_text()) == {"joins": None}


def test_the_plan_counts_the_ways_that_are_trained() -> None:
    machine = Machine(10**11, Device("processor", 10**11, None, 1e11), 10**12, 10**12, one_disk=True)
    study = load_settings(ROOT / "params.yaml", "newline")
    found = {stage.name: stage for stage in make_plan(study, None, machine, ask_hub=False).stages}
    # 400 rows x 50 words x 2.5 tokens for each of five domains, twice; 100 rows of test, 3 x (1 + 3) times
    assert found["joins"].tokens == 5 * (2 * 400 + 12 * 100) * 125
    none = study.model_copy(update={"joins": None})
    (stage,) = (one for one in make_plan(none, None, machine, ask_hub=False).stages if one.name == "joins")
    assert (stage.tokens, stage.flops, stage.hours, stage.disk) == (0, 0, 0, 0)


def test_the_newline_study_is_the_mini_study_with_other_questions() -> None:
    mini, newline = (load_settings(ROOT / "params.yaml", name).model_dump() for name in ("mini", "newline"))
    assert newline.pop("models") == {"small": mini.pop("models")["small"]}
    for raw in (mini, newline):
        for key in ("study", "adapt_to", "joins"):
            del raw[key]
    assert newline == mini


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
