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
from odyssey.science.rows import pack
from odyssey.science.splits import generator
from odyssey.settings import Settings
from odyssey.store import check_file, missing, new_folder, prune, read_json, write_json


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
    for name in names:  # before anything is embedded
        _size(settings, name, _rows_there(layout, name))
    encoder = None
    for name, folder, origin in cells:
        encoder = encoder or load_encoder(rule.encoder, rule.sha256, rule.revision, rule.precision)
        with new_folder(folder, origin, {"batch_size": rule.batch_size}) as temporary:
            _embed(settings, layout, name, encoder, temporary)


def _rows_of(layout: Layout, name: str) -> Path:
    return layout.source if name == SOURCE else layout.split(name, "train")


def _size(settings: Settings, name: str, population: int) -> int:
    """Texts to embed of a corpus that has so many; raises OdysseyError where these are too few for a covariance."""
    rule = settings.embed
    n = sample_size(population, rule.source_fraction if name == SOURCE else rule.fraction, rule.max_texts)
    if n < 2:
        raise OdysseyError(f"'{name}': {n} of its {population} rows would be embedded; FD needs at least 2")
    return n


def _rows_there(layout: Layout, name: str) -> int:
    """How many rows a corpus has; raises OdysseyError as `check_file` does."""
    path = layout.corpus(name) / SUMMARY
    check_file(path, "sample")
    summary = read_json(path)
    return int(summary["rows"] if name == SOURCE else summary["train"]["rows"])


def _texts(settings: Settings, layout: Layout, name: str) -> tuple[list[str], int]:
    """The texts of a corpus that are drawn, in its order, and how many they are drawn from."""
    path, population, words = _rows_of(layout, name), _rows_there(layout, name), settings.embed.group_words
    rng = generator(settings.seed, "embed", name)
    if name == SOURCE or words is None:
        return read_texts(path, draw(population, _size(settings, name, population), rng)), population
    groups = pack(iter(read_texts(path)), words)
    chosen = draw(len(groups), _size(settings, name, len(groups)), rng)
    return [groups[place] for place in chosen.tolist()], len(groups)


def _embed(settings: Settings, layout: Layout, name: str, encoder: Encoder, folder: Path) -> None:
    """Write the cell of a corpus: texts drawn of it as vectors."""
    rows, population = _texts(settings, layout, name)
    with bar(label=f"embed {name}", total=len(rows), unit="rows") as progress:
        x = encode(encoder, rows, settings.embed.batch_size, progress.update)
    np.save(folder / layout.embedding(name).name, x, allow_pickle=False)
    about: dict[str, Any] = {
        "encoder": encoder.name,
        "sha256": encoder.sha256,
        "max_seq_length": encoder.max_seq_length,
    }
    about |= {"d": encoder.d, "n": len(rows), "population": population, "truncated": count_truncated(encoder, rows)}
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
