"""Sampling a sharded corpus: exactly uniform, the same however it is read, and in little memory."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations, count
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pyarrow import parquet
from scipy.stats import chisquare

from odyssey.corpora.parquet import Row, read_texts, write_rows
from odyssey.corpora.shards import Sample, Shard, draw_candidates, merge, sample_shards
from odyssey.corpora.writer import BATCH_CHARACTERS, BATCH_ROWS, RowWriter
from odyssey.errors import OdysseyError
from odyssey.science.sampling import lowest, priorities, smallest, threshold, widened
from odyssey.store import sha256

PURPOSE = ("sample", "source")


def write_shard(path: Path, texts: Sequence[str | None]) -> Path:
    if path.suffix == ".parquet":
        columns = {"id": pyarrow.array(range(len(texts))), "text": pyarrow.array(texts, pyarrow.string())}
        parquet.write_table(pyarrow.table(columns), path, row_group_size=7)
    else:
        content = "".join(json.dumps({"id": k, "text": text}) + "\n" for k, text in enumerate(texts)).encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def corpus(folder: Path, sizes: Sequence[int] = (30, 1, 50), suffix: str = ".jsonl") -> list[Shard]:
    shards = []
    for number, size in enumerate(sizes):
        path = write_shard(folder / f"s{number}{suffix}", [f" text {number}.{k}\n\nand more " for k in range(size)])
        shards.append(Shard(path.name, lambda path=path: path))  # type: ignore[misc]
    return shards


def draw(
    shards: Sequence[Shard],
    folder: Path,
    rows: int | None = 20,
    population: int | None = 81,
    seed: int = 0,
    workers: int = 1,
    text: str = "text",
    keep: bool = False,
) -> Sample:
    """A draw into `folder`, whose candidates are deleted unless `keep`."""
    found = sample_shards(
        shards,
        folder / "work",
        folder / "out.parquet",
        rows=rows,
        population=population,
        text=text,
        seed=seed,
        purpose=PURPOSE,
        workers=workers,
    )
    if not keep:
        shutil.rmtree(folder / "work")
    return found


def drawn(folder: Path) -> list[Row]:
    return [Row(**row) for row in parquet.read_table(folder / "out.parquet").to_pylist()]


# --- the rule


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 20))
def test_lowest_is_a_stable_sort_cut_off(values: list[int], count: int) -> None:
    few = list(enumerate(values)) * 100  # more than are held at a time
    rows = [(float(value), place) for place, (_, value) in enumerate(few)]
    assert lowest(iter(rows), count) == sorted(rows, key=lambda row: row[0])[:count]


def test_smallest_worked_out() -> None:
    values = np.array([0.5, 0.1, 0.5, 0.9, 0.5])
    assert smallest(values, 3).tolist() == [True, True, True, False, False]  # of the equal ones, the first
    assert smallest(values, 1).tolist() == [False, True, False, False, False]
    assert smallest(values, 0).sum() == 0
    assert smallest(values, 5).sum() == smallest(values, 9).sum() == smallest(values, None).sum() == 5
    assert smallest(np.empty(0), 3).tolist() == []


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(0, 40))
def test_smallest_is_a_stable_sort_cut_off(values: list[int], rows: int) -> None:
    expected = sorted(range(len(values)), key=lambda i: values[i])[:rows]
    assert np.flatnonzero(smallest(np.array(values, dtype=float), rows)).tolist() == sorted(expected)


def test_threshold_worked_out() -> None:
    # 400,000 of 8,013,769: 420,000 and eight standard deviations (632.5 each) and 100.
    assert threshold(400_000, 8_013_769) == pytest.approx((420_000 + 8 * 632.4555 + 100) / 8_013_769)
    assert threshold(20, 21) == 1.0
    assert threshold(None, 10**9) == threshold(10, None) == threshold(10, 0) == 1.0
    assert widened(0.1, rows=100, found=90) == 0.2
    assert widened(0.1, rows=100, found=30) == pytest.approx(0.4)
    assert widened(0.1, rows=100, found=0) == 1.0


def test_priorities_depend_on_seed_purpose_and_name_only() -> None:
    def first(seed: int = 0, purpose: tuple[str, ...] = ("a",), part: str = "b") -> float:
        return next(priorities(seed, purpose, part))

    assert first() == first()
    assert len({first(), first(seed=1), first(purpose=("c",)), first(part="c"), first(purpose=("b",), part="a")}) == 5


# --- uniform


def test_every_set_of_rows_is_equally_likely(tmp_path: Path) -> None:
    """All 35 sets of 3 of 7 rows, in shards of 4, 1 and 2, over 3,500 seeds; the seeds are fixed."""
    names = {"a": 4, "b": 1, "c": 2}
    found: Counter[tuple[int, ...]] = Counter()
    for seed in range(3500):
        values = [next(draws) for name, size in names.items() for draws in [priorities(seed, PURPOSE, name)] * size]
        found[tuple(np.flatnonzero(smallest(np.array(values), 3)).tolist())] += 1
    assert set(found) == set(combinations(range(7), 3))
    assert chisquare(list(found.values())).pvalue > 0.01


def test_the_files_follow_the_rule(tmp_path: Path) -> None:
    """Candidates and merge give what sorting all priorities of the corpus gives, blank rows left out."""
    shards = {"a.jsonl": ["a0", None, "a2", " \n", "a4"], "b.parquet": ["b0", "b1", "", None, *["b"] * 20]}
    files = [write_shard(tmp_path / name, texts) for name, texts in shards.items()]
    ranked = sorted(
        (priority, name, row)
        for name, texts in shards.items()
        for row, (text, priority) in enumerate(zip(texts, priorities(5, PURPOSE, name), strict=False))
        if text and text.strip()
    )
    for rows in (1, 7, 25):
        candidates = []
        for path in files:
            candidates.append(tmp_path / f"{path.name}.{rows}.candidates")
            arguments = {"name": path.name, "text": "text", "seed": 5, "purpose": PURPOSE}
            seen = draw_candidates(path, candidates[-1], threshold=1.0, **arguments)  # type: ignore[arg-type]
            assert seen == len(shards[path.name])
        assert merge(candidates, rows, tmp_path / "out.parquet") == Sample(rows, 29)
        expected = [f"{name}#{row}" for name, row in sorted((name, row) for _, name, row in ranked[:rows])]
        assert [row.id for row in drawn(tmp_path)] == expected


def test_every_row_is_drawn_as_often_as_any_other(tmp_path: Path) -> None:
    """Through all the files: 4 of 12 rows, 150 seeds, 50 times each expected."""
    shards = corpus(tmp_path, (5, 1, 6))
    found: Counter[str] = Counter()
    for seed in range(150):
        assert draw(shards, tmp_path, rows=4, population=12, seed=seed) == Sample(4, 12)
        found.update(row.id for row in drawn(tmp_path))
    assert len(found) == 12
    # Rows of one sample exclude each other, so the statistic is (12 - 4) / 11 of a chi-square.
    assert chisquare(np.array(list(found.values())) / ((12 - 4) / 11)).pvalue > 0.01


# --- the same however it is read


@pytest.mark.parametrize("suffix", [".jsonl", ".json.gz", ".parquet"])
def test_workers_threshold_and_file_format_change_nothing(tmp_path: Path, suffix: str) -> None:
    def ids(folder: str, population: int | None, workers: int) -> list[str]:
        (tmp_path / folder).mkdir()
        assert draw(shards, tmp_path / folder, 20, population, workers=workers) == Sample(20, 2581)
        return [row.id for row in drawn(tmp_path / folder)]

    shards = corpus(tmp_path, (30, 1, 50, 2500), suffix)
    expected = ids("all", None, 1)
    assert len(set(expected)) == 20
    assert expected == ids("one", 2581, 1) == ids("three", 2581, 3) == ids("ten", 3000, 10)
    files = [sha256(tmp_path / folder / "out.parquet") for folder in ("one", "three", "all", "ten")]
    assert len(set(files)) == 1


@hypothesis_settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(1, 60), st.integers(0, 5), st.randoms())
def test_the_order_of_shards_changes_the_order_of_rows_only(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], rows: int, seed: int, random: np.random.Generator
) -> None:
    folder = tmp_path_factory.mktemp("order")
    shards = corpus(folder, sizes)
    draw(shards, folder, rows, sum(sizes), seed)
    first = drawn(folder)
    random.shuffle(shards)
    draw(shards, folder, rows, sum(sizes), seed, workers=2)
    again = drawn(folder)
    assert sorted(first) == sorted(again)
    order = [shard.name for shard in shards]
    places = [(order.index(name), int(row)) for name, _, row in (one.id.partition("#") for one in again)]
    assert places == sorted(places)


def test_a_larger_sample_holds_the_smaller_one(tmp_path: Path) -> None:
    shards = corpus(tmp_path)
    sets = []
    for rows in (5, 20, 60):
        draw(shards, tmp_path, rows)
        sets.append({row.id for row in drawn(tmp_path)})
    assert sets[0] < sets[1] < sets[2]


def test_rows_and_ids(tmp_path: Path) -> None:
    assert draw(corpus(tmp_path, (2, 1)), tmp_path, rows=None) == Sample(3, 3)
    assert drawn(tmp_path) == [
        Row("s0.jsonl#0", "s0.jsonl#0", "text 0.0\n\nand more"),
        Row("s0.jsonl#1", "s0.jsonl#1", "text 0.1\n\nand more"),
        Row("s1.jsonl#0", "s1.jsonl#0", "text 1.0\n\nand more"),
    ]


def test_text_that_is_not_unicode_is_mended(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(
        b'\xef\xbb\xbf{"text": "one"}\r\n\n{"text": "\xff two \\ud83d\\ude00 \\ud83d"}\n{"text": "\\ud83d"}'
    )
    draw([Shard("a", lambda: tmp_path / "a.jsonl")], tmp_path, rows=None)
    assert [(row.id, row.text) for row in drawn(tmp_path)] == [
        ("a#0", "one"),
        ("a#2", "\ufffd two 😀 \ufffd"),
        ("a#3", "\ufffd"),
    ]
    raw = pyarrow.array([b"fine", b"\xff"]).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": raw}), tmp_path / "a.parquet")
    draw([Shard("a", lambda: tmp_path / "a.parquet")], tmp_path, rows=None)
    assert [row.text for row in drawn(tmp_path)] == ["fine", "\ufffd"]


# --- a population that is not what was said


def test_a_population_said_too_large_is_read_again_until_exact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = corpus(tmp_path, (400, 600))
    (tmp_path / "all").mkdir()
    draw(shards, tmp_path / "all", 200, None)
    assert draw(shards, tmp_path, 200, 10**5) == Sample(200, 1000)
    assert "of 200 texts drawn: the corpus has 1,000, not about 100,000; reading it again" in capsys.readouterr().out
    assert drawn(tmp_path) == drawn(tmp_path / "all")


def test_a_corpus_smaller_than_the_sample_is_taken_whole(tmp_path: Path) -> None:
    shards = corpus(tmp_path)
    assert draw(shards, tmp_path, 500, 10**6) == Sample(81, 81)


# --- killed and started again


def test_shards_that_are_done_are_neither_fetched_nor_read_again(tmp_path: Path) -> None:
    fetched: list[str] = []

    def fetching(shard: Shard, broken: bool = False) -> Shard:
        def fetch() -> Path:
            fetched.append(shard.name)
            if broken:
                raise OdysseyError("no network")
            return shard.fetch()

        return Shard(shard.name, fetch, shard.origin)

    shards = corpus(tmp_path)
    for workers in (1, 2):
        fetched.clear()
        with pytest.raises(OdysseyError, match="no network"):
            draw([fetching(shards[0]), fetching(shards[1]), fetching(shards[2], broken=True)], tmp_path, keep=True)
        assert len(list((tmp_path / "work").glob("*.parquet"))) == 2
        assert not list((tmp_path / "work").glob(".*"))
        draw([fetching(shard) for shard in shards], tmp_path, workers=workers)
        assert fetched == ["s0.jsonl", "s1.jsonl", "s2.jsonl", "s2.jsonl"]
        first = drawn(tmp_path)
        draw(shards, tmp_path)
        assert drawn(tmp_path) == first


def test_another_number_of_rows_in_the_metadata_of_candidates_is_noticed(tmp_path: Path) -> None:
    """Parquet's own checksums are of pages, not of what is behind them."""
    shards = corpus(tmp_path)
    assert draw(shards, tmp_path, keep=True) == Sample(20, 81)
    candidates = tmp_path / "work" / "s2.jsonl.parquet"
    before = candidates.read_bytes()
    key = before.index(b"rows_seen")
    candidates.write_bytes(before[:key] + before[key:].replace(b"50", b"10", 1))
    assert candidates.read_bytes() != before
    assert parquet.read_metadata(candidates).metadata[b"rows_seen"] == b"10"
    assert draw(shards, tmp_path, keep=True) == Sample(20, 81)
    assert candidates.read_bytes() == before


