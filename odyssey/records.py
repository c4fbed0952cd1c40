"""The MLflow runs of a study, read from the pipeline's result files; MLflow itself is not needed here.

A run's identity is the digest of its content: the same results and settings give the same
digest at any commit, on any machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from odyssey.cell_results import CHANGE, READERS
from odyssey.description import DRAWINGS, fluid
from odyssey.errors import OdysseyError
from odyssey.frames import read_frame
from odyssey.layout import SOURCE, SUMMARY, Layout
from odyssey.record import Data, Metric, Record, as_text, fit, flatten
from odyssey.sections import SPLITS
from odyssey.settings import Settings
from odyssey.store import MANIFEST, check_file, check_folder, content_digest, digest, read_json, read_manifest
from odyssey.written import as_written

CELL_STAGES = ("similarity", "adapt", "evaluate", "tokens", "claims")
"""Stages whose results a (model, domain) run shows."""
READ = {"adapt": ("curves.csv", "loss.csv")}
"""Files of a cell that are read, where that is not all: checkpoints are large, and not looked at here."""
READ_AT_ONCE = 1 << 20
"""Bytes."""
SETTINGS = "odyssey.settings"
"""Tag of a summary run by which other seeds of the same study are found."""


def cell_record(
    settings: Settings, layout: Layout, model: str, domain: str, stages: Collection[str] = CELL_STAGES
) -> Record:
    """The run of one (model, domain) from the results of `stages`.

    Raises OdysseyError naming the stage to run where a result is absent, damaged, or made
    from another state of what it builds on.
    """
    record = new_record(settings, model, domain)
    record.data = _datasets(layout, domain)
    folders = {stage: _folder(layout, stage, model, domain) for stage in CELL_STAGES if stage in stages}
    for stage, folder in folders.items():
        check_folder(folder, stage, READ.get(stage))
        if outdated := _outdated(settings, layout, stage, model, domain):
            raise OdysseyError(f"{folder}: {outdated} has changed since it was made; run `dvc repro {stage}`")
        with as_written(folder, stage):
            READERS[stage](record, folder)
        record.enclosed[f"manifests/{stage}.json"] = folder / MANIFEST
    record.tags["code"] = digest({stage: _made_from(folder).get("code") for stage, folder in folders.items()})
    # The metric logged first is the one that MLflow's page of compared runs shows.
    record.metrics.sort(key=lambda metric: metric.key != CHANGE)
    return record


def new_record(settings: Settings, model: str, domain: str) -> Record:
    """The run of one (model, domain) before there are results: name, tags and parameters."""
    tags = {"study": settings.study, "model": model, "domain": domain, "portion": settings.domain(domain).portion}
    tags["seed"] = str(settings.seed)
    return Record(name=fit(f"{model} {domain}"), tags=tags, params=_params(settings, model, domain))


def finished_stages(settings: Settings, layout: Layout, model: str, domain: str) -> list[str]:
    """Stages of CELL_STAGES with a result for the cell that belongs to the settings and results of now."""
    return [
        stage
        for stage in CELL_STAGES
        if (_folder(layout, stage, model, domain) / MANIFEST).is_file()
        and _outdated(settings, layout, stage, model, domain) is None
    ]


def summary_record(settings: Settings, layout: Layout) -> Record:
    """The run of the study as a whole: report, tables, figures and every parameter."""
    import yaml

    check_folder(layout.report, "report")
    made_from, effective = _made_from(layout.report), settings.model_dump(mode="json")
    found = {name: content_digest(layout.data / name) for name in made_from.get("inputs", {})}
    if found != made_from.get("inputs", {}) or made_from.get("settings", digest(effective)) != digest(effective):
        raise OdysseyError(f"{layout.report}: made with other results or settings than now; run `dvc repro report`")
    record = Record(name=fit(f"{settings.study} summary"), tags={"study": settings.study, "seed": str(settings.seed)})
    record.tags[SETTINGS] = settings_digest(settings)
    check_folder(layout.claims, "claims")
    for folder in (layout.report, layout.claims):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != MANIFEST:
                record.files[path.relative_to(layout.data).as_posix()] = path
    record.tables["claims.json"] = read_frame(layout.claims / "claims.csv")
    with as_written(layout.report, "report"):
        for key, value in flatten(read_json(layout.report / "metrics.json"), "/"):
            record.metrics.append(Metric(key, float(value)))
    record.texts["params.yaml"] = yaml.safe_dump(effective, sort_keys=False, allow_unicode=True)
    for name in [name for name in record.files if name.startswith(f"{DRAWINGS}/")]:
        record.texts[name] = fluid(record.files.pop(name).read_text(encoding="utf-8"))
    record.tags["code"] = digest(made_from.get("code"))
    return record


def settings_digest(settings: Settings) -> str:
    """Digest of all that seeds of a study share."""
    return digest(settings.model_dump(mode="json", exclude={"seed"}))


def _params(settings: Settings, model: str, domain: str) -> dict[str, str]:
    """The settings that concern a cell, as `section.key`: never the bare names of an entry point's parameters."""
    # The study is a tag, and `mlflow run -P study=...` logs what was typed under that name.
    shared = settings.model_dump(mode="json", exclude={"study", "domains", "adapt_to", "models", "report"})
    own = {
        "model": {"name": model, **settings.model(model).model_dump(mode="json")},
        "domain": {"name": domain, **settings.domain(domain).model_dump(mode="json")},
    }
    # Beside MMD and FD, among what MLflow's page of compared runs draws by itself.
    named = {"Portion": settings.domain(domain).portion}
    return named | {key: as_text(value) for key, value in flatten({**shared, **own}, ".")}


