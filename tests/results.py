"""Invented results of every stage before the report, in the pipeline's own layout.

Small, quick and made from nothing but a seed: for tests of what only reads results.
"""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from odyssey.layout import PUBLISHED, SOURCE, SUMMARY, Layout
from odyssey.science.token_classes import CLASSES, NEWLINE
from odyssey.sections import SPLITS, Claims, HubSource, Join, M2D2Domain, PublishedModel, TrainedModel
from odyssey.settings import Settings
from odyssey.stages import claims
from odyssey.store import new_folder, write_json

# Display texts as a token table may hold them: escapes, markup, maths, names that pandas takes
# for missing values, and glyphs that fonts lack.
TOKENS = ["\\n", "\\n\\n", "<script>alert('x')</script>", "&amp;", "$x_1$", "null", "NA", '"', ",", " ", "中", "\ufffd"]
TOKENS += [
    " the",
    " of",
    " a",
    " is",
    " array",
    " tensor",
    " default",
    " None",
    " returns",
    " matrix",
    " graph",
    " test",
]

QUICK = Claims(confidence=0.95, resamples=200)
D = 8
"""Width of the invented embeddings."""


def write_results(settings: Settings, layout: Layout, seed: int = 0, worse: bool = True) -> None:
    """Write sample, pretrain, embed, similarity, adapt, evaluate and tokens under `layout.data`, and make claims of it.

    The first portion is near the source corpus, and with `worse` about half of its domains get
    worse; all other domains are farther and improve a lot. Equal arguments give equal bytes.
    """
    rng = np.random.default_rng(seed)
    near = next(iter(settings.adapted.values())).portion
    made_from = {"invented": seed, "packages": {"numpy": np.__version__}}
    rows = _rows()
    for name in (SOURCE, *settings.domains):
        with new_folder(layout.corpus(name), made_from) as folder:
            _sample(folder, settings, name, rows)
        with new_folder(layout.embedded(name), made_from) as folder:
            _embed(folder, settings, rng)
    with new_folder(layout.similarity, made_from) as folder:
        _similarity(folder, settings, near, rng)
    for model, about in settings.models.items():
        with new_folder(layout.pretrained(model), made_from) as folder:
            _base(folder, about)
        for place, (domain, of) in enumerate(settings.adapted.items()):
            before = 4.0 + (0.5 if of.portion == near else 1.5) * rng.random()
            change = (0.1 if worse and place % 2 == 0 else -0.1) if of.portion == near else -1.0
            after = before + change * (0.5 + rng.random())
            with new_folder(layout.adapted(model, domain), made_from) as folder:
                write_json(folder / "config.json", {"model_type": "gpt2"})
                _loss(folder, before, after)
                _curves(folder, settings.adapt.curve_points, before, after)
            with new_folder(layout.evaluated(model, domain), made_from) as folder:
                _scores(folder, settings, model, before, after, rng)
            with new_folder(layout.tokens(model, domain), made_from) as folder:
                _token_tables(folder, settings, before, after, rng)
            if settings.joins:
                with new_folder(layout.joined(model, domain), made_from) as folder:
                    _joins(folder, settings.joins, before, after, rng)
    with redirect_stdout(io.StringIO()):
        claims.run(settings, layout)


def put_in_use(settings: Settings, folder: Path) -> Path:
    """Make a folder one that has the study in use; returns its params.yaml."""
    (folder / "studies").mkdir()
    content = yaml.safe_dump(settings.model_dump(mode="json", exclude={"study", "seed"}), sort_keys=False)
    (folder / "studies" / f"{settings.study}.yaml").write_text(content, encoding="utf-8")
    params = folder / "params.yaml"
    params.write_text(f"study: {settings.study}\nseed: {settings.seed}\naccept_licenses: false\n", encoding="utf-8")
    return params


def _rows() -> bytes:
    """A Parquet file of two rows: the same for every split, as writing hundreds of them takes long."""
    rows = pd.DataFrame({"id": ["doc#0", "doc#1"], "document": "doc", "text": ["one row of text", "and one more row"]})
    file = io.BytesIO()
    rows.to_parquet(file)
    return file.getvalue()


def _sample(folder: Path, settings: Settings, name: str, rows: bytes) -> None:
    """As the stage counts: of the hub's texts no words, of M2D2's rows no documents."""
    counts: dict[str, Any] = {"rows": 2, "documents": 1, "words": 8}
    if name == SOURCE:
        counts.pop("words" if isinstance(settings.source, HubSource) else "", None)
    else:
        counts.pop("documents" if isinstance(settings.domains[name], M2D2Domain) else "", None)
        counts = dict.fromkeys(SPLITS, counts)
    write_json(folder / SUMMARY, {**counts, "population_rows": 9})
    for split in ("rows",) if name == SOURCE else SPLITS:
        (folder / f"{split}.parquet").write_bytes(rows)


def _embed(folder: Path, settings: Settings, rng: np.random.Generator) -> None:
    x = rng.normal(size=(4, D))
    np.save(folder / "vectors.npy", (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32))
    about = {"encoder": settings.embed.encoder, "sha256": "0" * 64, "d": D, "max_seq_length": 256}
    write_json(folder / SUMMARY, {**about, "n": 4, "population": 9, "truncated": 0})