def test_candidates_of_another_draw_or_damaged_ones_are_made_again(tmp_path: Path) -> None:
    fetched = count()

    def counting(shards: Sequence[Shard], origin: str = "") -> list[Shard]:
        return [Shard(s.name, lambda s=s: (next(fetched), s.fetch())[1], origin) for s in shards]  # type: ignore[misc]

    shards = corpus(tmp_path)
    steps: list[tuple[Callable[[], object], int]] = [
        (lambda: draw(counting(shards), tmp_path, keep=True), 3),
        (lambda: draw(counting(shards), tmp_path, keep=True), 0),
        (lambda: draw(counting(shards), tmp_path, keep=True, rows=50), 0),  # the threshold is 1 for both
        (lambda: draw(counting(shards), tmp_path, keep=True, rows=20, population=2000), 6),  # too large: twice
        (lambda: draw(counting(shards), tmp_path, keep=True, seed=1), 3),
        (lambda: draw(counting(shards, "r@2"), tmp_path, keep=True, seed=1), 3),
    ]
    for step, expected in steps:
        before = next(fetched)
        step()
        assert next(fetched) - before - 1 == expected
    first = drawn(tmp_path)
    damaged = tmp_path / "work" / "s1.jsonl.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-10])
    before = next(fetched)
    draw(counting(shards, "r@2"), tmp_path, seed=1)
    assert next(fetched) - before - 1 == 1
    assert drawn(tmp_path) == first


