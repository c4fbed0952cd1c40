"""`odyssey perplexity`, `odyssey distance` and the texts of `odyssey advise`, on anyone's files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from odyssey import models, scoring, tools
from odyssey.advisor import texts
from odyssey.errors import OdysseyError
from odyssey.tools import compare_files, score_file

from .conftest import FUZZ
from .damage import TEXT, damaged, refused
from .test_texts import decoded, of_json

ROWS = ["The value of row 3", "is returned;", " é \u202e\u2028\0", "the\rindex", "The value of row 3", "x" * 40]
FILE = "\n".join(ROWS).encode()
FILES = [
    FILE,
    b"\xef\xbb\xbf" + FILE.replace(b"\n", b"\r\n\r\n"),
    b"",
    b"\n\n",
    b"a",
    b"ab cd",
    b"same\n" * 4,
    FILE[:30],
]
D = 3


def rows_of(content: bytes) -> list[str] | None:
    """Its rows; None where it has none or is not UTF-8."""
    lines = decoded(content.replace(b"\r\n", b"\n"))
    return None if lines is None else [line for line in lines if line.strip()] or None


def vectors(_: Any, rows: Sequence[str], *__: Any) -> Any:
    """A unit vector for each row, in the place of an encoder: equal rows have equal ones."""
    x = np.array([[byte - 127.5 for byte in sha256(row.encode()).digest()[:D]] for row in rows])
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[Path]:
    """A folder for the files; the model is loaded once, and the encoder is one that takes no time."""
    loaded = models.load(checkpoint)
    encoder = SimpleNamespace(d=D, name="quick", sha256="0" * 64, model=None, max_seq_length=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load", lambda *_: loaded)
        patch.setattr(tools, "load_encoder", lambda *_: encoder)
        patch.setattr(tools, "encode", vectors)
        yield tmp_path_factory.mktemp("tools")


@FUZZ
@given(content=damaged(FILES), separator=st.sampled_from(["\n", " ", "", "<|endoftext|>", "\t", ";"]))
def test_perplexity_is_that_of_the_joined_rows(folder: Path, checkpoint: Path, content: bytes, separator: str) -> None:
    path = folder / "text.txt"
    path.write_bytes(content)
    found = refused(path, lambda: score_file(str(checkpoint), path, None, separator))
    rows = rows_of(content)
    network, tokenizer = models.load(checkpoint)
    ids = [] if rows is None else tokenizer(separator.join(rows), add_special_tokens=False)["input_ids"]
    if rows is None or len(ids) < 2:
        assert isinstance(found, str)
        return
    nll = scoring.token_nll(network, np.array(ids, np.int32), 16, 16)
    assert not isinstance(found, str)
    assert (found["rows"], found["tokens"]) == (len(rows), len(nll))
    assert found["bytes"] == len(separator.join(rows).encode())
    assert found["nll_sum"] == pytest.approx(float(nll.sum(dtype=np.float64)), rel=1e-5)
    assert found["perplexity"] == pytest.approx(np.exp(found["nll_sum"] / len(nll)))


@pytest.mark.parametrize("separator", ["\ud800", "a\udcffb"])
def test_halves_of_characters_join_nothing(folder: Path, checkpoint: Path, separator: str) -> None:
    (folder / "whole.txt").write_bytes(FILE)
    with pytest.raises(OdysseyError, match=r"^--separator '.*ud.*': not a character of Unicode; give another one$"):
        score_file(str(checkpoint), folder / "whole.txt", None, separator)


@FUZZ
@given(content=damaged(FILES), other=st.sampled_from(FILES))
@example(content=b"same\nsame\n", other=b"same\n" * 4)
@example(content=FILE, other=FILE)
def test_distances_are_those_of_the_rows(folder: Path, content: bytes, other: bytes) -> None:
    path, beside = folder / "a.txt", folder / "b.txt"
    path.write_bytes(content)
    beside.write_bytes(other)
    both = [rows_of(content), rows_of(other)]
    found = refused(folder, lambda: compare_files(path, beside))
    if isinstance(found, str):
        assert any(rows is None or len(rows) < 2 for rows in both)
        return
    x, y = (vectors(None, rows or []).astype(float) for rows in both)
    assert (found["n_source"], found["n_target"]) == (len(x), len(y))
    means = [z.mean(axis=0) for z in (x, y)]
    assert found["mmd"] == pytest.approx(((means[0] - means[1]) ** 2).sum(), abs=1e-12)
    a, b = (np.cov(z, rowvar=False) for z in (x, y))
    values = np.linalg.eigvals(a @ b)
    expected = found["mmd"] + np.trace(a) + np.trace(b) - 2 * np.sqrt(np.maximum(values.real, 0)).sum()
    assert found["fd"] == pytest.approx(expected, abs=1e-6)
    assert found["fd"] >= found["mmd"]
    if content == other:
        assert found["fd"] == found["mmd"] == 0


# --- advice

TEXTS = [
    "one two three",
    "---\n\nfour --- five\n\n\nsix",
    " ",
    "\u2028",
    "é中 क्ष",
    "word " * 120,
    "same",
    "same",
    "😀 !!",
]
JSONL = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in TEXTS)


def words_of(text: str) -> list[str]:
    """Words of the lines with a letter or a digit."""
    return [word for line in text.splitlines() if any(c.isalnum() for c in line) for word in line.split()]


@FUZZ
@given(content=damaged([JSONL, b'{"text": "a"}', b'{"text": "!"}', b""]), kept=st.sampled_from([1, 100, 10**6]))
def test_words_of_a_domain_are_all_in_its_rows(folder: Path, content: bytes, kept: int) -> None:
    path = folder / "domain.jsonl"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "KEPT_WORDS", kept)
        found = refused(path, lambda: texts.read(path, None, 0, "domain"))
    records = of_json(content)
    expected = [words for _, text in records or [] if (words := words_of(text))]
    if isinstance(found, str):
        assert not expected
        assert "of this corpus in the study" not in found
        return
    assert (found.found, found.words) == (len(expected), sum(map(len, expected)))
    drawn = [" ".join(rows).split() for rows in found.documents]
    assert all(len(row.split()) <= texts.ROW_WORDS and row == row.strip() for row in found.rows)
    remaining = iter(expected)
    assert all(words in remaining for words in drawn)  # some of them, in their order
    assert found.complete == (drawn == expected)
    assert found.kept_words >= min(kept, found.words)


@pytest.mark.slow
@FUZZ
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["a", "b", None, "\0"]), st.one_of(st.none(), TEXT)), min_size=1, max_size=6
    )
)
def test_rows_of_parquet_are_put_together_by_document(folder: Path, rows: list[tuple[str | None, str | None]]) -> None:
    import pyarrow
    from pyarrow import parquet

    path = folder / "domain.parquet"
    columns = {"document": [document for document, _ in rows], "text": [text for _, text in rows]}
    parquet.write_table(pyarrow.table({k: pyarrow.array(v, pyarrow.string()) for k, v in columns.items()}), path)
    found = refused(path, lambda: texts.read(path, None, 0, "domain"))
    expected: list[list[str]] = []
    there = [(document, text) for document, text in rows if text and text.strip()]
    apart = len({document for document, _ in rows}) < 2
    for k, (document, text) in enumerate(there):
        if apart or k == 0 or there[k - 1][0] != document:
            expected.append([])
        expected[-1] += words_of(text)
    expected = [words for words in expected if words]
    if isinstance(found, str):
        assert not expected
    else:
        assert sorted(" ".join(document).split() for document in found.documents) == sorted(expected)


def test_a_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(OdysseyError, match="no such file or folder"):
            texts.read_source(name, None, 0, tmp_path)
