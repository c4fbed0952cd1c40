"""Any rows, joined in any way, as ids and back: whatever the pieces that a text is cut into."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hub_content import _sentencepiece
from hypothesis import example, given
from hypothesis import strategies as st

from odyssey import tokenization
from odyssey.tokenization import END_OF_TEXT, encode, encode_by_row, iter_encoded, newline_ids, token_texts

from .conftest import FUZZ
from .damage import TEXT

TEXTS = [f"The value of row {k} is returned; see `frame` and (its) index.\n\n é中 . \t" for k in range(40)]
SEPARATORS = ["\n", " ", "\n\n", "\t", "\r\n", "\u2028", "\u00a0", "\x1c", END_OF_TEXT, "", "|", ". ", " \n", "\u0301"]
ROW = st.one_of(
    TEXT, st.sampled_from(["The value of", "row is", " ", "", "\n", ";", END_OF_TEXT, "<s>", "</s>", "\u2581", "s"])
)


@cache
def byte_level() -> Any:
    return tokenization.train_tokenizer(TEXTS, 400, 16)


@cache
def newlines_of_it() -> list[int]:
    return newline_ids(byte_level())


@cache
def sentencepiece() -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=_sentencepiece(TEXTS, 460), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.fixture(scope="module", autouse=True)
def small_pieces() -> Iterator[None]:
    """Texts are cut wherever they may be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenization, "PIECE", 3)
        patch.setattr(tokenization, "PIECES", 2)
        yield


def whole(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
    """Ids of a text that is tokenised at once, and where each token begins."""
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return found["input_ids"], [start for start, _ in found["offset_mapping"]]


@pytest.mark.parametrize("make", [byte_level, sentencepiece])
@FUZZ
@given(rows=st.lists(ROW, max_size=6), separator=st.sampled_from(SEPARATORS))
@example(rows=["a.", "!b"], separator="\x1c")
@example(rows=["plain", "\u0301mark"], separator="\n")
def test_ids_are_those_of_the_whole_text(make: Any, rows: list[str], separator: str) -> None:
    tokenizer = make()
    text = separator.join(rows)
    expected, starts = whole(tokenizer, text)
    ids, n_bytes = encode(tokenizer, rows, separator)
    assert ids.dtype == np.int32
    assert ids.tolist() == expected
    assert n_bytes == len(text.encode())
    assert all(0 <= token < len(tokenizer) for token in ids)
    again, same_bytes, row_of = encode_by_row(tokenizer, rows, separator)
    assert (again.tolist(), same_bytes) == (expected, n_bytes)
    # A row begins with the separator before it.
    begins = [0, *accumulate(len(row) + len(separator) * (k > 0) for k, row in enumerate(rows))][: len(rows)]
    assert row_of.tolist() == [sum(begin <= start for begin in begins) - 1 for start in starts]
    parts = list(iter_encoded(tokenizer, iter(rows), separator))
    assert [token for own, _ in parts for token in own] == expected


@FUZZ
@given(rows=st.lists(ROW, min_size=1, max_size=4))
def test_every_text_is_found_again_in_its_ids(rows: list[str]) -> None:
    """Bytes are tokens, so nothing is unknown, also what no text had that the tokenizer was trained on."""
    tokenizer = byte_level()
    ids, _, row_of = encode_by_row(tokenizer, rows, END_OF_TEXT)
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == END_OF_TEXT.join(rows)
    for number, row in enumerate(rows):  # no token reaches over a special one
        own = tokenizer.decode(ids[row_of == number], clean_up_tokenization_spaces=False)
        assert own == (END_OF_TEXT if number else "") + row


@FUZZ
@given(ids=st.lists(st.integers(0, 399), max_size=20))
def test_tokens_have_texts(ids: list[int]) -> None:
    tokenizer = byte_level()
    ids = [token % len(tokenizer) for token in ids]
    texts = token_texts(tokenizer, iter(ids))
    assert len(texts) == len(ids)
    if all("\ufffd" not in text for text in texts):
        assert "".join(texts) == tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    newlines = newlines_of_it()
    assert all(
        (token in newlines) == (bool(text) and set(text) == {"\n"}) for token, text in zip(ids, texts, strict=True)
    )
