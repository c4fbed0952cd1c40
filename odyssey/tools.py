"""What `odyssey perplexity` does: a model's score on anyone's text, without the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from odyssey import models
from odyssey.corpora.textfile import read_rows
from odyssey.errors import OdysseyError
from odyssey.science.perplexity import Score

BATCH_TOKENS = 4096


def score_file(model: str, text: Path, context: int | None = None, separator: str = "\n") -> dict[str, Any]:
    """Score a UTF-8 file, one row per line, by the pipeline's convention (see `windows`).

    `model` is a folder or a hub id, `context` the window in tokens (the model's, if None).
    Returns nll_sum (nats), tokens (scored), bytes (of the joined rows), perplexity (per
    token), bits_per_byte, rows and context. Raises OdysseyError on bad input.
    """
    rows = read_rows(text)
    network, tokenizer = models.load(model)
    limit = models.context_of(network)
    window = limit if context is None else context
    if window > limit:
        raise OdysseyError(f"--context {window} is longer than the model's context of {limit} tokens; lower it")
    ids, n_bytes = models.encode(tokenizer, rows, separator)
    if len(ids) < 2:
        raise OdysseyError(f"{text}: only {len(ids)} token; at least 2 are needed, as the first is not predicted")
    score = Score.of(models.token_nll(network, ids, window, BATCH_TOKENS, label="score"), n_bytes)
    return {
        **score.as_dict(),
        "perplexity": score.perplexity,
        "bits_per_byte": score.bits_per_byte,
        "rows": len(rows),
        "context": window,
    }
