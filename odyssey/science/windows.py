"""Which tokens a model sees together when a long text is scored."""

from __future__ import annotations

import numpy as np


def windows(n_tokens: int, context: int) -> list[tuple[int, int]]:
    """Consecutive windows [start, stop) of at most `context` tokens that overlap by one.

    A window predicts all its tokens but its first, and its first is the last one of the
    window before: so every token of the text except the very first is predicted exactly
    once. A text of fewer than two tokens has nothing to predict and no window.

    Raises ValueError if `context` is below 2.
    """
    if context < 2:
        raise ValueError(f"context must be at least 2 tokens, not {context}")
    stride = context - 1
    return [(start, min(start + context, n_tokens)) for start in range(0, n_tokens - 1, stride)]


def blocks(ids: np.ndarray, context: int) -> np.ndarray:
    """Cut ids (n,) into disjoint training sequences (n // context, context); the tail is dropped."""
    count = len(ids) // context
    return ids[: count * context].reshape(count, context)


def chunk_starts(n_tokens: int, chunk_tokens: int, wanted: int, rng: np.random.Generator) -> list[int]:
    """Starts of up to `wanted` disjoint chunks drawn at random from a text, ascending.

    The text is cut into disjoint chunks of `chunk_tokens` and a sample of them is taken
    without replacement; a text shorter than one chunk is one (short) chunk.
    """
    whole = n_tokens // chunk_tokens
    if whole == 0:
        return [0] if n_tokens else []
    return sorted(int(k) * chunk_tokens for k in rng.permutation(whole)[:wanted])
