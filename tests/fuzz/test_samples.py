"""Documents to rows, near-copies, samples and splits, of texts that are empty, all the same or anything."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odyssey.science.copies import keep_originals, shingle_ids
from odyssey.science.overlap import ngram_overlap
from odyssey.science.rows import pack, paragraphs
from odyssey.science.sampling import lowest, smallest
from odyssey.science.splits import share_out, split_documents

from .conftest import FUZZ
from .damage import TEXT

PARTS = st.lists(
    st.one_of(TEXT, st.sampled_from(["\n\n", "\n \n", "a b c", "same words here", "---", "_", ""])), max_size=6
)


@FUZZ
@given(parts=PARTS, row_words=st.integers(1, 5))
def test_rows_have_a_documents_words_in_their_order(parts: list[str], row_words: int) -> None:
    text = "".join(parts)
    lines = list(paragraphs(text))
    words = [w for part in text.splitlines() if any(c.isalnum() for c in part) for w in part.split()]
    assert " ".join(lines).split() == words
    assert all(line == " ".join(line.split()) and len(line.splitlines()) == 1 for line in lines)
    rows = pack(iter(lines), row_words)
    assert " ".join(rows).split() == words
    assert all(0 < len(row.split()) <= row_words for row in rows)


@FUZZ
@given(
    texts=st.lists(st.one_of(TEXT, st.sampled_from(["", "a b c d", "A, b! c d e", "same"])), max_size=6),
    words=st.integers(1, 3),
    threshold=st.sampled_from([0.1, 0.5, 1.0]),
)
def test_originals_and_overlap_are_those_of_sets_of_shingles(texts: list[str], words: int, threshold: float) -> None:
    def shingles(text: str) -> list[tuple[str, ...]]:
        own = re.findall(r"\w+", text.lower())
        return [tuple(own[k : k + words]) for k in range(max(len(own) - words + 1, min(len(own), 1)))]

    each = [shingles(text) for text in texts]
    ids, bounds = shingle_ids(texts, words)
    assert np.diff(bounds).tolist() == [len(own) for own in each]
    assert len(set(ids.tolist())) == len({one for own in each for one in own})
    seen: set[tuple[str, ...]] = set()
    kept = []
    for k in sorted(range(len(texts)), key=lambda k: (-len(each[k]), k)):
        if each[k] and sum(one in seen for one in each[k]) / len(each[k]) < threshold:
            kept.append(k)
            seen |= set(each[k])
    assert keep_originals(texts, words, threshold) == sorted(kept)
    half = len(texts) // 2
    there = {one for own in each[half:] for one in own}
    if not any(each[:half]):
        with pytest.raises(ValueError, match="no document of the domain has a word"):
            ngram_overlap(texts[:half], texts[half:], words, threshold)
        return
    found = ngram_overlap(texts[:half], texts[half:], words, threshold)
    hits = [[one in there for one in own] for own in each[:half] if own]
    assert found.ngrams == pytest.approx(np.mean([hit for own in hits for hit in own]))
    assert found.contained == sum(np.mean(own) >= threshold for own in hits)
    assert found.contained_share == pytest.approx(found.contained / len(hits))


@FUZZ
@given(
    sizes=st.lists(st.integers(0, 9), max_size=8),
    limits=st.fixed_dictionaries({name: st.none() | st.integers(1, 30) for name in ("train", "valid", "test")}),
    seed=st.integers(0, 3),
)
def test_no_document_is_in_two_splits(sizes: list[int], limits: dict[str, int | None], seed: int) -> None:
    documents = [[(k, row) for row in range(size)] for k, size in enumerate(sizes)]
    wanted = share_out(sum(sizes), limits)
    splits, left = split_documents(documents, wanted, np.random.default_rng(seed))
    used = [{document for document, _ in rows} for rows in splits.values()]
    assert sum(map(len, used)) == len(set().union(*used))
    assert not set(left) & set().union(*used)
    assert list(splits) == list(limits)
    for name, rows in splits.items():
        assert len(rows) == len(set(rows)) <= wanted[name]
    if sum(wanted.values()) <= sum(sizes):
        first = next(iter(splits))
        assert len(splits[first]) == wanted[first]


@FUZZ
@given(values=st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75]), max_size=30), count=st.integers(0, 12))
def test_the_smallest_are_taken_the_first_of_equal_ones(values: list[float], count: int) -> None:
    expected = sorted(sorted(range(len(values)), key=lambda k: (values[k], k))[:count])
    assert np.flatnonzero(smallest(np.array(values), count)).tolist() == expected
    assert sorted(k for _, k in lowest(zip(values, range(len(values)), strict=True), count)) == expected
