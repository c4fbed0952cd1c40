"""Stage `embed`: sampled rows of the source corpus and of every domain as unit vectors (paper, section 2.4).

Of a domain the train split is embedded: it is what a model is adapted to.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from odyssey.corpora.parquet import read_texts
from odyssey.encoder import Encoder, count_truncated, encode, encoder_files, load_encoder
from odyssey.errors import OdysseyError
from odyssey.layout import SOURCE, SUMMARY, Layout
from odyssey.progress import bar
from odyssey.provenance import code_digest, versions
from odyssey.science.splits import generator
from odyssey.settings import Settings
from odyssey.store import check_file, missing, new_folder, prune, read_json, write_json

LONG = 10_000
"""Rows from which a corpus gets a progress bar of its own."""


def run(settings: Settings, layout: Layout) -> None:
    """Write a cell for the source corpus and each domain: vectors.npy, float32 (n, d), and summary.json."""
    rule, names = settings.embed, [SOURCE, *settings.domains]
    files = encoder_files(rule.encoder, rule.revision)
    code, packages = code_digest(__name__), versions("torch", "transformers", "sentence-transformers")

    def made_from(name: str) -> dict[str, Any]:
        return {
            "rows": check_file(_rows_of(layout, name), "sample"),
            "settings": {"seed": settings.seed, "embed": rule.model_dump(exclude={"batch_size", "revision"})},
            "encoder": files,
            "code": code,
            "packages": packages,
        }

    prune(layout.embed, keep=set(names))
    cells = missing(names, layout.embedded, made_from, "embed", unit="corpora")
    sizes = {name: _size(settings, layout, name) for name in names}
    encoder = None
    for name, folder, origin in cells:
        encoder = encoder or load_encoder(rule.encoder, rule.sha256, rule.revision)
        with new_folder(folder, origin, {"batch_size": rule.batch_size}) as temporary:
            _embed(settings, layout, name, *sizes[name], encoder, temporary)


def _rows_of(layout: Layout, name: str) -> Path:
    return layout.source if name == SOURCE else layout.split(name, "train")


def _size(settings: Settings, layout: Layout, name: str) -> tuple[int, int]:
    """Rows to embed of a corpus, and rows that there are of it."""
    rule = settings.embed
    if not (layout.corpus(name) / SUMMARY).is_file():
        raise OdysseyError(f"{layout.corpus(name)}: not there yet; run `dvc repro sample` first")
    summary = read_json(layout.corpus(name) / SUMMARY)
    population = summary["rows"] if name == SOURCE else summary["train"]["rows"]
    n = sample_size(population, rule.source_fraction if name == SOURCE else rule.fraction, rule.max_texts)
    if n < 2:
        raise OdysseyError(f"'{name}': {n} of its {population} rows would be embedded; FD needs at least 2")
    return n, population


def _embed(
    settings: Settings, layout: Layout, name: str, n: int, population: int, encoder: Encoder, folder: Path
) -> None:
    """Write the cell of a corpus: n of its rows as vectors."""
    chosen = draw(population, n, generator(settings.seed, "embed", name))
    rows = read_texts(_rows_of(layout, name), chosen)
    # A bar of its own only where it takes long.
    with bar(label=f"embed {name}", total=n, unit="row", disable=n < LONG) as progress:
        x = encode(encoder, rows, settings.embed.batch_size, progress.update)
    np.save(folder / layout.embedding(name).name, x, allow_pickle=False)
    about: dict[str, Any] = {
        "encoder": encoder.name,
        "sha256": encoder.sha256,
        "max_seq_length": encoder.max_seq_length,
    }
    about |= {"d": encoder.d, "n": n, "population": population, "truncated": count_truncated(encoder, rows)}
    write_json(folder / SUMMARY, about)


def sample_size(population: int, fraction: float, max_texts: int) -> int:
    """Rows to embed of a corpus of that many: a share of a large one, a fixed number of a small one (section 2.4).

    The larger of ceil(fraction * population) and min(population, max_texts). The fraction is
    taken as it is written in decimal: 0.07 of 100 is 7, though the float's ceiling is 8.
    """
    return max(math.ceil(Fraction(str(fraction)) * population), min(population, max_texts))


def draw(population: int, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Places (n,) of n of the rows, uniformly and without replacement, ascending."""
    return np.sort(rng.choice(population, size=n, replace=False))
