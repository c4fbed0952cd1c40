"""A user's own texts: every format there and back, and one clear line for whatever is wrong."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pyarrow import parquet

from odyssey.corpora import lines
from odyssey.corpora.columns import text_batches
from odyssey.corpora.lines import iter_lines
from odyssey.corpora.local import file_kind, files, iter_records, read_documents
from odyssey.errors import OdysseyError

# Any characters but halves of surrogate pairs; many line ends, quotes, NULs and marks among them.
TEXT = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from('\r\n\0",\ufeff\u2028é😀 ')))
TRICKY = ["plain", 'a "quoted", text', "two\nlines\r\nthree\rfour", "nul \0 é 😀 \u2028", "\ufeffmarked", "x" * 10**6]
BOM = b"\xef\xbb\xbf"


def zstd(content: bytes) -> bytes:
    compressed: bytes = pyarrow.Codec("zstd").compress(content, asbytes=True)
    return compressed


def read(path: Path, text: str | None = "text") -> dict[str, str]:
    found = list(read_documents(path, text))
    assert len({document.id for document in found}) == len(found)
    return {document.id: document.text for document in found}


def json_lines(texts: list[str]) -> bytes:
    return b"".join(json.dumps({"n": 1, "text": text}, ensure_ascii=False).encode() + b"\n" for text in texts)


def csv_table(texts: list[str], line_end: str = "\r\n") -> bytes:
    table = io.StringIO(newline="")
    # All quoted: the module reads no lone \r, and no blank line, without quotes.
    writer = csv.writer(table, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerows([["n", "text"], *(["1", text] for text in texts)])
    return table.getvalue().encode()


def parquet_table(texts: list[str], kind: pyarrow.DataType | None = None) -> bytes:
    sink = io.BytesIO()
    column = pyarrow.array(texts, kind or pyarrow.string())
    parquet.write_table(pyarrow.table({"n": pyarrow.array([1] * len(texts)), "text": column}), sink, row_group_size=3)
    return sink.getvalue()


def in_two_frames(compress: Callable[[bytes], bytes]) -> Callable[[list[str]], bytes]:
    """JSON lines as two compressed streams, one behind the other; the first ends within a line."""

    def write(texts: list[str]) -> bytes:
        whole = json_lines(texts)
        return compress(whole[: len(whole) // 2]) + compress(whole[len(whole) // 2 :])

    return write


FORMATS: dict[str, Callable[[list[str]], bytes]] = {
    "a.jsonl": json_lines,
    "b.JSONL": lambda texts: BOM + json_lines(texts).replace(b"\n", b"\r\n"),
    "c.jsonl.gz": lambda texts: gzip.compress(json_lines(texts)),
    "d.jsonl.zst": lambda texts: zstd(json_lines(texts)),
    "e.json.gz": in_two_frames(gzip.compress),
    "f.json.zst": in_two_frames(zstd),
    "g.csv": csv_table,
    "h.csv.gz": lambda texts: gzip.compress(BOM + csv_table(texts, "\n")),
    "i.parquet": parquet_table,
    "j.parquet": lambda texts: parquet_table(texts, pyarrow.large_string()),
    "k.parquet": lambda texts: parquet_table(texts, pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
    "l.parquet": lambda texts: parquet_table(texts, pyarrow.string_view()),
}


# --- round trips


@pytest.mark.parametrize("name", FORMATS)
def test_records_come_back_as_they_went(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FORMATS[name](TRICKY))
    assert read(path) == {f"{name}:{number}": text for number, text in enumerate(TRICKY, 1)}


@pytest.mark.parametrize("name", FORMATS)
@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(texts=st.lists(TEXT, min_size=1, max_size=8))
def test_any_text_comes_back_and_blank_ones_are_left_out(tmp_path: Path, name: str, texts: list[str]) -> None:
    path = tmp_path / name
    path.write_bytes(FORMATS[name](texts))
    expected = [(number, text) for number, text in enumerate(texts, 1) if text and not text.isspace()]
    assert list(iter_records(path, "text")) == expected


@pytest.mark.parametrize(
    ("name", "compress"), [("a.txt", bytes), ("a.TXT", bytes), ("a.txt.gz", gzip.compress), ("a.txt.zst", zstd)]
)
@pytest.mark.parametrize("text", [*TRICKY[:4], TRICKY[5], "a\n\nb\n"])
def test_text_files_come_back_with_unix_line_ends(
    tmp_path: Path, name: str, compress: Callable[[bytes], bytes], text: str
) -> None:
    (tmp_path / name).write_bytes(compress(BOM + text.encode()))
    assert list(iter_records(tmp_path / name, None)) == [(1, text.replace("\r\n", "\n"))]


def test_lines_are_numbered_and_end_at_newlines_only(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"a\r\n\nb\rc\x0c\xe2\x80\xa8d\ne"))
    assert list(iter_lines(path)) == [(1, b"a\r\n"), (2, b"\n"), (3, b"b\rc\x0c\xe2\x80\xa8d\n"), (4, b"e")]


# --- what is a document


@pytest.mark.parametrize(
    "line",
    [
        b'{"text": "a", "x": NaN}',
        b'{"text": "a", "x": -Infinity, "y": 1e999}',
        b'{"text": "a", "x": "\\ud83d"}',
        b'{"text": "b", "text": "a"}',
        b'{"x": 123456789012345678901234567890, "text": "a"}',
        b' \t{"text" : "\\u0061"} \r',
    ],
)
def test_what_json_allows_is_read_though_a_stricter_reader_comes_first(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + line + b'\n\n{"text": null}\n{"text": "c"}\n' + line)
    assert list(iter_records(tmp_path / "a.jsonl", "text")) == [(1, "a"), (4, "c"), (5, "a")]


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_lines_are_whole_whatever_the_blocks_that_are_read_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(lines, "_AHEAD", size)
    written = [b"x" * length + b"\n" for length in (0, 1, 5, 6, 7, 8, 100)] + [b"no end"]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"".join(written[:4])) + gzip.compress(b"".join(written[4:])))
    assert list(iter_lines(tmp_path / "a.jsonl.gz")) == list(enumerate(written, 1))
    for number, _ in iter_lines(tmp_path / "a.jsonl.gz"):  # left before its end
        if number == 2:
            break


@pytest.mark.parametrize(
    ("content", "documents"),
    [
        (b"one\ntwo\n\nthree\n", {1: "one\ntwo", 2: "three"}),
        (b"\r\n \t\r\none\r\ntwo\r\n  \r\n\r\n  three", {1: "one\ntwo", 2: "  three"}),
        (BOM + b"one\ntwo\n", {1: "one", 2: "two"}),
        (b"\n\none\n two \n\n", {3: "one", 4: " two "}),  # blank lines around one block separate nothing
        (b"one", {1: "one"}),
        ("one\n\u00a0\ntwo".encode(), {1: "one", 2: "two"}),  # a no-break space is blank
    ],
)
def test_a_single_text_file_is_its_blocks_or_its_lines(
    tmp_path: Path, content: bytes, documents: dict[int, str]
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    assert read(path, None) == {f"a.txt:{number}": text for number, text in documents.items()}
    assert read(tmp_path, None) == read(path, None)


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b" / ".hidden").mkdir(parents=True)
    (tmp_path / "b.txt").write_text("last\n\nof all")
    (tmp_path / "b" / "x.jsonl").write_text('{"text": "second"}\n\n{"text": null}\n{"text": " "}\n{"text": "third"}\n')
    (tmp_path / "b" / ".hidden" / "x.txt").write_text("no")
    (tmp_path / "a.csv").write_text("text\nfirst\n\n \n")
    (tmp_path / ".a.txt").write_text("no")
    (tmp_path / "z.pdf").write_text("no")
    (tmp_path / "Makefile").write_text("no")
    (tmp_path / "linked").symlink_to(tmp_path / "b")
    assert list(read(tmp_path).items()) == [
        ("a.csv:1", "first"),
        ("b/x.jsonl:1", "second"),
        ("b/x.jsonl:5", "third"),
        ("b.txt:1", "last\n\nof all"),
    ]
    note = capsys.readouterr().err
    assert note.count("\n") == 1
    assert note.endswith("Makefile, linked, z.pdf\n")
    assert [path.name for path in files(tmp_path)] == ["a.csv", "x.jsonl", "b.txt"]
    assert not capsys.readouterr().err


def test_kinds_by_name() -> None:
    kinds = {name: file_kind(Path(name)) for name in ("a.txt", "a.b.JSON.GZ", "a.json", "a.parquet.gz", "a.gz", "txt")}
    assert kinds == {
        "a.txt": "txt",
        "a.b.JSON.GZ": "jsonl",
        "a.json": None,
        "a.parquet.gz": None,
        "a.gz": None,
        "txt": None,
    }


# --- failures


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.txt", b"ok\nab\xff", r"a\.txt: not UTF-8: byte 0xff at offset 5, line 2; save it as UTF-8"),
        ("a.txt", b"\xff\xfea\0", r"byte 0xff at offset 0, line 1"),
        ("a.txt", BOM + b"\xc3", r"byte 0xc3 at offset 3, line 1"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n', r"a\.jsonl: not UTF-8: byte 0xe9 at offset 24, line 2"),
        ("a.csv.gz", gzip.compress(b"text\n\xe9\n"), r"byte 0xe9 at offset 5, line 2"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": \n', r"a\.jsonl, line 3: not JSON \(.*\); each line has to be a JSON"),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl, line 1: not JSON"),
        ("a.jsonl", b'{"text": 1' + b"0" * 5000 + b"}", r"a\.jsonl, line 1: not JSON"),
        ("a.jsonl", b'{"text": "a"}\n["text"]\n', r"a\.jsonl, line 2: a list instead of a JSON object"),
        ("a.jsonl", b'"text"\n', r"line 1: a string instead of a JSON object"),
        ("a.jsonl", b'{"text": {"en": "a"}}\n', r"line 1: 'text' is an object, not text"),
        ("a.jsonl", b'{"text": true}\n', r"line 1: 'text' is true or false, not text"),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"body": "a", "id": 1}\n',
            r"line 2: no 'text'; there are 'body', 'id'; correct",
        ),
        ("a.jsonl", b"{}\n", r"line 1: no 'text'; there are none"),
        ("a.jsonl", b'{"text": "\\ud83d"}\n', r"line 1: 'text' has half of a surrogate pair"),
        ("a.csv", b"id,body\n1,a\n", r"a\.csv: no 'text'; there are 'id', 'body'"),
        ("a.csv", b"text,text\n1,a\n", r"a\.csv: more than one 'text'"),
        ("a.csv", b"id,text\n1,a\n2,b,c\n", r"a\.csv, line 3: 3 fields, but 2 columns"),
        ("a.csv", b'text\n"never closed\n1\n', r"a\.csv, line 3: not CSV"),
        ("a.csv", b"text\ra\rb\r", r"a\.csv, line 1: not CSV"),
        ("a.csv", b"", r"a\.csv: empty; its first line has to name the columns"),
        ("a.parquet", b"PAR1 not", r"a\.parquet: damaged or cut off"),
        ("a.parquet", parquet_table(TRICKY)[:-1], r"a\.parquet: damaged or cut off"),
        ("a.jsonl.gz", gzip.compress(json_lines(TRICKY))[:-9], r"a\.jsonl\.gz: damaged or cut off .*fetch it again"),
        ("a.jsonl.zst", zstd(json_lines(TRICKY))[:-9], r"a\.jsonl\.zst: damaged or cut off"),
        ("a.txt.gz", b"plain text", r"a\.txt\.gz: damaged or cut off"),
        ("a.txt", b"", r"a\.txt: no text in it"),
        ("a.txt", BOM, r"a\.txt: no text in it"),
        ("a.jsonl", b'{"text": ""}\n', r"a\.jsonl: no text in it"),
        ("a.json", b'{"text": "a"}', r"a\.json: not a kind of file that is read; give \.txt, \.jsonl"),
    ],
)
def test_bad_files_are_named_with_the_place_and_a_remedy(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(OdysseyError, match=problem) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert ";" in message


def test_columns_of_parquet_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_table(TRICKY))
    with pytest.raises(OdysseyError, match=r"a\.parquet: no 'body'; there are 'n', 'text'"):
        read(path, "body")
    with pytest.raises(OdysseyError, match=r"a\.parquet: column 'n' is int64, not text"):
        read(path, "n")
    raw = pyarrow.array([b"fine", b"\xff"]).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": raw}), path)
    with pytest.raises(OdysseyError, match=r"a\.parquet, row 2: 'text' is not UTF-8"):
        read(path)


@pytest.mark.parametrize("name", ["a.jsonl", "g.csv", "i.parquet"])
def test_without_a_column_those_that_are_there_are_listed(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FORMATS.get(name, json_lines)(TRICKY))
    with pytest.raises(OdysseyError, match=r"which column or key has the text\? There are 'n', 'text'; name one"):
        read(path, None)


def test_folders_without_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OdysseyError, match=r"file in it; give files of text"):
        read(tmp_path)
    for number in range(7):
        (tmp_path / f"{number}.pdf").touch()
    with pytest.raises(OdysseyError, match=r"only 0\.pdf, 1\.pdf, 2\.pdf, 3\.pdf, 4\.pdf and 2 more; give files"):
        read(tmp_path)
    with pytest.raises(OdysseyError, match=r"none: no such file or folder"):
        read(tmp_path / "none")


def test_links_to_nowhere_and_unreadable_names_are_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(OdysseyError, match=r"a\.txt: no such file"):
        read(tmp_path)
    (tmp_path / "a.txt").unlink()
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).write_text("text")
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    with pytest.raises(OdysseyError, match=r"file name '\\udcff\.txt' is not UTF-8; rename the file"):
        read(tmp_path)


def test_links_out_of_a_folder_are_refused_and_those_within_it_are_read(tmp_path: Path) -> None:
    """Else any file of this machine could come into samples, which are shared."""
    folder = tmp_path / "texts" / "own"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("own")
    (folder / "b.txt").symlink_to("a.txt")
    (tmp_path / "linked").symlink_to(folder)
    assert read(folder) == read(tmp_path / "linked") == {"a.txt:1": "own", "b.txt:1": "own"}
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "c.txt").symlink_to("../../secret.txt")
    for path in (folder, tmp_path / "linked"):
        with pytest.raises(OdysseyError, match=r"c\.txt: a link to a file outside of .*; copy the file there, or give"):
            files(path)
    assert read(folder / "c.txt") == {"c.txt:1": "secret"}  # asked for by its name
    (folder / "c.txt").unlink()
    (folder / "c.txt").symlink_to("../../gone.txt")
    with pytest.raises(OdysseyError, match=r"c\.txt: no such file"):
        read(folder)


def test_names_of_files_that_are_left_out_do_nothing_to_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "\x1b]0;owned\x07.pdf").touch()
    with pytest.raises(OdysseyError, match=r"only \\x1b\]0;owned\\x07\.pdf; give"):
        read(tmp_path)
    (tmp_path / "a.txt").write_text("text")
    capsys.readouterr()
    read(tmp_path)
    note = capsys.readouterr().err.removesuffix("\n")
    assert note.isprintable()
    assert note.endswith(r"\x1b]0;owned\x07.pdf")


# --- records without an end


@pytest.fixture
def _short_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record may have 1 MiB."""
    monkeypatch.setattr(lines, "RECORD", 1 << 20)
    monkeypatch.setattr(lines, "BUFFER", 1 << 12)


