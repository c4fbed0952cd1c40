"""How much of some texts stands in others: shared runs of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from odyssey.science.copies import shingle_ids


class Overlap(NamedTuple):
    """How much of a domain's texts is found in other texts."""

    ngrams: float
    """Share of the domain's n-grams, repeated ones counted each time, that are in the other texts."""
    contained_share: float
    """Share of its documents, of those with a word, of which at least `threshold` of the n-grams are."""
    contained: int
    """How many that are."""


def ngram_overlap(domain: Sequence[str], others: Sequence[str], words: int, threshold: float) -> Overlap:
    """Containment (Broder 1997) of documents in all other texts together, by runs of `words` words.

    Case and punctuation are ignored, a text with fewer words is one n-gram: see `shingle_ids`.
    Where `others` is a sample, what is found is a lower bound.

    Raises ValueError if no document has a word.
    """
    ids, bounds = shingle_ids([*domain, *others], words)
    own = int(bounds[len(domain)])
    if own == 0:
        raise ValueError("no document of the domain has a word")
    there = np.zeros(int(ids.max()) + 1, dtype=bool)
    there[ids[own:]] = True
    hits = there[ids[:own]]  # (n_ngrams of the domain,)
    sizes = np.diff(bounds[: len(domain) + 1])
    counted = sizes > 0
    # Of one cumulative sum, so that documents without n-grams need no case of their own.
    sums = np.concatenate([[0], np.cumsum(hits)])
    shares = (sums[bounds[1 : len(domain) + 1]] - sums[bounds[: len(domain)]])[counted] / sizes[counted]
    contained = int((shares >= threshold).sum())
    return Overlap(float(hits.mean()), contained / int(counted.sum()), contained)
