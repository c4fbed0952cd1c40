"""Result files that were damaged after they were made: who reads them says so and names one, or reads them right."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Callable
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
from odyssey.reference import read_numbers
from odyssey.reporting import page, tables
from odyssey.reporting.method import method
from odyssey.settings import Settings
from odyssey.stages import claims, report
from odyssey.store import MANIFEST, check_folder, digest, read_json, read_manifest, sha256, write_json

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


# --- right checksums, wrong content


@pytest.fixture(scope="module")
def reported(made: tuple[Settings, Layout]) -> tuple[Settings, Layout]:
    """The same with a report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw", lambda *_: iter(()))
        report.run(*made)
    return made


def reseal(folder: Path) -> None:
    """Make the manifest one of the files as they are."""
    manifest = read_manifest(folder)
    manifest["files"] = {name: sha256(folder / name) for name in manifest["files"]}
    write_json(folder / MANIFEST, {**manifest, "sha256": digest(manifest)})


VALUES = [None, [], {}, [1], {"a": 1}, "text", "", "1", 0, -1, 0.5, 2**70, 1e308, float("nan"), True]
CELLS_OF_TABLES = ["text", "", "-1", "0", "nan", "inf", "1e308", "9" * 30, '"a', "a,b", "0.5"]
ARRAYS = [
    np.zeros(0),
    np.zeros((500, 2)),
    np.array(3.0),
    np.full(500, np.nan),
    np.full(500, -1),
    np.full(500, 10**9),
    np.array(["text"] * 500),
    np.zeros(500, dtype=[("a", "i4")]),
    np.zeros(499, dtype=np.int32),
    np.full(500, 0.5),
    np.full(500, 1e300),
    np.zeros(500, dtype=complex),
    np.array([{}] * 500, dtype=object),
]


@st.composite
def alterations(draw: Any) -> Callable[[str, bytes], bytes]:
    """One thing about a file's content that is otherwise than this version writes it."""
    how, where = draw(st.integers(0, 5)), draw(st.floats(0, 1, exclude_max=True))
    value, text, array = (draw(st.sampled_from(some)) for some in (VALUES, CELLS_OF_TABLES, ARRAYS))

    def json_altered(content: bytes) -> bytes:
        found = json.loads(content)
        at, place = found, where
        while True:
            keys = sorted(at)
            key = keys[int(place * len(keys))]
            place = place * len(keys) % 1
            if not isinstance(at[key], dict) or not at[key] or how < 2:
                break
            at = at[key]
        if how % 2:
            del at[key]
        else:
            at[key] = value
        return json.dumps(value if how == 5 else found).encode()

    def table_altered(content: bytes) -> bytes:
        table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, lineterminator="\n")
        column, row = table.columns[int(where * table.shape[1])], int(where * 97 % max(len(table), 1))
        if how == 0:
            table = table.drop(columns=column)
        elif how == 1:
            table = table.head(int(where * 2))
        elif how == 2:
            table = pd.concat([table, table.tail(1)])
        elif how == 3:
            table[column] = text
        elif len(table):
            table.loc[row, column] = text
        written: str = table.to_csv(index=False)
        return written.encode() + (b"1,2\n" if how == 5 else b"")

    def array_altered(content: bytes) -> bytes:
        file = io.BytesIO()
        np.save(file, array, allow_pickle=True)
        others: dict[int, bytes] = {0: content[:40], 1: b"", 2: b"PK\x03\x04" + content}
        return others.get(how, file.getvalue())

    altered = {"json": json_altered, "csv": table_altered, "npy": array_altered}
    return lambda name, content: altered[name.rpartition(".")[2]](content)


def page_of(settings: Settings, layout: Layout, about: dict[str, Any]) -> str:
    """What the report says of results as they are, whatever claims were made from; without its figures."""
    sampled, embedded, _ = report._corpora(settings, layout)
    scores = {cell: report._scores(layout.evaluated(*cell)) for cell in [("small", name) for name in DOMAINS]}
    found = report._claims(settings, layout, {})
    made = report._tables(settings, layout, scores, report._measured(settings, layout), found)
    tables.metrics(made["portions"], made["correlations"], found["claims"])
    told = method(settings, sampled, embedded, list(scores.values()))
    return page.render(settings, made, found, [], told, about)


READABLE = (".json", ".csv", ".npy")


@pytest.mark.slow
@FUZZ
@given(
    stage=st.sampled_from(["sample", "embed", "similarity", "adapt", "evaluate", "tokens", "claims", "report"]),
    which=st.integers(0, 20),
    reader=st.integers(0, 4),
    alter=alterations(),
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::numpy.exceptions.ComplexWarning")
def test_a_sealed_file_of_other_content_is_read_or_refused(
    reported: tuple[Settings, Layout], stage: str, which: int, reader: int, alter: Callable[[str, bytes], bytes]
) -> None:
    settings, layout = reported
    cell = ("small", "pandas")
    cells, about = [("small", name) for name in DOMAINS], read_manifest(layout.report)["made_from"]
    folder = {
        "sample": layout.corpus("pandas"),
        "embed": layout.embedded("pandas"),
        "similarity": layout.similarity,
        "adapt": layout.adapted(*cell),
        "evaluate": layout.evaluated(*cell),
        "tokens": layout.tokens(*cell),
        "claims": layout.claims,
        "report": layout.report,
    }[stage]
    names = sorted(name for name in read_manifest(folder)["files"] if name.endswith(READABLE))
    path, manifest = folder / names[which % len(names)], (folder / MANIFEST).read_bytes()
    before = path.read_bytes()
    path.write_bytes(alter(path.name, before))
    reseal(folder)
    try:
        read: list[Callable[[], Any]] = [
            lambda: cell_record(settings, layout, *cell, [stage]),
            lambda: claims._tables(settings, layout, cells),
            lambda: read_numbers(layout, cells),
            lambda: report.headline(settings, layout),
            lambda: page_of(settings, layout, about),
        ]
        refused(layout.data, read[reader])
    finally:
        path.write_bytes(before)
        (folder / MANIFEST).write_bytes(manifest)


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
