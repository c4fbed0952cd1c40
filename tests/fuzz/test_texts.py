"""A user's texts in every format: damaged in any place, an error that says where, or what a simple reader finds."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import parquet
from test_local import FORMATS, csv_table, json_lines, parquet_table, zstd

from odyssey.corpora import lines
from odyssey.corpora.local import files, iter_records, read_documents
from odyssey.corpora.shards import draw_candidates
from odyssey.corpora.textfile import read_rows
from odyssey.errors import OdysseyError

from .conftest import FUZZ
from .damage import TEXT, damaged, in_time, refused

Records = list[tuple[int, str]]
TEXTS = [
    "plain",
    'a "quoted", text',
    "two\nlines\r\nthree\rfour",
    "nul \0 é 😀 \u2028",
    "\ufeffmarked",
    " ",
    "",
    "x" * 90,
]
KINDS = [pyarrow.string(), pyarrow.large_string(), pyarrow.string_view()]
KINDS.append(pyarrow.dictionary(pyarrow.int32(), pyarrow.string()))
ESCAPED = json_lines(TEXTS) + b"".join(json.dumps({"text": text}).encode() + b"\n" for text in TEXTS)
CSVS = [csv_table(TEXTS), csv_table(TEXTS, "\n"), b'n,text\n1,plain\n2,"a ""b"""\r\n\n3, \n4,d']
DEEP = b'{"text": "a", "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
LINES = [
    b'{"text": "a"}',
    b'{"text": "\\ud83d\\ude00"}',
    b'{"text": "\\ud800"}',
    b'{"text": null}',
    b'{"text": 1}',
    DEEP,
]
LINES += [
    b'{"text": "a", "text": "b"}',
    b'{"text": "a", "text": null}',
    b'{"text": []}',
    b"[]",
    b"null",
    b"1",
    b'"text"',
]
LINES += [
    b'{"x": 1e999, "text": "a"}',
    b'{"x": ' + b"7" * 5000 + b', "text": "a"}',
    b'{"x": NaN, "text": "a"}',
    b"",
    b" ",
]
LINES += [
    b'{"text": "a"',
    b"{'text': 'a'}",
    b'{"text": "a"},',
    b'{"text": "a\tb"}',
    b'{"Text": "a"}',
    b'{"\\u0074ext": "a"}',
]
LINES += [
    b'\xef\xbb\xbf{"text": "a"}',
    b'{"text": "caf\xe9"}',
    b"\xff\xfe{\0",
    b'{"text": "\xe2\x80\xa8"}\r',
    b'{"": "a"}',
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder for all cases; small blocks ahead of the reader, so that a file has several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_AHEAD", 1 << 12)
        yield tmp_path_factory.mktemp("texts")


def decoded(content: bytes) -> list[str] | None:
    """Lines, ends included, of UTF-8 without a byte order mark; None if it is none."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text.removeprefix("\ufeff").split("\n")


def of_json(content: bytes) -> Records | None:
    """What the standard library finds in JSON lines; None where something is wrong in any."""
    found = []
    lines = decoded(content)
    for number, line in enumerate([None] if lines is None else lines, 1):
        if line is None:
            return None
        if not line.strip():
            continue
        try:
            value = dict.__getitem__(json.loads(line, parse_int=float), "text")
            ("" if value is None else value).encode()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        if value and value.strip():
            found.append((number, value))
    return found


def of_csv(content: bytes) -> Records | None:
    """What the standard library finds in CSV."""
    lines = decoded(content)
    if lines is None:
        return None
    try:
        header, *rows = csv.reader(io.StringIO("\n".join(lines), newline="\n"), strict=True)
    except (csv.Error, ValueError):
        return None
    rows = [row for row in rows if row]
    if header.count("text") != 1 or any(len(row) != len(header) for row in rows):
        return None
    texts = [row[header.index("text")] for row in rows]
    return [(number, text) for number, text in enumerate(texts, 1) if text.strip()]


def check(path: Path, content: bytes, expected: Records | None) -> None:
    """A file's records are those, or there is an error if there are to be none."""
    path.write_bytes(content)
    found = refused(path, lambda: list(iter_records(path, "text")))
    assert isinstance(found, str) if expected is None else found == expected


@FUZZ
@given(content=damaged([json_lines(TEXTS), ESCAPED]))
def test_json_lines_are_what_the_standard_library_reads(folder: Path, content: bytes) -> None:
    check(folder / "a.jsonl", content, of_json(content))


@FUZZ
@given(lines=st.lists(st.one_of(st.sampled_from(LINES[:2]), st.sampled_from(LINES)), min_size=1, max_size=4))
@example(lines=[DEEP])
def test_odd_lines_of_json(folder: Path, lines: list[bytes]) -> None:
    content = b"\n".join(lines)
    path = folder / "a.jsonl"
    path.write_bytes(content)
    found = refused(path, lambda: list(iter_records(path, "text")))
    if isinstance(found, list):
        assert found == of_json(content)
    elif of_json(content) is not None:  # Python has limits, too: of depth, and of a number's digits
        assert any(len(line) > 1000 for line in lines)


@FUZZ
@given(content=damaged(CSVS))
def test_csv_is_what_the_standard_library_reads(folder: Path, content: bytes) -> None:
    check(folder / "a.csv", content, of_csv(content))


@pytest.mark.slow
@FUZZ
@given(texts=st.lists(TEXT, min_size=1, max_size=6), name=st.sampled_from(sorted(FORMATS)))
def test_every_text_comes_back_from_every_format(folder: Path, texts: list[str], name: str) -> None:
    expected = [(number, text) for number, text in enumerate(texts, 1) if text.strip()]
    check(folder / name, FORMATS[name](texts), expected)


@FUZZ
@given(content=damaged([gzip.compress(json_lines(TEXTS), 9, mtime=0) + gzip.compress(ESCAPED, 0, mtime=0)]))
def test_a_gzip_file_is_read_whole_or_not_at_all(folder: Path, content: bytes) -> None:
    """Both streams have checksums, so what is read is what was written; what comes behind them is an error."""
    try:
        inside: bytes | None = gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        inside = None
    path = folder / "a.jsonl.gz"
    path.write_bytes(content)
    found = refused(path, lambda: list(iter_records(path, "text")))
    if isinstance(found, list):
        assert inside is not None
        assert found == of_json(inside)
    else:  # zeros behind the last stream are an error only here
        assert inside is None or of_json(inside) is None or content.endswith(b"\0")


@pytest.mark.slow
@FUZZ
@given(content=damaged([zstd(json_lines(TEXTS)), zstd(csv_table(TEXTS)), b""]), name=st.sampled_from(["jsonl", "csv"]))
def test_a_damaged_zst_file(folder: Path, content: bytes, name: str) -> None:
    """Pyarrow writes no checksums: a flipped bit can be another text, but nothing else."""
    path = folder / f"a.{name}.zst"
    path.write_bytes(content)
    found = refused(path, lambda: list(iter_records(path, "text")))
    assert isinstance(found, str) or all(text.encode().strip() for _, text in found)


@FUZZ
@given(content=damaged([parquet_table(TEXTS, kind) for kind in KINDS]), limit=st.sampled_from([1 << 10, 1 << 28]))
def test_a_damaged_parquet_file(folder: Path, content: bytes, limit: int) -> None:
    """With a limit so low that dictionaries are looked at first, too."""
    path = folder / "a.parquet"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "RECORD", limit)
        found = refused(path, lambda: list(iter_records(path, "text")))
    if isinstance(found, list):
        assert all(text.encode() for _, text in found)
        assert [number for number, _ in found] == sorted({number for number, _ in found})