def _datasets(layout: Layout, domain: str) -> list[Data]:
    """The corpora and splits of a cell's domain; raises OdysseyError for a file that is not what was sampled."""
    for name in (SOURCE, domain):
        check_file(layout.corpus(name) / SUMMARY, "sample")
    with as_written(layout.corpus(SOURCE), "sample"):
        found = [(SOURCE, layout.source, "pretrain", _counts(read_json(layout.corpus(SOURCE) / SUMMARY)))]
    with as_written(layout.corpus(domain), "sample"):
        summary = read_json(layout.corpus(domain) / SUMMARY)
        found += [(f"{domain}/{s}", layout.split(domain, s), s, _counts(summary[s])) for s in SPLITS]
    return [Data(name, path, _md5(path), context, counts) for name, path, context, counts in found]


def _counts(about: Mapping[str, int]) -> dict[str, int]:
    return {key: int(about[key]) for key in ("rows", "documents", "words") if key in about}


def _md5(path: Path) -> str:
    """DVC's hash of a file of stage `sample`, after comparing its sha256 with the manifest's."""
    try:
        about = path.stat()
    except FileNotFoundError:
        raise OdysseyError(f"{path}: not there yet; run `dvc repro sample` first") from None
    md5, sha256 = _hashes(path, about.st_mtime_ns, about.st_size)
    if sha256 != _held(path):
        raise OdysseyError(
            f"{path}: damaged (its sha256 differs from the manifest's); delete {path.parent} and run `dvc repro sample`"
        )
    return md5


@cache
def _hashes(path: Path, _mtime: int, _size: int) -> tuple[str, str]:
    """MD5 and sha256, by reading once for all cells: the source corpus is part of each."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(READ_AT_ONCE):
            md5.update(part)
            sha256.update(part)
    return md5.hexdigest(), sha256.hexdigest()


def _folder(layout: Layout, stage: str, model: str, domain: str) -> Path:
    return {
        "similarity": layout.similarity,
        "adapt": layout.adapted(model, domain),
        "evaluate": layout.evaluated(model, domain),
        "tokens": layout.tokens(model, domain),
        "claims": layout.claims,
    }[stage]


def _outdated(settings: Settings, layout: Layout, stage: str, model: str, domain: str) -> str | None:
    """What a cell's result builds on that is no longer the same, if anything.

    DVC sees to that before it runs a stage, but not when a stage is run by itself: then
    new parameters would stand beside old numbers.
    """
    adapted, embedded = layout.adapted(model, domain), [SOURCE, domain]
    links = {
        "similarity": [(layout.similarity, f"embed.{name}", layout.embedded(name)) for name in embedded],
        "adapt": [(adapted, "base", layout.pretrained(model))],
        "evaluate": [(layout.evaluated(model, domain), "adapted", adapted)],
        "tokens": [(layout.tokens(model, domain), "adapted", adapted)],
        "claims": [
            (layout.claims, f"inputs.{name}/{model}/{domain}", _folder(layout, name, model, domain))
            for name in ("adapt", "evaluate", "tokens")
        ],
    }
    for folder, name, below in links[stage]:
        expected, built_on = content_digest(below), _made_from(folder)
        outer, _, inner = name.partition(".")
        found = built_on.get(outer, {}).get(inner, expected) if inner else built_on.get(outer, expected)
        if found != expected:
            return f"'{name}'"
    if stage == "similarity":
        rows = {SOURCE: layout.source, domain: layout.split(domain, "train")}
        for name, path in rows.items():
            if (held := _held(path)) != _made_from(layout.embedded(name)).get("rows", held):
                return f"'{name}'"
    if stage == "adapt":
        splits = {split: _held(layout.split(domain, split)) for split in SPLITS}
        if _made_from(adapted).get("domain", splits) != splits:
            return "'domain'"
    chosen = settings.model(model)
    now = settings.model_dump(mode="json") | settings.evaluate.model_dump()
    now |= {"adapt": settings.adapt.model_dump(mode="json", exclude={"engine"})}
    now |= {"learning_rate": chosen.adapt_learning_rate, "context": chosen.context}
    used = _made_from(_folder(layout, stage, model, domain)).get("settings", {})
    return next((f"setting '{key}'" for key in used if key in now and used[key] != now[key]), None)


def _held(path: Path) -> str | None:
    """A file's sha256 as its cell's manifest has it."""
    folder = path.parent
    return read_manifest(folder)["files"].get(path.name) if (folder / MANIFEST).is_file() else None


def _made_from(folder: Path) -> dict[str, Any]:
    """What a folder's manifest names as its origin; nothing if it has none."""
    made_from: dict[str, Any] = read_manifest(folder)["made_from"] if (folder / MANIFEST).is_file() else {}
    return made_from
