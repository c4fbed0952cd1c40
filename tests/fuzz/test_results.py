"""Result files that were damaged after they were made: who reads them says so and names one, or reads them right."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from results import write_results

from odyssey.corpora.parquet import read_texts
from odyssey.corpora.shards import Sample, Shard, sample_shards
from odyssey.frames import read_frame, write_frame
from odyssey.layout import Layout
from odyssey.records import READ, cell_record
from odyssey.settings import Settings
from odyssey.stages import claims
from odyssey.store import MANIFEST, check_folder, read_json

from .conftest import FUZZ
from .damage import MARKS, PUT, TEXT, damaged, refused

JSONS = [json.dumps({"nll_sum": 1e308, "tokens": 2**70, "name": "é\ud800", "own": [None, True, {}]}, indent=2).encode()]
JSONS += [
    b"[" * 10_000 + b"]" * 10_000,
    b'{"a": ' * 10_000,
    b'{"a": 1, "a": 2}',
    b"9" * 5000,
    b"NaN",
    b"",
    b"\xff\xfe1\0",
]
FRAME = pd.DataFrame(
    {"token": ["NA", "null", "1", " ", '"', "\n", "é,"], "count": range(7), "nll": [0.1, np.nan, 1e300, 2, 3, 4, 5]}
)
DOMAINS = ["pandas", "mpmath"]


def same(one: Any, other: Any) -> bool:
    """Equal, NaN to NaN."""
    return repr(one) == repr(other)


@FUZZ
@given(content=damaged(JSONS))
def test_json_is_read_or_named(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "scores.json"
    path.write_bytes(content)
    found = refused(path, lambda: [read_json(path)])
    try:
        expected = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        assert isinstance(found, str)
    else:
        assert isinstance(found, list)
        assert same(found[0], expected)


def test_json_that_is_a_folder(tmp_path: Path) -> None:
    assert isinstance(refused(tmp_path, lambda: [read_json(tmp_path)]), str)


@FUZZ
@given(tokens=st.lists(st.one_of(TEXT, st.sampled_from(["NA", "nan", "1", "", "-inf", *MARKS])), max_size=6))
def test_every_token_comes_back_from_a_table(tmp_path_factory: pytest.TempPathFactory, tokens: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "tokens.csv"
    numbers = [float("nan") if k % 3 == 1 else k / 7 for k in range(len(tokens))]
    write_frame(path, pd.DataFrame({"token": pd.Series(tokens, dtype=str), "nll": np.array(numbers, float)}))
    found = read_frame(path)
    assert found["token"].tolist() == tokens
    np.testing.assert_array_equal(found["nll"].to_numpy(float), numbers)


TABLES = [
    FRAME.to_csv(index=False).encode(),
    b"",
    b"\n",
    b'token\n"',
    b"token,count\n1,2,3\n4,5,6,7\n",
    b"\xff\n",
    b"a,a\n1,2",
]


def check_table(path: Path, content: bytes) -> pd.DataFrame | str:
    path.write_bytes(content)
    found = refused(path, lambda: read_frame(path))
    assert isinstance(found, pd.DataFrame | str)
    return found


def test_what_is_no_table_is_named(tmp_path: Path) -> None:
    found = [check_table(tmp_path / "table.csv", content) for content in TABLES]
    assert [isinstance(one, str) for one in found] == [False, True, True, True, True, True, False]
    assert isinstance(refused(tmp_path, lambda: read_frame(tmp_path)), str)
    assert isinstance(refused(tmp_path / "none.csv", lambda: read_frame(tmp_path / "none.csv")), str)


@pytest.mark.slow
@FUZZ
@given(content=damaged(TABLES))
def test_a_damaged_table_is_read_or_named(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    check_table(tmp_path_factory.getbasetemp() / "table.csv", content)


# --- cells


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> tuple[Settings, Layout]:
    """Results of one model on two domains."""
    few = {"domains": {name: settings.domains[name] for name in DOMAINS}, "adapt_to": DOMAINS}
    few |= {"models": {"small": settings.models["small"]}}
    small = settings.model_copy(update=few)
    layout = Layout(tmp_path_factory.mktemp("results") / "data")
    write_results(small, layout)
    return small, layout


def says(name: str, content: bytes) -> Any:
    """What a file is compared by: a manifest's white space says nothing."""
    try:
        return json.loads(content) if name == MANIFEST else content
    except ValueError:
        return None


@st.composite
def places(draw: Any) -> tuple[str, int, bytes]:
    """A stage, which of its files, and what is put over a part of it."""
    stage = draw(st.sampled_from(["similarity", "adapt", "evaluate", "tokens", "claims"]))
    return (
        stage,
        draw(st.integers(0, 20)),
        draw(st.one_of(st.just(b""), st.binary(min_size=1, max_size=3), st.sampled_from(PUT))),
    )