# --- failures


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', r"a\.jsonl, line 2: not JSON"),
        ("a.jsonl", b'{"text": "a"}\n{"body": "a"}\n', r"a\.jsonl, line 2: no 'text'; there are 'body'"),
        ("a.jsonl", b"", r"a\.jsonl: no row in it; delete it and fetch it again"),
        ("a.json.gz", gzip.compress(b'{"text": "a"}\n' * 99)[:-4], r"a\.json\.gz: damaged or cut off"),
        ("a.json.gz", b"<html>", r"a\.json\.gz: damaged or cut off"),
        ("a.parquet", b"<html>", r"a\.parquet: damaged or cut off"),
        ("a.txt", b"text", r"a\.txt: neither JSON lines nor Parquet"),
        ("a.jsonl", b'{"text": null}\n', r"out\.parquet: no text in 'text' of any of the 1 shards"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_bad_shards_are_named_and_leave_nothing(
    tmp_path: Path, name: str, content: bytes, problem: str, workers: int
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OdysseyError, match=problem):
        draw([Shard(name, lambda: tmp_path / name)], tmp_path, workers=workers)
    assert not (tmp_path / "out.parquet").exists()
    assert not list(tmp_path.rglob("*.tmp"))


def test_missing_columns_and_doubled_names(tmp_path: Path) -> None:
    shards = corpus(tmp_path, (5,), ".parquet")
    with pytest.raises(OdysseyError, match=r"s0\.parquet: no 'content'; there are 'id', 'text'"):
        draw(shards, tmp_path, text="content")
    with pytest.raises(OdysseyError, match=r"shard 's0\.parquet' is listed twice"):
        draw([*shards, *shards], tmp_path)


def test_damaged_candidates_are_named_by_merge(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(OdysseyError, match=r"a\.parquet: damaged .* run the same command again"):
        merge([path], 1, tmp_path / "out.parquet")


# --- the writer


def test_rows_are_written_as_write_rows_does(tmp_path: Path) -> None:
    rows = [Row(f"d#{k}", "d", text) for k, text in enumerate(["a", "é\u2028\0", "b\n\nc", ""])]
    write_rows(tmp_path / "whole.parquet", rows)
    with RowWriter(tmp_path / "new" / "batches.parquet") as writer:
        assert writer.write(rows[:1]) == 1
        assert writer.write(iter(rows[1:])) == 3
        assert not (tmp_path / "new" / "batches.parquet").exists()
    whole, batches = (parquet.read_table(tmp_path / name) for name in ("whole.parquet", "new/batches.parquet"))
    assert whole.equals(batches)
    assert whole.schema.equals(batches.schema, check_metadata=True)
    assert read_texts(tmp_path / "new" / "batches.parquet") == [row.text for row in rows]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["batches.parquet"]


def test_the_writer_cuts_row_groups_by_rows_and_by_text(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "a.parquet") as writer:
        writer.write(Row(str(k), "d", "x") for k in range(BATCH_ROWS + 1))
        writer.write(Row(str(k), "d", "x" * (BATCH_CHARACTERS // 2)) for k in range(4))
    metadata = parquet.ParquetFile(tmp_path / "a.parquet").metadata
    sizes = [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]
    assert sizes == [BATCH_ROWS, 3, 2]  # one of the short ones and two of the long
    with RowWriter(tmp_path / "empty.parquet"):
        pass
    assert read_texts(tmp_path / "empty.parquet") == []


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"old")

    def write() -> None:
        with RowWriter(tmp_path / "a.parquet") as writer:
            writer.write([Row("a", "a", "a")])
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        write()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


# --- memory

_MEASURE = """
import sys
from pathlib import Path
from odyssey.corpora.shards import draw_candidates
import odyssey.corpora.writer, pyarrow.parquet, pyarrow.types

def peak():  # not getrusage: that one's peak is inherited from the process that started this one
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

folder = Path(sys.argv[1])
draw = {"name": "s", "text": "text", "seed": 0, "purpose": ("memory",)}
draw_candidates(folder / ("small." + sys.argv[2]), folder / "out", threshold=1.0, **draw)  # makes all imports
before = peak()
draw_candidates(folder / ("large." + sys.argv[2]), folder / "out", threshold=0.05, **draw)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("suffix", ["json.gz", "parquet"])
def test_a_large_shard_takes_little_memory(tmp_path: Path, suffix: str) -> None:
    """150 MB of text, in Parquet as one row group, take at most 80 MB more than a tiny shard (21 and 50 were seen)."""
    words = np.array([f"word{k}" for k in range(5000)])
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, 500)) for _ in range(2000)]
    for name, some in (("small", texts[:10]), ("large", texts * 19)):
        path = tmp_path / f"{name}.{suffix}"
        if suffix == "parquet":
            table = pyarrow.table({"text": [f"{k} {text}" for k, text in enumerate(some)]})
            parquet.write_table(table, path, row_group_size=len(some))
        else:
            with gzip.open(path, "wt", compresslevel=1) as file:
                file.writelines(json.dumps({"text": text}) + "\n" for text in some)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path), suffix], check=True, capture_output=True, text=True
    )
    assert float(done.stdout) < 80
