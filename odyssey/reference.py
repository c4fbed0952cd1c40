"""A finished study's numbers and what they were made from and with, as `odyssey verify` records and compares them.

Nothing of MLflow or torch is needed: numbers are read from the stages' tables.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from odyssey.layout import SOURCE, SUMMARY, Layout
from odyssey.progress import bar
from odyssey.provenance import git_state, versions
from odyssey.record import flatten, read_rows
from odyssey.records import cell_record, settings_digest, summary_record
from odyssey.sections import Name, Section
from odyssey.settings import Settings
from odyssey.store import check_folder, read_json
from odyssey.written import as_written

ROUNDING = ("adapt.engine.", "pretrain.engine.", "embed.batch_size", "evaluate.batch_tokens")
FREE = (*ROUNDING, "sample.workers", "accept_licenses")
"""Settings, or how their names begin, that may be others than those recorded: they change rounding, or nothing."""
PACKAGES = ("torch", "transformers", "tokenizers", "deepspeed", "sentence-transformers", "numpy", "scipy", "pandas")
COUNTS, STATISTICS, VERDICTS = "counts", "statistics", "verdicts"
DISTANCES = {"MMD": "mmd", "FD": "fd"}
"""Columns of similarity.csv by quantity."""
PERPLEXITIES = {
    "perplexity zero-shot": "zero_shot",
    "perplexity adapted": "adapted",
    "bits per byte zero-shot": "bits_per_byte_zero_shot",
    "bits per byte adapted": "bits_per_byte_adapted",
}
"""Columns of the headline table by quantity."""
QUANTITIES = (COUNTS, *DISTANCES, *PERPLEXITIES, STATISTICS, VERDICTS)

Value = int | float | str | None
"""A number, a text, or nothing where there is none."""
Numbers = dict[str, dict[str, Value]]
"""By quantity, one of QUANTITIES, and name."""


class MadeWith(Section):
    """What results were recorded with."""

    commit: str
    dirty: bool
    """Whether the checkout differed from the commit."""
    platform: str
    processor: str
    threads: int
    """That PyTorch takes unless told otherwise."""
    python: str
    packages: dict[str, str]


class Reference(Section):
    """A study's results as they were recorded: what is compared, and what it was made from and with."""

    study: Name
    seed: int
    settings_sha256: str
    """The tag odyssey.settings of the study's summary run in MLflow."""
    settings: dict[str, Any]
    """By name, `section.key`."""
    made_with: MadeWith
    contents: dict[str, dict[str, str]]
    """Digest of each result's files by stage and name."""
    numbers: Numbers


def measure(settings: Settings, layout: Layout, root: Path) -> Reference:
    """The finished study as a reference would have it, every file checked against its manifest.

    Raises OdysseyError naming the stage to run where a result is absent, damaged or not of now's settings.
    """
    cells = [(model, domain) for model in settings.models for domain in settings.adapted]
    folders = list(_folders(settings, layout))
    contents: dict[str, dict[str, str]] = {}
    for stage, name, folder in bar(folders, "check files", unit="results"):
        contents.setdefault(stage, {})[name] = check_folder(folder, stage)
    for cell in bar(cells, "read results", unit="cells"):
        cell_record(settings, layout, *cell)
    summary_record(settings, layout)
    numbers = read_numbers(layout, cells)
    commit, dirty = git_state(root)
    return Reference(
        study=settings.study,
        seed=settings.seed,
        settings_sha256=settings_digest(settings),
        settings=effective(settings),
        made_with=MadeWith(
            commit=commit,
            dirty=dirty,
            platform=f"{platform.system()} {platform.machine()}",
            processor=_processor(),
            threads=int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))),
            python=platform.python_version(),
            packages=versions(*PACKAGES),
        ),
        contents=contents,
        numbers=numbers,
    )


def read_numbers(layout: Layout, cells: Iterable[tuple[str, str]]) -> Numbers:
    """What is compared of the stages' tables; raises OdysseyError for what is not as this version writes it."""
    numbers: Numbers = {quantity: {} for quantity in QUANTITIES}
    with as_written(layout.similarity, "similarity"):
        _read_distances(layout, numbers)
    with as_written(layout.report, "report"):
        _read_perplexities(layout, numbers)
    with as_written(layout.claims, "claims"):
        _read_claims(layout, numbers)
    for cell in cells:
        _read_counts(layout, *cell, numbers[COUNTS])
    return numbers


def effective(settings: Settings) -> dict[str, Any]:
    """Settings that numbers depend on, by name; those of a domain or model that there is not are missing."""
    every = flatten(settings.model_dump(mode="json", exclude={"study", "seed"}), ".")
    return {key: value for key, value in every if not key.startswith(FREE)}


def _folders(settings: Settings, layout: Layout) -> Iterator[tuple[str, str, Path]]:
    """(stage, name, folder) of every result."""
    corpora = (SOURCE, *settings.domains)
    yield from (("sample", name, layout.corpus(name)) for name in corpora)
    yield from (("pretrain", name, layout.pretrained(name)) for name in settings.models)
    yield from (("embed", name, layout.embedded(name)) for name in corpora)
    yield "similarity", "similarity", layout.similarity
    places = {"adapt": layout.adapted, "evaluate": layout.evaluated, "tokens": layout.tokens}
    places |= {"joins": layout.joined} if settings.joins else {}
    for stage, place in places.items():
        for model in settings.models:
            yield from ((stage, f"{model}/{domain}", place(model, domain)) for domain in settings.adapted)
    yield "claims", "claims", layout.claims
    yield "report", "report", layout.report


def _read_distances(layout: Layout, numbers: Numbers) -> None:
    for row in read_rows(layout.similarity / "similarity.csv"):
        for quantity, column in DISTANCES.items():
            numbers[quantity][row["domain"]] = _number(row[column])
        for column in ("n_source", "n_target", "d"):
            numbers[COUNTS][f"{row['domain']} {column}"] = int(row[column])


def _read_perplexities(layout: Layout, numbers: Numbers) -> None:
    for row in read_rows(layout.report / "tables" / "headline.csv"):
        cell = f"{row['model']}/{row['domain']}"
        for quantity, column in PERPLEXITIES.items():
            numbers[quantity][cell] = _number(row[column])
        numbers[COUNTS][f"{cell} {row['unit']}s"] = int(row["units"])


def _read_claims(layout: Layout, numbers: Numbers) -> None:
    for row in read_rows(layout.claims / "claims.csv"):
        name = f"{row['claim']} {row['model']}".strip()
        numbers[STATISTICS][name] = _number(row["value"])
        numbers[VERDICTS][name] = row["verdict"]


def _read_counts(layout: Layout, model: str, domain: str, counts: dict[str, Value]) -> None:
    """Tokens and bytes scored, and what the token tables are of."""
    with as_written(layout.evaluated(model, domain), "evaluate"):
        scores = read_json(layout.evaluated(model, domain) / "scores.json")
        scored, parameters = dict(scores["adapted"]), scores["parameters"]
    with as_written(layout.tokens(model, domain), "tokens"):
        tokens = dict(read_json(layout.tokens(model, domain) / SUMMARY))
    for key, value in flatten({"scored": scored, "tokens": tokens, "parameters": parameters}, "."):
        if isinstance(value, int):
            counts[f"{model}/{domain} {key}"] = value


def _number(text: str) -> float | None:
    value = float(text or math.nan)
    return None if math.isnan(value) else value


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
