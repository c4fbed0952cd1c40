"""`odyssey distance`: how far two texts are from each other, for anyone's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from odyssey.corpora.textfile import read_rows
from odyssey.encoder import PINNED, PINNED_SHA256, count_truncated, encode, load_encoder
from odyssey.errors import OdysseyError
from odyssey.progress import bar
from odyssey.science.distances import Moments, frechet_distance, mmd_linear

BATCH_SIZE = 32
"""Rows; changes speed and memory only."""


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
            moments[side] = Moments().update(encode(loaded, rows, BATCH_SIZE, progress.update))
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
