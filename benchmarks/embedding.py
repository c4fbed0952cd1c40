"""Embedding rows of mixed lengths with the pinned encoder, against SentenceTransformer.encode with its defaults.

300 rows of 3 to 300 words; with a number as argument, that many. Takes about 5 minutes on two cores,
half an hour with 2,000. The peer's model is the same object, so weights, precision, threads and
tokenizer are the same. In bfloat16 ours is measured, too; it is not the default, as distances would no
longer be the same digits.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import harness
import numpy as np

from odyssey.encoder import PINNED, PINNED_SHA256, Encoder, encode, load_encoder

ROWS = 300
WORDS = (3, 300)
BATCH = 32
"""Also the peer's default."""
DOCUMENTED = ("numpy", "pandas", "scipy.stats", "torch", "networkx", "sympy")
PEER = "SentenceTransformer.encode"


def main(n: int) -> None:
    """Measure float32, then bfloat16, and record both."""
    rows = text(n)
    encoder = load_encoder(PINNED, PINNED_SHA256)
    check_rows_do_not_depend_on_others(encoder, rows[:64])
    theirs = partial(encoder.model.encode, rows, normalize_embeddings=True, show_progress_bar=False)
    ours = partial(encode, encoder, rows, BATCH)
    half = partial(encode, replace(encoder, precision="bfloat16"), rows, BATCH)
    results = [
        measured(n, "float32", ours, theirs, 0.99999),
        measured(n, "ours with products in bfloat16 (`embed.precision`, not the default)", half, theirs, 0.999),
    ]
    harness.record("embedding", results)


def measured(
    n: int, precision: str, ours: Callable[[], Any], theirs: Callable[[], Any], least: float
) -> harness.Result:
    """Ours beside the peer; every row's cosine must be at least `least`."""

    def same(values: Mapping[str, Any]) -> str:
        cosine = np.sum(values[harness.OURS].astype(float) * values[PEER].astype(float), axis=1)
        assert cosine.min() >= least, cosine.min()
        return f"cosine at least 1 - {max(0.0, 1 - cosine.min()):.0e} in each row"

    name = f"{n:,} rows of {WORDS[0]} to {WORDS[1]} words embedded, {precision}"
    ways = {
        harness.OURS: lambda: harness.timed(ours),
        PEER: lambda: harness.timed(theirs),
    }
    return harness.alternate(name, "2x, cosine >= 0.999", ways, same)


def check_rows_do_not_depend_on_others(encoder: Encoder, rows: list[str]) -> None:
    """Order and batch size change no row by more than 1e-3: in fact by less than 1e-5."""
    x = encode(encoder, rows, BATCH)
    order = np.random.default_rng(1).permutation(len(rows))
    for size in (1, 7):
        shuffled = encode(encoder, [rows[place] for place in order], size)
        change = float(np.abs(shuffled - x[order]).max())
        assert change < 1e-5, change
    print(f"another order and batch size change a row by {change:.0e} at most")


def text(n: int) -> list[str]:
    """Rows whose number of words is uniform, cut from installed packages' documentation."""
    words: list[str] = []
    for module in map(importlib.import_module, DOCUMENTED):
        documented = (getattr(getattr(module, name, None), "__doc__", None) for name in sorted(dir(module)))
        words += [word for text in documented if isinstance(text, str) for word in text.split()]
    rng = np.random.default_rng(0)
    lengths = rng.integers(WORDS[0], WORDS[1] + 1, n)
    starts = rng.integers(0, len(words) - WORDS[1], n)
    return [" ".join(words[start : start + length]) for start, length in zip(starts, lengths, strict=True)]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