@FUZZ
@given(
    names=st.lists(st.sampled_from(["a.b", "text", "a", "", "A.B", "a.b.c", "té\0xt"]), max_size=4),
    values=st.lists(st.one_of(st.none(), TEXT), min_size=1, max_size=3),
    parts=st.booleans(),
)
@example(names=["a.b"], values=["x"], parts=True)
def test_the_column_that_was_named_is_read_whatever_the_others_are_called(
    folder: Path, names: list[str], values: list[str | None], parts: bool
) -> None:
    """With `parts`, a column `a` has parts called `b` before them all."""
    column = pyarrow.array(values, pyarrow.string())
    columns = [column if name == "a.b" else pyarrow.array(["other"] * len(values)) for name in names]
    if parts:
        names, columns = ["a", *names], [pyarrow.array([{"b": "no"}] * len(values)), *columns]
    path = folder / "named.parquet"
    parquet.write_table(pyarrow.Table.from_arrays(columns, names), path)
    found = refused(path, lambda: list(iter_records(path, "a.b")))
    if names.count("a.b") == 1:
        assert found == [(number, text) for number, text in enumerate(values, 1) if text and text.strip()]
    else:
        assert isinstance(found, str)


@pytest.mark.slow
@FUZZ
@given(content=damaged([parquet_table(TEXTS, kind) for kind in KINDS] + [json_lines(TEXTS)]), threshold=st.floats(0, 1))
def test_candidates_of_a_damaged_shard(folder: Path, content: bytes, threshold: float) -> None:
    """Drawn from what is there, or refused, and then nothing is written."""
    path, out = folder / f"shard.{'parquet' if b'PAR1' in content[:8] else 'jsonl'}", folder / "candidates.parquet"
    path.write_bytes(content)
    out.unlink(missing_ok=True)
    about: dict[str, Any] = {"name": "s", "text": "text", "seed": 0, "purpose": ("sample",), "threshold": threshold}
    seen = refused(path, lambda: draw_candidates(path, out, **about))
    assert out.exists() == isinstance(seen, int)
    if isinstance(seen, int):
        assert all(text.strip() == text != "" for text in parquet.read_table(out)["text"].to_pylist())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_shards_of_every_type_of_text_are_drawn_from(folder: Path, kind: pyarrow.DataType) -> None:
    (folder / "kind.parquet").write_bytes(parquet_table(TEXTS, kind))
    out = folder / "kind.candidates.parquet"
    about: dict[str, Any] = {"name": "s", "text": "text", "seed": 0, "purpose": ("sample",), "threshold": 1.0}
    assert draw_candidates(folder / "kind.parquet", out, **about) == len(TEXTS)
    assert parquet.read_table(out)["text"].to_pylist() == [text.strip() for text in TEXTS if text.strip()]