def _base(folder: Path, about: TrainedModel | PublishedModel) -> None:
    if isinstance(about, PublishedModel):
        write_json(folder / PUBLISHED, {"checkpoint": about.checkpoint, "commit": "0" * 40, "files": []})
    else:
        write_json(folder / "config.json", {"model_type": "gpt2"})
        _loss(folder, 6.0, 4.0)


def _similarity(folder: Path, settings: Settings, near: str, rng: np.random.Generator) -> None:
    rows = []
    for domain, about in settings.domains.items():
        mmd = (0.05 if about.portion == near else 0.3) + 0.1 * rng.random()
        rows.append((domain, about.portion, mmd, mmd + 0.2 + 0.1 * rng.random(), 1500, 400, D))
    columns = ["domain", "portion", "mmd", "fd", "n_source", "n_target", "d"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "similarity.csv", index=False)


def _loss(folder: Path, start: float, end: float) -> None:
    nll = np.linspace(start, end, 5)
    table = {"step": range(1, 6), "tokens": range(1000, 6000, 1000), "nll": nll, "learning_rate": 1e-3}
    pd.DataFrame(table).to_csv(folder / "loss.csv", index=False)


def _curves(folder: Path, points: int, before: float, after: float) -> None:
    fraction = np.linspace(0, 1, points)
    test = before + (after - before) * fraction
    table = {"step": (100 * fraction).astype(int), "tokens": (50_000 * fraction).astype(int), "fraction": fraction}
    table |= {"train_start": test - 0.15 * fraction, "valid": test + 0.05, "test": test}
    pd.DataFrame(table).to_csv(folder / "curves.csv", index=False)


def _scores(
    folder: Path, settings: Settings, model: str, before: float, after: float, rng: np.random.Generator
) -> None:
    n, bytes_ = 500, 1900
    shape = rng.gamma(2, 0.5, n)
    scores: dict[str, Any] = {"separator": settings.evaluate.separator, "unit": "document"}
    scores["parameters"] = 1000 * (1 + list(settings.models).index(model))
    scores["context"] = settings.models[model].context
    for name, mean in (("zero_shot", before), ("adapted", after)):
        nll = (shape * mean / shape.mean()).astype(np.float32)
        np.save(folder / f"{name}.npy", nll)
        scores[name] = {"nll_sum": float(nll.sum(dtype=np.float64)), "tokens": n, "bytes": bytes_}
    np.save(folder / "units.npy", np.sort(rng.integers(0, 25, n)).astype(np.int32))
    np.save(folder / "token_ids.npy", rng.integers(0, len(TOKENS), n).astype(np.int32))
    write_json(folder / "scores.json", scores)


def _token_tables(folder: Path, settings: Settings, before: float, after: float, rng: np.random.Generator) -> None:
    summary = {}
    for split in ("train", "test"):
        count = rng.integers(1, 200, len(TOKENS))
        share = count / count.sum()
        nll_before = before * (0.5 + rng.random(len(TOKENS)))
        nll_after = nll_before + (after - before) + rng.normal(0, 0.5, len(TOKENS))
        change = nll_after - nll_before
        table = {"token_id": range(len(TOKENS)), "token": TOKENS, "count": count, "nll_before": nll_before}
        table |= {"nll_after": nll_after, "change": change, "contribution": share * change}
        ranked = pd.DataFrame(table).sort_values("contribution", ascending=False)
        ranked.to_csv(folder / f"{split}.csv", index=False)
        chunks = {"chunks": min(2, settings.tokens.chunks), "chunks_wanted": settings.tokens.chunks}
        sums = {"nll_before": float(share @ nll_before), "nll_after": float(share @ nll_after)}
        summary[split] = {**chunks, "tokens": int(count.sum()), **sums}
    names = list(CLASSES)
    counts = {"train_count": 5, "source_count": 7, "log_odds": 0.1, "z": 0.2}
    classes = [NEWLINE] * 2 + [names[k % len(names)] for k in range(2, len(TOKENS))]
    pd.DataFrame({"token_id": range(len(TOKENS)), "token": TOKENS, "class": classes} | counts).to_csv(
        folder / "vocabulary.csv", index=False
    )
    write_json(folder / SUMMARY, {**summary, "train_tokens": 900, "source_tokens": 9000, "newline_ids": [0, 1]})


def _joins(folder: Path, ways: list[Join], before: float, after: float, rng: np.random.Generator) -> None:
    """Rows that are joined differently on the two sides get worse joints."""
    rows = []
    for trained, scored in product(ways, ways):
        for document in range(5):
            tokens, joints = int(rng.integers(50, 150)), 0 if scored == "space" else 5
            sums = {"joint_nll_before": joints * 2.0, "joint_nll_after": joints * (2.0 if trained == scored else 6.0)}
            sums |= {"nll_before": tokens * before, "nll_after": tokens * after + 4.0 * joints * (trained != scored)}
            key = {"trained": trained, "scored": scored, "document": f"d{document}"}
            rows.append({**key, "tokens": tokens, "joint_tokens": joints, **sums})
    documents = pd.DataFrame(rows)
    documents.to_csv(folder / "documents.csv", index=False)
    whole = documents.drop(columns="document").groupby(["trained", "scored"], sort=False).sum().reset_index()
    whole["joint_contribution"] = (whole["joint_nll_after"] - whole["joint_nll_before"]) / whole["tokens"]
    whole["bits_per_byte_before"], whole["bits_per_byte_after"] = before / 3, after / 3
    whole.to_csv(folder / "joins.csv", index=False)
