"""What `odyssey perplexity` and `odyssey distance` do with anyone's files, without the pipeline."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from odyssey import models, scoring, tokenization
from odyssey.corpora.textfile import iter_rows, read_rows
from odyssey.encoder import PINNED, PINNED_SHA256, count_truncated, encode, load_encoder
from odyssey.errors import OdysseyError
from odyssey.progress import bar
from odyssey.published import check_checkpoint_license
from odyssey.science.distances import Moments, frechet_distance, mmd_linear
from odyssey.science.perplexity import Score
from odyssey.sections import Precision

BATCH_TOKENS = 4096
"""Tokens scored at once; changes speed and memory only."""
BATCH_ROWS = 8
"""Rows embedded at once; changes speed and memory only."""


def score_file(
    model: str,
    text: Path,
    context: int | None = None,
    separator: str = "\n",
    accept_licenses: bool = False,
    precision: Precision = "float32",
) -> dict[str, Any]:
    """Score a UTF-8 file, one row per line, by the pipeline's convention (see `windows`).

    `model` is a folder or a hub id, `context` the window in tokens (the model's, if None), `precision`
    that of weights and activations; likelihoods are float32. Memory does not grow with the file, if the
    separator is white space or a special token.
    Returns nll_sum (nats), tokens (scored), bytes (of the joined rows), perplexity (per
    token), bits_per_byte, rows, context and precision. Raises OdysseyError on bad input.
    """
    # What is wrong with the file is said before a model is loaded; a pipe can only be read once.
    held = None if os.path.isfile(text) else read_rows(text)  # noqa: PTH113 - Path's fails for a name too long
    joint = _bytes(separator)
    n_rows, size = 0, 0
    for row in iter_rows(text) if held is None else held:
        n_rows, size = n_rows + 1, size + len(row.encode()) + joint
    if not Path(model).exists():
        check_checkpoint_license(model, accept_licenses)
    network, tokenizer = models.load(model, precision)
    limit = models.context_of(network)
    window = limit if context is None else context
    if window > limit:
        raise OdysseyError(f"--context {window} is longer than the model's context of {limit} tokens; lower it")
    nll_sum, n_ids, n_bytes = 0.0, 0, 0
    with bar(label="score", total=size - joint, unit="B") as progress:

        def parts() -> Iterator[np.ndarray]:
            nonlocal n_ids, n_bytes
            rows = iter_rows(text) if held is None else held
            for ids, more in tokenization.iter_encoded(tokenizer, rows, separator):
                n_ids, n_bytes = n_ids + len(ids), n_bytes + more
                yield ids

        for nll in scoring.iter_nll(network, parts(), window, BATCH_TOKENS):
            nll_sum += float(nll.sum(dtype=np.float64))
            progress.update(len(nll) * n_bytes / n_ids)
    if n_ids < 2:
        raise OdysseyError(f"{text}: only {n_ids} token; at least 2 are needed, as the first is not predicted")
    score = Score(nll_sum, n_ids - 1, n_bytes)
    return {
        **score.as_dict(),
        "perplexity": score.perplexity,
        "bits_per_byte": score.bits_per_byte,
        "rows": n_rows,
        "context": window,
        "precision": precision,
    }


def _bytes(separator: str) -> int:
    """Its length in bytes; raises OdysseyError where it has none: an escape can stand for half a character."""
    try:
        return len(separator.encode())
    except UnicodeEncodeError:
        raise OdysseyError(f"--separator {separator!a}: not a character of Unicode; give another one") from None


def compare_files(source: Path, target: Path, encoder: str | None = None) -> dict[str, Any]:
    """MMD and FD between the embeddings of all rows of two UTF-8 files, one row per line.

    `encoder` is a folder, a hub id or `package:<module>`; None is the pinned all-MiniLM-L6-v2,
    whose weights are checked. Returns mmd, fd, n_source, n_target, d, the encoder and its
    weights' sha256, and how many rows of each file were longer than it reads.

    Raises OdysseyError for an unreadable file, one with fewer than two rows (it has no
    covariance), or an encoder that cannot be had or is not the pinned one.
    """
    files = {"source": (source, read_rows(source)), "target": (target, read_rows(target))}
    for path, rows in files.values():
        if len(rows) < 2:
            raise OdysseyError(f"{path}: 1 row; a distance needs at least 2 rows, one per line, on each side")
    name = PINNED if encoder is None else encoder
    loaded = load_encoder(name, PINNED_SHA256 if name == PINNED else None)
    moments: dict[str, Moments] = {}
    with bar(label="embed", total=sum(len(rows) for _, rows in files.values()), unit="row") as progress:
        for side, (_, rows) in files.items():
            moments[side] = Moments().update(encode(loaded, rows, BATCH_ROWS, progress.update))
    x, y = moments["source"], moments["target"]
    return {
        "mmd": mmd_linear(x.mean, y.mean),
        "fd": frechet_distance(x.mean, x.cov, y.mean, y.cov),
        "n_source": x.n,
        "n_target": y.n,
        "d": loaded.d,
        "truncated_source": count_truncated(loaded, files["source"][1]),
        "truncated_target": count_truncated(loaded, files["target"][1]),
        "encoder": loaded.name,
        "sha256": loaded.sha256,
    }