ENDLESS = b"x" * (3 << 20)
SHORT = b"ab\n" * (1 << 19)


@pytest.mark.usefixtures("_short_records")
@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", b'{"text": "a"}\n' + ENDLESS, r"line 2: .* MiB; write each document on a line of its own"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n\n' + ENDLESS), r"line 3: .* MiB; write each document on"),
        ("a.json.zst", zstd(ENDLESS), r"line 1: .* MiB; write each document on a line of its own"),
        ("a.csv.gz", gzip.compress(b"text\na\n" + ENDLESS), r"line 3: .* MiB; write each document on a line"),
        ("a.csv", b'text\na\n"' + SHORT, r"line 349528: .* MiB; close its quotes, or cut it into several records"),
        ("a.txt.zst", zstd(ENDLESS), r"line 1: .* MiB; write each document on a line of its own"),
        ("a.txt.gz", gzip.compress(b"one\n\n" + SHORT), r"line 349528: .* MiB; put blank lines between the documents"),
        ("a.parquet", parquet_table(["a", ENDLESS.decode()]), r"row 2: .* MiB; cut it into several rows"),
        ("b.parquet", FORMATS["k.parquet"](["a"] * 9 + [ENDLESS.decode()]), r"row 10: .* MiB; cut it into several"),
    ],
)
def test_a_record_without_an_end_is_refused_before_it_takes_all_memory(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OdysseyError, match=problem) as caught:
        read(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}, ")
    assert "a document of more than 1 MiB" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("_short_records")
