"""Near-copies by shared word shingles."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

_WORD = re.compile(r"\w+")


def shingle_ids(texts: Sequence[str], words: int) -> tuple[np.ndarray, np.ndarray]:
    """Number every run of `words` consecutive words; equal runs get equal numbers.

    Case and punctuation are ignored; a text with fewer words is one shingle (none, if it
    has no word). Returns `ids: (n_shingles,)` over all texts and `bounds: (n_texts + 1,)`,
    text i's shingles being `ids[bounds[i]:bounds[i + 1]]`. Shingling and containment
    follow Broder (1997), "On the resemblance and containment of documents".
    """
    vocabulary: dict[str, int] = {}
    streams = [
        np.array([vocabulary.setdefault(w, len(vocabulary)) for w in _WORD.findall(text.lower())], dtype=np.int64)
        for text in texts
    ]
    # A random 64-bit value a word, combined with odd multipliers: equal sums for unequal
    # runs have a chance of about n^2 / 2^64, 1e-6 for six million shingles.
    generator = np.random.default_rng(0)
    value = generator.integers(0, 2**64, size=max(len(vocabulary), 1), dtype=np.uint64)
    weight = generator.integers(0, 2**64, size=words, dtype=np.uint64) | np.uint64(1)
    hashes = [_rolling(value[stream], weight) for stream in streams]
    bounds = np.concatenate([[0], np.cumsum([len(h) for h in hashes])]).astype(np.int64)
    _, ids = np.unique(np.concatenate(hashes) if hashes else np.empty(0, np.uint64), return_inverse=True)
    return ids, bounds


def keep_originals(texts: Sequence[str], words: int, threshold: float, late: Sequence[bool] | None = None) -> list[int]:
    """Indices, ascending, of the texts that are not near-copies of kept ones.

    Texts are taken longest first (ties by position), those that are `late` after all others; one is
    left out if at least `threshold` of its shingles stand in texts kept before it, together. So a
    short text contained in a longer one goes, no kept text has that share in any taken before it,
    and late texts do not change which of the others are kept.
    """
    ids, bounds = shingle_ids(texts, words)
    sizes = np.diff(bounds)
    seen = np.zeros(int(ids.max()) + 1 if len(ids) else 0, dtype=bool)
    kept = []
    for index in np.lexsort((-sizes, np.zeros(len(texts)) if late is None else np.asarray(late))):
        own = ids[bounds[index] : bounds[index + 1]]
        if len(own) and seen[own].mean() < threshold:
            kept.append(int(index))
            seen[own] = True
    return sorted(kept)


def _rolling(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted sums (modulo 2^64) of every window of len(weight) values, or of the one short window."""
    if len(values) == 0:
        return np.empty(0, dtype=np.uint64)
    width = min(len(values), len(weight))
    windows = np.lib.stride_tricks.sliding_window_view(values, width)
    sums: np.ndarray = (windows * weight[:width]).sum(axis=1, dtype=np.uint64)
    return sums