@FUZZ
@given(which=st.integers(0, 9), place=st.integers(0, 2000), bit=st.integers(0, 7), cut=st.booleans())
def test_one_bit_of_a_result_is_noticed(
    made: tuple[Settings, Layout], which: int, place: int, bit: int, cut: bool
) -> None:
    """Files by their sha256 in the manifest, and the manifest by its own."""
    folder, stage = made[1].evaluated("small", "pandas"), "evaluate"
    whole = check_folder(folder, stage)
    names = sorted(path.name for path in folder.iterdir())
    path = folder / names[which % len(names)]
    before = path.read_bytes()
    place %= len(before)
    wrong = bytes([before[place] ^ 1 << bit])
    path.write_bytes(before[:place] if cut else before[:place] + wrong + before[place + 1 :])
    try:
        found = refused(folder, lambda: [check_folder(folder, stage)])
        if isinstance(found, str):
            assert path.name in found
        else:
            assert says(path.name, path.read_bytes()) == says(path.name, before)
    finally:
        path.write_bytes(before)
    assert check_folder(folder, stage) == whole


@pytest.mark.slow
@FUZZ
@given(at=places(), where=st.floats(0, 1))
def test_cells_are_read_or_refused(made: tuple[Settings, Layout], at: tuple[str, int, bytes], where: float) -> None:
    """What MLflow is given, and what claims are made from."""
    settings, layout = made
    stage, which, put = at
    cell = ("small", "pandas")
    folder = {
        "similarity": layout.similarity,
        "adapt": layout.adapted(*cell),
        "evaluate": layout.evaluated(*cell),
        "tokens": layout.tokens(*cell),
        "claims": layout.claims,
    }[stage]
    names = sorted(path.name for path in folder.iterdir())
    path = folder / names[which % len(names)]
    before = path.read_bytes()
    place = int(where * len(before))
    path.write_bytes(before[:place] + put + (before[place + len(put) :] if put else b""))
    try:
        changed = says(path.name, path.read_bytes()) != says(path.name, before)
        record = refused(folder, lambda: cell_record(settings, layout, *cell))
        cells = [("small", name) for name in DOMAINS]
        inputs = refused(folder, lambda: claims._inputs(settings, layout, cells))
        looked_at = stage != "adapt" or path.name in (*READ["adapt"], MANIFEST)
        assert isinstance(record, str) == (changed and looked_at)
        if changed and path.name == MANIFEST and stage != "claims":
            assert isinstance(inputs, str)
    finally:
        path.write_bytes(before)


@pytest.mark.slow
@FUZZ
@given(where=st.floats(0, 1), bit=st.integers(0, 7), cut=st.booleans())
def test_sampled_rows_are_read_or_named(made: tuple[Settings, Layout], where: float, bit: int, cut: bool) -> None:
    path = made[1].split("pandas", "test")
    before = path.read_bytes()
    place = int(where * (len(before) - 1))
    path.write_bytes(before[:place] + (b"" if cut else bytes([before[place] ^ 1 << bit]) + before[place + 1 :]))
    try:
        found = refused(path, lambda: read_texts(path))
        assert isinstance(found, str) or all(isinstance(text, str) for text in found)
    finally:
        path.write_bytes(before)


def test_nobody_is_told_of_what_is_read(made: tuple[Settings, Layout], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *where, **_: asked.append(where))
    monkeypatch.setattr(socket.socket, "connect", lambda _, where: asked.append(where))
    assert read_texts(made[1].split("pandas", "test")) == ["one row of text", "and one more row"]
    assert not asked


# --- candidates of a shard


@pytest.mark.slow
@FUZZ
@given(place=st.floats(0, 1), bit=st.integers(0, 7), cut=st.booleans(), footer=st.booleans(), digest=st.booleans())
def test_candidates_that_were_damaged_are_drawn_again(
    tmp_path_factory: pytest.TempPathFactory, place: float, bit: int, cut: bool, footer: bool, digest: bool
) -> None:
    """Wherever it was: in the pages, in the metadata behind them, or in the sha256 that is beside them."""
    folder = tmp_path_factory.getbasetemp() / "drawn"
    folder.mkdir(exist_ok=True)
    shard = folder / "a.jsonl"
    texts = [f"text {k}" for k in range(20)]
    shard.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))

    def draw() -> tuple[list[str], Sample]:
        found = sample_shards(
            [Shard("a.jsonl", lambda: shard)], folder / "work", folder / "out.parquet",
            rows=None, population=None, text="text", seed=0, purpose=("sample",),
        )  # fmt: skip
        return read_texts(folder / "out.parquet"), found

    candidates = folder / "work" / "a.jsonl.parquet"
    candidates.unlink(missing_ok=True)
    assert draw() == (texts, Sample(20, 20))
    damaged = candidates.with_name("a.jsonl.parquet.sha256") if digest else candidates
    content = bytearray(damaged.read_bytes())
    # A footer ends with its length, in four bytes, and the format's mark.
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little") if footer and not digest else 0
    index = start + int(place * (len(content) - 1 - start))
    content[index] ^= 1 << bit
    damaged.write_bytes(bytes(content[:index] if cut else content))
    assert draw() == (texts, Sample(20, 20))
