"""Stage `embed`: sampled rows of the source corpus and of every domain as unit vectors (paper, section 2.4).

Of a domain the train split is embedded: it is what a model is adapted to.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from odyssey.corpora.parquet import read_texts
from odyssey.encoder import count_truncated, encode, load_encoder
from odyssey.errors import OdysseyError
from odyssey.layout import SOURCE, Layout
from odyssey.progress import bar
from odyssey.provenance import code_digest, versions
from odyssey.science.splits import generator
from odyssey.settings import Settings
from odyssey.store import check_folder, is_current, new_folder, read_json, write_json


def run(settings: Settings, layout: Layout) -> None:
    """Write layout.embed: <corpus>.npy, float32 (n, d), and summary.json; keep it if it still holds."""
    made_from = {
        "sample": check_folder(layout.sample, "sample"),
        "settings": {**settings.model_dump(include={"seed", "embed"}), "domains": list(settings.domains)},
        "code": code_digest(__name__),
        "packages": versions("torch", "transformers", "sentence-transformers"),
    }
    if is_current(layout.embed, made_from):
        print(f"embed: kept {layout.embed}")
        return
    rule = settings.embed
    populations = _populations(settings, layout)
    sizes = {name: sample_size(rows, rule.fraction, rule.max_texts) for name, rows in populations.items()}
    for name, n in sizes.items():
        if n < 2:
            raise OdysseyError(f"'{name}': {n} of its {populations[name]} rows would be embedded; FD needs at least 2")
    encoder = load_encoder(rule.encoder, rule.sha256)
    corpora: dict[str, dict[str, int]] = {}
    with (
        new_folder(layout.embed, made_from) as folder,
        bar(label="embed", total=sum(sizes.values()), unit="row") as progress,
    ):
        for name, n in sizes.items():
            path = layout.source if name == SOURCE else layout.split(name, "train")
            rows = draw(read_texts(path), n, generator(settings.seed, "embed", name))
            x = encode(encoder, rows, rule.batch_size, progress.update)
            np.save(folder / layout.embedding(name).name, x, allow_pickle=False)
            truncated = count_truncated(encoder, rows)
            corpora[name] = {"n": n, "population": populations[name], "truncated": truncated}
        about: dict[str, Any] = {"encoder": encoder.name, "sha256": encoder.sha256, "d": encoder.d}
        about["max_seq_length"] = encoder.max_seq_length
        write_json(folder / "summary.json", {**about, "corpora": corpora})
    print(f"embed: {sum(sizes.values())} rows of {len(sizes)} corpora in {layout.embed}")


def _populations(settings: Settings, layout: Layout) -> dict[str, int]:
    """Rows that there are of the source corpus and of every domain's train split."""
    summary = read_json(layout.sample / "summary.json")
    missing = [name for name in settings.domains if name not in summary]
    if missing:
        raise OdysseyError(f"{layout.sample}: holds no domain '{missing[0]}'; run `dvc repro sample` again")
    return {SOURCE: summary[SOURCE]["rows"], **{name: summary[name]["train"]["rows"] for name in settings.domains}}


def sample_size(population: int, fraction: float, max_texts: int) -> int:
    """Rows to embed of a corpus of that many: a share of a large one, a fixed number of a small one (section 2.4).

    The larger of ceil(fraction * population) and min(population, max_texts). The fraction is
    taken as it is written in decimal: 0.07 of 100 is 7, though the float's ceiling is 8.
    """
    return max(math.ceil(Fraction(str(fraction)) * population), min(population, max_texts))


def draw(rows: list[str], n: int, rng: np.random.Generator) -> list[str]:
    """n of the rows, uniformly and without replacement, in the corpus's order."""
    return [rows[index] for index in np.sort(rng.choice(len(rows), size=n, replace=False))]
