"""How far a domain is from the source corpus, beside how far the source corpus is from itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from odyssey.advisor.texts import ROW_WORDS, Texts
from odyssey.errors import OdysseyError
from odyssey.science.distances import Gaussian, Moments, mmd_linear
from odyssey.science.overlap import ngram_overlap
from odyssey.science.splits import generator, split_documents

T = TypeVar("T")

ROWS = 200
"""Rows of either side at most, as many as the mini-study embeds of a domain. Both distances depend on it."""
FEWEST_ROWS = 50
"""Below it a distance says more of the sample than of the texts. Ours."""
DRAWS = 5
"""Pairs of samples of the source corpus that are compared. Ours."""
NGRAM_WORDS = 8
"""Of the n-grams that contamination is measured by: the mini-study's, by which it leaves near-copies out. Longer
ones (13 words in GPT-3's report, appendix C) miss what was edited lightly."""
CONTAINED = 0.5
"""Share of a document's n-grams that makes it a near-copy, as in the mini-study."""

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts (n) to unit vectors (n, d)."""


@dataclass(frozen=True)
class Similarity:
    """Distances at equal n, the mean over draws, and what they are to be judged with."""

    n: int
    """Rows in every sample."""
    draws: int
    fd: float
    """Of the domain to the source corpus; a squared distance, no unit, as all distances here."""
    mmd: float
    fd_within: float
    """Of the source corpus to itself: two samples without a common document."""
    fd_within_sd: float
    """Standard deviation over draws."""
    mmd_within: float
    ngrams: float
    """Share of the domain's n-grams that are in the source texts."""
    contained_share: float
    """Share of its documents that are near-copies of them."""
    contained: int
    """How many that are."""
    lower_bound: bool
    """Whether there are more source texts than were looked at."""
    truncated_domain: float
    """Share of embedded rows that are longer than the encoder reads."""
    truncated_source: float
    words_domain: float
    """Words of a row, mean of those embedded."""
    words_source: float

    @property
    def fd_ratio(self) -> float:
        """FD to the source corpus over the source corpus's to itself: 1 cannot be told from it."""
        return self.fd / self.fd_within

    @property
    def mmd_ratio(self) -> float:
        """The same of MMD."""
        return self.mmd / self.mmd_within

    def as_dict(self) -> dict[str, Any]:
        """Everything measured, for JSON."""
        return {**asdict(self), "fd_ratio": self.fd_ratio, "mmd_ratio": self.mmd_ratio}


def measure(
    domain: Texts, source: Texts, encode: Encode, count_truncated: Callable[[Sequence[str]], int], seed: int
) -> Similarity:
    """Compare as many rows of the domain with as many of the source corpus, and these with others of their own.

    Rows are drawn from as many documents as there are, so that a long document does not stand for
    its side. Raises OdysseyError for identical texts, and for fewer than `FEWEST_ROWS` rows.
    """
    n = _rows_to_compare(domain, source)
    # A draw of its own for each side: the source's rows are then the same for every domain.
    chosen = [row for document in spread(domain.documents, n, generator(seed, "advise", "rows")) for row in document]
    pool = spread(source.documents, 3 * n, generator(seed, "advise", "source rows"))
    if max(map(len, pool)) > n // 2:
        raise OdysseyError(
            f"{source.name}: too few documents ({source.found}): two samples of {n} rows with none in common are "
            "needed; in a .txt file by itself, blank lines separate documents"
        )
    rows = [row for document in pool for row in document]
    x, y = encode(chosen[:n]), encode(rows)
    fd, mmd, fd_within, mmd_within = _distances(x, y, list(map(len, pool)), n, generator(seed, "advise", "draws"))
    if not (fd_within.all() and mmd_within.all()):
        raise OdysseyError(f"{source.name}: its rows are all the same text; give what the model was pretrained on")
    copies = ngram_overlap(domain.text(), source.text(), NGRAM_WORDS, CONTAINED)
    return Similarity(
        n=n,
        draws=DRAWS,
        fd=float(fd.mean()),
        mmd=float(mmd.mean()),
        fd_within=float(fd_within.mean()),
        fd_within_sd=float(fd_within.std(ddof=1)),
        mmd_within=float(mmd_within.mean()),
        ngrams=copies.ngrams,
        contained_share=copies.contained_share,
        contained=copies.contained,
        lower_bound=not source.complete,
        truncated_domain=count_truncated(chosen[:n]) / n,
        truncated_source=count_truncated(rows) / len(rows),
        words_domain=float(np.mean([len(row.split()) for row in chosen[:n]])),
        words_source=float(np.mean([len(row.split()) for row in rows])),
    )


def _rows_to_compare(domain: Texts, source: Texts) -> int:
    """How many rows of each side there are enough of; of the source corpus, several samples are drawn."""
    if sorted(domain.text()) == sorted(source.text()):
        raise OdysseyError(
            f"{domain.name} and {source.name} hold the same texts: nothing can be told of a domain that is "
            "its own source corpus; give as --source what the model was pretrained on"
        )
    n = min(ROWS, len(domain.rows), len(source.rows) // 3)
    if n < FEWEST_ROWS:
        raise OdysseyError(
            f"too few texts to measure similarity: {len(domain.rows)} rows of at most {ROW_WORDS} words in "
            f"{domain.name}, {len(source.rows)} in {source.name}; needed are {FEWEST_ROWS} and {3 * FEWEST_ROWS}"
        )
    return n


def spread(documents: Sequence[Sequence[T]], wanted: int, rng: np.random.Generator) -> list[list[T]]:
    """Documents in random order, each cut to a few random items, that have `wanted` items or a few more together.

    As few of each document as will do: one, where there are `wanted` documents. All items, if
    there are fewer than wanted.
    """
    sizes = np.array([len(document) for document in documents])
    most = next((k for k in range(1, int(sizes.max())) if np.minimum(sizes, k).sum() >= wanted), int(sizes.max()))
    taken: list[list[T]] = []
    total = 0
    for place in rng.permutation(len(documents)).tolist():
        if total >= wanted:
            break
        document = documents[place]
        places = rng.permutation(len(document))[:most]
        taken.append([document[k] for k in sorted(places.tolist())])
        total += len(taken[-1])
    return taken


def _distances(
    x: NDArray[np.float32], y: NDArray[np.float32], sizes: Sequence[int], n: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """FD and MMD of x (n, d) to samples of y, and of these to others of y without a common document: (4, draws).

    Rows of y are in documents of these sizes, one after the other.
    """
    starts = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    documents = [range(start, stop) for start, stop in pairwise(starts)]
    domain = Moments().update(x).gaussian()
    found = []
    for _ in range(DRAWS):
        halves, _ = split_documents(documents, {"one": n, "other": n}, rng)
        one, other = (Moments().update(y[rows]).gaussian() for rows in halves.values())
        found.append([*_pair(domain, one), *_pair(one, other)])
    return np.array(found).T


def _pair(x: Gaussian, y: Gaussian) -> tuple[float, float]:
    return x.frechet_distance(y), mmd_linear(x.mean, y.mean)
