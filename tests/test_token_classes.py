"""What kind of token a token is: worked-out answers, and the stage's vocabulary against a count of its own."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TEXTS
from hypothesis import given
from hypothesis import strategies as st

from odyssey import models
from odyssey.corpora.parquet import Row, write_rows
from odyssey.layout import SOURCE, Layout
from odyssey.science.splits import generator
from odyssey.science.token_classes import CLASSES, FUNCTION_WORDS, REST, SPECIFIC, classify, keyness, specific
from odyssey.settings import Settings
from odyssey.stages import tokens
from odyssey.stages.tokens import count_tokens, display, draw_texts
from odyssey.store import new_folder, sha256, write_json
from odyssey.tokenization import encode, token_texts

COUNTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=30).filter(
    lambda pairs: all(map(sum, zip(*pairs, strict=True)))
)


# -- keyness


def test_keyness_worked_out() -> None:
    # Two corpora of 4 tokens: the prior is the pooled counts (4, 4) scaled to 4, so (2, 2).
    # Odds 5/3 against 3/5; variance 1/5 + 1/3.
    log_odds, z = keyness(np.array([3, 1]), np.array([1, 3]))
    assert log_odds == pytest.approx([math.log(25 / 9), -math.log(25 / 9)])
    assert z == pytest.approx(log_odds / math.sqrt(8 / 15))
    # 8 and 2 tokens: pooled (7, 3), scaled to 2, so (1.4, 0.6).
    log_odds, _ = keyness(np.array([6, 2]), np.array([1, 1]))
    assert log_odds[0] == pytest.approx(math.log((7.4 / 2.6) / (2.4 / 1.6)))


def test_a_token_that_one_corpus_lacks_is_judged_by_its_count() -> None:
    n, counts = 1_000_000, [0, 1, 19, 20, 1000]
    domain, source = np.array([*counts, n - sum(counts)]), np.array([0, 0, 0, 0, 0, n])
    log_odds, z = keyness(domain, source)
    assert np.isfinite(log_odds).all()
    assert log_odds[0] == z[0] == 0
    assert log_odds[1:5] == pytest.approx(math.log(3), abs=0.01)  # (c + c/2) / (c/2)
    assert (np.diff(z[:5]) > 0).all()
    assert z[2] < 3 < z[3]
    assert specific(domain, source).tolist() == [False, False, False, True, True, False]


def test_a_large_difference_that_is_no_doubling_is_not_enough() -> None:
    # Of a million tokens each: 1.9 and 2 times the share, and twice with too few to tell.
    source = np.array([10_000, 10_000, 3, 979_997])
    domain = np.array([19_000, 20_000, 6, 960_994])
    _, z = keyness(domain, source)
    assert z[0] > 30
    assert z[2] < 3
    assert specific(domain, source).tolist() == [False, True, False, False]


@given(COUNTS)
def test_exchanged_corpora_change_the_sign(pairs: list[tuple[int, int]]) -> None:
    domain, source = (np.array(column) for column in zip(*pairs, strict=True))
    log_odds, z = keyness(domain, source)
    other_log_odds, other_z = keyness(source, domain)
    assert np.isfinite(z).all()
    np.testing.assert_allclose(log_odds, -other_log_odds, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(z, -other_z, rtol=1e-9, atol=1e-9)
    assert not (specific(domain, source) & specific(source, domain)).any()
    # The prior draws both corpora to the same shares and leaves their order.
    shares = domain / domain.sum() - source / source.sum()
    clear = np.abs(shares) > 1e-9
    assert (np.sign(log_odds[clear]) == np.sign(shares[clear])).all()


@given(COUNTS)
def test_a_corpus_has_nothing_of_its_own_against_itself(pairs: list[tuple[int, int]]) -> None:
    counts = np.array([first for first, _ in pairs])
    log_odds, z = keyness(counts, 3 * counts)
    np.testing.assert_allclose(log_odds, 0, atol=1e-12)
    np.testing.assert_allclose(z, 0, atol=1e-9)


def test_counts_that_cannot_be_compared_are_refused() -> None:
    for domain, source in (([1, 2], [1, 2, 3]), ([[1]], [[1]])):
        with pytest.raises(ValueError, match="of the same tokens"):
            keyness(np.array(domain), np.array(source))
    for domain, source in (([0, 0], [1, 2]), ([1], [0]), ([], []), ([-1, 3], [1, 2])):
        with pytest.raises(ValueError, match="at least one token"):
            specific(np.array(domain, dtype=int), np.array(source, dtype=int))


# -- classes


@pytest.mark.parametrize(
    ("expected", "texts"),
    [
        ("newline", ["\n", "\n\n", "\r\n", " \n", "\n    ", "\t\n"]),
        ("white space", ["", " ", "    ", "\t", "\r", "\u00a0", "\u2028"]),
        ("punctuation", [".", " (", "),", ">>>", " =", "\u20ac", "\u201c", ";\n", "''", "\u2014", " +", "`", "\u2208"]),
        ("digits", ["7", " 12", "1,000.5", "10:30", "\u00bd", "\u0663", "1 2", " 3\n"]),
        (
            "function word",
            [" the", "The", " THE", " a", "A", "I", " not", " whether", " Would", "'s", "\u2019t", "'LL"],
        ),
    ],
)
def test_what_a_text_decides(expected: str, texts: list[str]) -> None:
    for own in (False, True):
        assert classify(texts, np.full(len(texts), own)).tolist() == [expected] * len(texts)


def test_the_rest_is_a_domains_own_or_not() -> None:
    # Parts of words, of characters and of scripts; words; numbers in words; no function word inside a word.
    texts = [
        "the",
        "ing",
        " tensor",
        "None1",
        "x2",
        "3rd",
        "\ufffd",
        " \ufffd",
        ".\ufffd",
        "1\ufffd",
        "\u093f",
        "\u4e2d",
    ]
    texts += ["<|endoftext|>", "\u200b", "\x00", "thes", " a b", "1%"]
    assert set(classify(texts, np.zeros(len(texts), dtype=bool))) == {REST}
    assert set(classify(texts, np.ones(len(texts), dtype=bool))) == {SPECIFIC}
    with pytest.raises(ValueError, match="shorter"):
        classify(texts, np.zeros(len(texts) - 1, dtype=bool))


@given(st.lists(st.tuples(st.text(max_size=6), st.booleans()), max_size=20))
def test_every_token_has_one_class(pairs: list[tuple[str, bool]]) -> None:
    texts, own = [text for text, _ in pairs], np.array([mine for _, mine in pairs], dtype=bool)
    found = classify(texts, own)
    assert len(found) == len(texts)
    assert set(found.tolist()) <= set(CLASSES)
    for text, mine, name in zip(texts, own, found, strict=True):
        assert (name == SPECIFIC) <= mine
        assert (name == REST) <= (not mine)
        if name in ("newline", "white space"):
            assert not text.strip()
        if name == "punctuation":
            assert not any(c.isalnum() for c in text)
        if name == "digits":
            assert any(c.isnumeric() for c in text)
            assert not any(c.isalpha() and not c.isnumeric() for c in text)


def test_function_words_are_lower_case_and_enough() -> None:
    assert all(word == word.lower() for word in FUNCTION_WORDS)
    assert 150 <= len(FUNCTION_WORDS) <= 250
    assert {"the", "of", "and", "not", "because", "themselves", "ought"} <= FUNCTION_WORDS


# -- the stage


@pytest.fixture(scope="module")
def cell(
    smoke_settings: Settings, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Settings, Layout, dict[str, list[str]]]:
    """Everything that the stage reads, for one model and one domain; source, train and test as lists of rows."""
    layout, name = Layout(tmp_path_factory.mktemp("data")), "click"
    (model, about), *_ = smoke_settings.models.items()
    rules = smoke_settings.tokens.model_copy(update={"source_texts": 25, "chunk_tokens": 64})
    domains = {name: smoke_settings.domains[name]}
    shape = about.architecture.model_copy(update={"context": 16})  # type: ignore[union-attr]
    update = {"tokens": rules, "domains": domains, "adapt_to": [name]}
    settings = smoke_settings.model_copy(
        update={**update, "models": {model: about.model_copy(update={"architecture": shape})}}
    )
    own = [f"zap zap {k} quiz." for k in range(30)]
    texts = {
        "rows": [text.strip() for text in TEXTS],
        "train": own,
        "valid": own[:3],
        "test": [*own[:5], "The value; \u00e9"],
    }
    with new_folder(layout.corpus(SOURCE), {}) as folder:
        write_rows(folder / "rows.parquet", rows(texts["rows"]))
    with new_folder(layout.corpus(name), {}) as folder:
        for split in ("train", "valid", "test"):
            write_rows(folder / f"{split}.parquet", rows(texts[split]))
    network, tokenizer = models.load(checkpoint)
    for place in (layout.pretrained(model), layout.adapted(model, name)):
        with new_folder(place, {}) as folder:
            models.save(network, tokenizer, folder)
    tokens.run(settings, layout)
    return settings, layout, texts


def rows(texts: list[str]) -> list[Row]:
    return [Row(f"a#{k}", "a", text) for k, text in enumerate(texts)]


def table(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_vocabulary_is_what_plain_counting_finds(
    cell: tuple[Settings, Layout, dict[str, list[str]]], checkpoint: Path
) -> None:
    settings, layout, texts = cell
    _, tokenizer = models.load(checkpoint)
    folder = layout.tokens(next(iter(settings.models)), "click")

    def plain(some: list[str]) -> np.ndarray:
        ids = tokenizer(settings.evaluate.separator.join(some), add_special_tokens=False)["input_ids"]
        return np.array([Counter(ids)[token] for token in range(len(tokenizer))])

    drawn = sorted(generator(settings.seed, "tokens", "source").choice(40, 25, replace=False).tolist())
    train, test, source = plain(texts["train"]), plain(texts["test"]), plain([texts["rows"][k] for k in drawn])
    found, summary = table(folder / "vocabulary.csv"), json.loads((folder / "summary.json").read_text())
    assert (summary["train_tokens"], summary["source_tokens"]) == (train.sum(), source.sum())
    seen = np.flatnonzero(train + test)
    assert [int(row["token_id"]) for row in found] == seen.tolist()
    assert [int(row["train_count"]) for row in found] == train[seen].tolist()
    assert [int(row["source_count"]) for row in found] == source[seen].tolist()
    # Every digit of the floats is kept.
    for name, column in zip(("log_odds", "z"), keyness(train, source), strict=True):
        assert [float(row[name]) for row in found] == column[seen].tolist()
    assert [row["token"] for row in found] == [display(text) for text in token_texts(tokenizer, seen.tolist())]
    classes = {row["token"]: row["class"] for row in found}
    assert classes["\\n"] == "newline"
    assert classes["."] == classes[";"] == "punctuation"
    assert classes["7"] == "digits"
    assert classes["z"] == classes["q"] == SPECIFIC
    # What only the test split has is not the domain's: it is the training text that decides.
    assert any(row["train_count"] == "0" for row in found)
    assert not any(row["class"] == SPECIFIC for row in found if row["train_count"] == "0")


def test_another_source_makes_the_cell_again(
    cell: tuple[Settings, Layout, dict[str, list[str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, layout, texts = cell
    folder = layout.tokens(next(iter(settings.models)), "click")
    before = sha256(folder / "vocabulary.csv")
    capsys.readouterr()
    tokens.run(settings, layout)
    assert "0 of 1 domains to do, 1 kept" in capsys.readouterr().out
    with new_folder(layout.corpus(SOURCE), {}) as new:
        write_rows(new / "rows.parquet", rows(texts["rows"][:9]))
        write_json(new / "summary.json", {})
    tokens.run(settings, layout)
    assert "1 of 1 domains to do, 0 kept" in capsys.readouterr().out
    assert sha256(folder / "vocabulary.csv") != before
    # Nine texts are fewer than the 25 that are asked for: all of them.
    _, tokenizer = models.load(layout.pretrained(next(iter(settings.models))))
    ids, _ = encode(tokenizer, texts["rows"][:9], settings.evaluate.separator)
    assert json.loads((folder / "summary.json").read_text())["source_tokens"] == len(ids)


@pytest.mark.parametrize("batch", [1, 7, 40, 1000])
@pytest.mark.parametrize("separator", ["\n", " ", "\n\n"])
def test_counts_are_those_of_the_whole_whatever_the_batch(
    batch: int, separator: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tokenizer = models.load(checkpoint)
    texts = [text.strip() for text in TEXTS]
    whole = tokenizer(separator.join(texts), add_special_tokens=False)["input_ids"]
    monkeypatch.setattr(tokens, "BATCH", batch)
    counts = count_tokens(tokenizer, texts, separator)
    assert counts.tolist() == np.bincount(whole, minlength=len(tokenizer)).tolist()


def test_texts_are_drawn_in_order_and_once(tmp_path: Path) -> None:
    path, texts = tmp_path / "rows.parquet", [str(k) for k in range(30)]
    write_rows(path, rows(texts))
    first = draw_texts(path, 10, np.random.default_rng(0))
    assert len(set(first)) == 10
    assert first == sorted(first, key=int)
    assert first != draw_texts(path, 10, np.random.default_rng(1))
    assert draw_texts(path, 30, np.random.default_rng(0)) == draw_texts(path, 99, np.random.default_rng(0)) == texts