# --- plain text


@FUZZ
@given(content=damaged(["\n".join(TEXTS).encode(), b"\xef\xbb\xbfone\r\n\r\n \ttwo\n\nthree", b"", b"\n \n", b"one"]))
def test_rows_and_documents_of_plain_text(folder: Path, content: bytes) -> None:
    path = folder / "a.txt"
    path.write_bytes(content)
    lines = decoded(content.replace(b"\r\n", b"\n"))
    rows = None if lines is None else [line for line in lines if line.strip()]
    found = refused(path, lambda: read_rows(path))
    assert isinstance(found, str) if not rows else found == rows
    documents = refused(path, lambda: [document.text for document in read_documents(path)])
    if not rows or lines is None:
        assert isinstance(documents, str)
        return
    blocks = [""]
    for line in lines:
        blocks = [*blocks, ""] if not line.strip() else [*blocks[:-1], blocks[-1] + line + "\n"]
    blocks = [block.removesuffix("\n") for block in blocks if block]
    assert documents == (blocks if len(blocks) > 1 else rows)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.txt.gz", "a.jsonl.zst"])
@pytest.mark.parametrize(
    "content", [b"", b"\n", "text\nrow\n".encode("utf-16"), b"\0" * 100, b"\r" * 100, b"x" * 10**6]
)
def test_files_that_hold_no_record(tmp_path: Path, name: str, content: bytes) -> None:
    pack = gzip.compress if name.endswith(".gz") else zstd if name.endswith(".zst") else bytes
    (tmp_path / name).write_bytes(pack(content))
    found = refused(tmp_path / name, lambda: [d.text for d in read_documents(tmp_path / name, "text")])
    # Of NULs and of one long line a .txt can be made.
    assert isinstance(found, str) or (".txt" in name and found == [content.decode()])


def test_a_line_of_a_megabyte_is_a_row(tmp_path: Path) -> None:
    row = "é" * 500_000
    (tmp_path / "a.jsonl").write_bytes(json.dumps({"text": row}).encode() * 1)
    (tmp_path / "b.csv").write_bytes(b'text\n"' + row.encode() + b'"')
    (tmp_path / "c.txt").write_bytes(row.encode())
    assert [document.text for document in read_documents(tmp_path, "text")] == [row] * 3
    assert read_rows(tmp_path / "c.txt") == [row]


# --- what is no file


def test_pipes_and_folders_called_like_files_are_told_and_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "a.txt").write_text("one\n")
    with in_time():
        assert [document.text for document in read_documents(tmp_path, "text")] == ["one"]
        assert files(tmp_path) == [tmp_path / "a.txt"]
        assert "pipe.jsonl" in capsys.readouterr().err
        with pytest.raises(OdysseyError, match=r"pipe\.jsonl: neither a file nor a folder; give"):
            files(tmp_path / "pipe.jsonl")
        with pytest.raises(OdysseyError, match=r"no \.txt, .* file in it; give files of text"):
            files(tmp_path / "folder.parquet")


@pytest.mark.parametrize("name", ["x" * 300 + ".txt", "a\0b.txt", "none.txt", "a.txt/b.txt"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    with pytest.raises(OdysseyError, match="no such file or folder; give"):
        files(tmp_path / name)
    assert isinstance(refused(tmp_path / name, lambda: read_rows(tmp_path / name)), str)


@contextmanager
def somebody() -> Iterator[None]:
    """Without a superuser's rights, for whom nothing is forbidden."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("closed", ["a.txt", "b.jsonl", "c.parquet", "folder"])
def test_what_may_not_be_read_is_told_and_not_left_out(tmp_path: Path, closed: str) -> None:
    for parent in [tmp_path, *list(tmp_path.parents)[:3]]:
        parent.chmod(0o755)
    (tmp_path / "folder").mkdir()
    for name in ("a.txt", "b.jsonl", "c.parquet", "folder/d.txt"):
        (tmp_path / name).write_bytes(parquet_table(["x"]) if "parquet" in name else b'{"text": "x"}\n')
    assert len(list(read_documents(tmp_path, "text"))) == 4
    (tmp_path / closed).chmod(0)
    with somebody():
        found = refused(tmp_path / closed, lambda: list(read_documents(tmp_path, "text")))
        alone = refused(tmp_path / closed, lambda: list(read_documents(tmp_path / closed, "text")))
    (tmp_path / closed).chmod(0o755)
    assert isinstance(found, str)
    assert isinstance(alone, str)
    assert "read" in found
