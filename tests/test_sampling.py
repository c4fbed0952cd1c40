"""From documentation strings to splits: rows, near-copies, and no leak."""

from __future__ import annotations

import json
import re
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odyssey.corpora.docstrings import belongs, read_documents
from odyssey.corpora.parquet import Row, read_texts, write_rows
from odyssey.errors import OdysseyError
from odyssey.layout import SUMMARY, Layout
from odyssey.science.copies import keep_originals, shingle_ids
from odyssey.science.rows import pack, paragraphs
from odyssey.science.splits import generator, split_documents
from odyssey.sections import SPLITS, LocalDomain
from odyssey.settings import Settings
from odyssey.stages import embed, sample
from odyssey.store import read_json, sha256, write_json

WORDS = st.lists(st.sampled_from("abcdefgh"), max_size=60).map(" ".join)


def test_paragraphs_are_single_lines_without_underlines() -> None:
    text = "Title\n=====\n\nParameters\n----------\nx : int\n    The  value.\n\n\n***\n"
    assert list(paragraphs(text)) == ["Title", "Parameters x : int The value."]


def test_pack_joins_short_and_cuts_long_lines() -> None:
    assert pack(iter(["a b", "c", "d e f g h i j"]), 4) == ["a b c", "d e f g", "h i j"]


@given(st.lists(WORDS, max_size=8), st.integers(1, 12))
def test_pack_loses_no_word_and_keeps_the_limit(lines: list[str], limit: int) -> None:
    rows = pack((line for line in lines if line), limit)
    assert " ".join(rows).split() == " ".join(lines).split()
    assert all(0 < len(row.split()) <= limit for row in rows)


def test_shingles_worked_out() -> None:
    # Runs of two: "a b", "b c" | "B, c" is the second of them again, "c a" is new.
    ids, bounds = shingle_ids(["a b c", "B, c a", "!"], 2)
    assert bounds.tolist() == [0, 2, 4, 4]
    assert ids[1] == ids[2]
    assert len(set(ids.tolist())) == 3


def test_a_text_contained_in_a_longer_one_is_a_near_copy_whatever_the_order() -> None:
    long = " ".join(f"w{k}" for k in range(30))
    short = " ".join(f"w{k}" for k in range(5, 20))
    other = " ".join(f"v{k}" for k in range(15))
    assert keep_originals([short, other, long], 4, 0.5) == [1, 2]
    assert keep_originals([long, short, other], 4, 0.5) == [0, 2]


@given(st.lists(WORDS, max_size=12))
def test_no_kept_text_is_half_in_another(texts: list[str]) -> None:
    kept = [texts[i] for i in keep_originals(texts, 3, 0.5)]
    for a, b in combinations(kept, 2):
        assert _containment(a, b, 3) < 0.5


@given(st.lists(WORDS, max_size=8), st.lists(WORDS, max_size=6))
def test_late_texts_do_not_change_which_others_are_kept(texts: list[str], late: list[str]) -> None:
    kept = keep_originals(texts + late, 3, 0.5, [False] * len(texts) + [True] * len(late))
    assert [i for i in kept if i < len(texts)] == keep_originals(texts, 3, 0.5)
    # And none of them is a copy of another.
    twice = [False] * len(texts) + [True] * len(texts)
    assert keep_originals(texts * 2, 3, 0.5, twice) == keep_originals(texts, 3, 0.5)


def test_splits_share_no_document_and_shrink_in_proportion() -> None:
    documents = [[f"{d}.{k}" for k in range(10)] for d in range(12)]  # 120 rows
    wanted = {"train": 160, "valid": 20, "test": 60}  # 240: every split is halved
    splits, left = split_documents(documents, wanted, np.random.default_rng(0))
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 80, "valid": 10, "test": 30}
    owners = [{row.split(".")[0] for row in rows} for rows in splits.values()]
    assert all(a.isdisjoint(b) for a, b in combinations(owners, 2))
    assert left == []