def test_a_text_file_that_is_a_document_is_bounded_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_bytes(SHORT)
    with pytest.raises(OdysseyError, match=r"b\.txt, line 349526: .* 1 MiB; cut it into several files"):
        read(tmp_path)


@pytest.mark.usefixtures("_short_records")
@pytest.mark.parametrize("name", FORMATS)
def test_the_limit_is_of_each_record_and_not_of_a_file(tmp_path: Path, name: str) -> None:
    texts = [f"{k}{'x' * 900_000}" for k in range(4)] + ["a\n" * 300_000] * 2
    (tmp_path / name).write_bytes(FORMATS[name](texts))
    assert list(read(tmp_path / name).values()) == texts


@pytest.mark.usefixtures("_short_records")
@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        (pyarrow.string(), {}),
        (pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), {}),
        (pyarrow.string(), {"use_dictionary": False, "compression": "zstd"}),
        (pyarrow.string(), {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}}),
    ],
    ids=["dictionary pages", "dictionary", "compressed", "prefixes"],
)
def test_a_text_of_many_rows_of_parquet_is_not_held_for_each(
    tmp_path: Path, kind: pyarrow.DataType, stored: dict[str, Any]
) -> None:
    """The file is small, as the text is stored once, or compressed; one text alone would be in order."""
    path, texts = tmp_path / "a.parquet", ["x" * 200_000] * 128 + ["y"] * 128
    for some, name in ((texts, "a.parquet"), (texts[128:], "b.parquet")):
        table = pyarrow.table({"text": pyarrow.array(some, kind)})
        parquet.write_table(table, tmp_path / name, row_group_size=128, **stored)
    assert path.stat().st_size < 500_000
    batches = list(text_batches(path, "text"))
    assert max(batch.nbytes for batch in batches) < 1.1 * (1 << 20)
    assert [value for batch in batches for value in batch.to_pylist()] == texts
    assert [len(batch) for batch in text_batches(tmp_path / "b.parquet", "text")] == [128]