def test_generators_depend_on_seed_and_purpose_only() -> None:
    assert generator(1, "a", "b").random() == generator(1, "a", "b").random()
    assert len({generator(s, *p).random() for s in (1, 2) for p in (("a", "b"), ("ab",), ("b", "a"))}) == 6


def test_documents_are_parsed_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "trap"
    (package / "tests").mkdir(parents=True)
    (package / "__init__.py").write_text('"""Top."""\nraise RuntimeError("imported")\n')
    (package / "a.py").write_text(
        '"""A."""\nclass C:\n    """Of C."""\n    if True:\n        def f(self):\n            """Of f."""\n'
    )
    (package / "tests" / "b.py").write_text('"""Left out."""\n')
    (package / "broken.py").write_text('"""x""" {% template %}\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    found = read_documents(["trap"])
    assert [(d.id, d.text) for d in found] == [
        ("trap.a:", "A."),
        ("trap.a:C", "Of C."),
        ("trap.a:C.f", "Of f."),
        ("trap:", "Top."),
    ]
    assert belongs("trap.a:C", ["trap"])
    assert not belongs("trap.a:C", ["tra", "trap.b"])


def test_unknown_module_is_named() -> None:
    with pytest.raises(OdysseyError, match=r"'no_such_package'.*not installed"):
        read_documents(["no_such_package"])
    with pytest.raises(OdysseyError, match=r"'click\.nothing'.*no Python source"):
        read_documents(["click.nothing"])


def test_parquet_round_trip_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, [Row("d#0", "d", "é\u2028x"), Row("d#1", "d", "y")])
    assert read_texts(path) == ["é\u2028x", "y"]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(OdysseyError, match=r"rows\.parquet.*not a readable Parquet"):
        read_texts(path)
    with pytest.raises(OdysseyError, match=r"run `dvc repro sample` first"):
        read_texts(tmp_path / "none.parquet")


@pytest.fixture(scope="module")
def sampled(smoke_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(tmp_path_factory.mktemp("data"))
    sample.run(smoke_settings, layout)
    return layout


def test_no_document_nor_near_copy_is_in_two_places(smoke_settings: Settings, sampled: Layout) -> None:
    """By brute force over the words of every pair, apart from the code that removed them."""
    rules = smoke_settings.sample
    places = {"source": _documents(sampled.source)}
    for name in smoke_settings.domains:
        for split in ("train", "valid", "test"):
            places[f"{name}/{split}"] = _documents(sampled.split(name, split))
    for (_, a), (_, b) in combinations(places.items(), 2):
        assert a.keys().isdisjoint(b.keys())
        others = [set(_shingles(text, rules.shingle_words)) for text in b.values()]
        for text in a.values():
            own = set(_shingles(text, rules.shingle_words))
            # The rule counts repeated shingles, in the unsplit documents; these are sets, of rows
            # that may be a document's first part only: so two thirds instead of a half.
            assert all(len(own & other) < max(2, 2 / 3 * min(len(own), len(other))) for other in others)


def test_rows_are_as_long_as_asked_and_the_summary_counts_them(smoke_settings: Settings, sampled: Layout) -> None:
    for name in smoke_settings.domains:
        summary = json.loads((sampled.corpus(name) / "summary.json").read_text())
        for split, wanted in smoke_settings.sample.rows.model_dump().items():
            rows = read_texts(sampled.split(name, split))
            assert 0 < len(rows) <= wanted
            assert summary[split]["rows"] == len(rows)
            assert all(len(row.split()) <= smoke_settings.sample.row_words for row in rows)
            assert all("\n" not in row for row in rows)


def test_same_seed_same_bytes_other_seed_other_rows(smoke_settings: Settings, sampled: Layout, tmp_path: Path) -> None:
    again, other = Layout(tmp_path / "again"), Layout(tmp_path / "other")
    sample.run(smoke_settings, again)
    sample.run(smoke_settings.model_copy(update={"seed": 99}), other)
    domain = next(iter(smoke_settings.domains))
    for path in (Layout.source.fget, lambda layout: layout.split(domain, "train")):  # type: ignore[attr-defined]
        assert sha256(path(again)) == sha256(path(sampled)) != sha256(path(other))


def test_a_users_texts_leave_all_other_corpora_as_they_are(
    smoke_settings: Settings, sampled: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where they hold longer versions of what the study has: the user's go."""
    layout, texts = Layout(tmp_path / "data"), tmp_path / "texts" / "mine"
    sample.run(smoke_settings, layout)
    texts.mkdir(parents=True)
    for k, text in enumerate(list(_documents(sampled.source).values())[:3]):
        (texts / f"copy{k}.txt").write_text(text + " and more of the same kind")
    for k in range(30):
        (texts / f"own{k}.txt").write_text(" ".join(f"w{k}x{i}" for i in range(40)))
    mine = LocalDomain(corpus="local", path=str(texts), portion="mine")
    added = smoke_settings.model_copy(update={"domains": {**smoke_settings.domains, "mine": mine}})
    capsys.readouterr()
    sample.run(added, layout)
    assert "the source corpus is as it was" in capsys.readouterr().out
    assert sha256(layout.source) == sha256(sampled.source)
    for name in smoke_settings.domains:
        for split in SPLITS:
            assert sha256(layout.split(name, split)) == sha256(sampled.split(name, split))
    held = {name for split in SPLITS for name in _documents(layout.split("mine", split))}
    assert len(held) > 20
    assert held <= {f"mine/own{k}.txt:1" for k in range(30)}
    # A portion is a label: another one is no reason to read anything again.
    renamed = added.model_copy(update={"domains": added.domains | {"mine": mine.model_copy(update={"portion": "b"})}})
    sample.run(renamed, layout)
    assert "0 of 6 corpora" in capsys.readouterr().out


def test_a_source_of_documents_leaves_nothing_of_one_that_was_drawn(smoke_settings: Settings, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    (layout.sample / ".source-0123456789ab.partial").mkdir(parents=True)
    sample.run(smoke_settings, layout)
    assert not list(layout.sample.glob(".*"))


def test_a_domain_without_text_is_refused(smoke_settings: Settings, tmp_path: Path) -> None:
    name = next(iter(smoke_settings.domains))
    strict = smoke_settings.sample.model_copy(update={"min_document_words": 10**6})
    with pytest.raises(OdysseyError, match=f"domain '{name}' has no text"):
        sample.run(smoke_settings.model_copy(update={"sample": strict}), Layout(tmp_path))
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_summary_that_was_changed_is_not_computed_with(
    smoke_settings: Settings, sampled: Layout, tmp_path: Path
) -> None:
    """How many rows there are decides which of them are embedded."""
    layout = Layout(tmp_path / "data")
    shutil.copytree(sampled.data, layout.data)
    path = layout.corpus(next(iter(smoke_settings.domains))) / SUMMARY
    said = read_json(path)
    write_json(path, said | {"train": said["train"] | {"rows": said["train"]["rows"] - 1}})
    with pytest.raises(OdysseyError, match=r"summary\.json: damaged .* run `dvc repro sample`"):
        embed.run(smoke_settings, layout)
    assert not list(layout.data.rglob("vectors.npy"))


def _documents(path: Path) -> dict[str, str]:
    import pyarrow.parquet

    documents: dict[str, str] = {}
    for row in pyarrow.parquet.read_table(path).to_pylist():
        documents[row["document"]] = documents.get(row["document"], "") + " " + row["text"]
    return documents


def _shingles(text: str, words: int) -> list[tuple[str, ...]]:
    found = re.findall(r"\w+", text.lower())
    return [tuple(found[i : i + words]) for i in range(max(1, len(found) - words + 1))] if found else []


def _containment(a: str, b: str, words: int) -> float:
    """Share of the shorter text's shingles (by position) that stand in the longer one."""
    short, long = sorted((_shingles(a, words), _shingles(b, words)), key=len)
    return sum(s in long for s in short) / len(short)
