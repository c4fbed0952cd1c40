"""Stage `report`: the paper's figures, tables and an HTML page from the stages' results (paper, section 3)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from odyssey import captions, figures, page, tables
from odyssey.domain_axis import NAMED
from odyssey.errors import OdysseyError
from odyssey.layout import SOURCE, SUMMARY, Layout
from odyssey.method import id_names, method, source_name
from odyssey.progress import bar
from odyssey.provenance import code_digest, versions
from odyssey.science.splits import generator
from odyssey.settings import Settings
from odyssey.store import MANIFEST, check_folder, digest, new_folder, read_json, sha256, write_json, write_text

SPLITS = ("train", "test")
"""Splits whose tokens are analysed."""

READ = {"adapt": ("curves.csv",)}
"""Files of a cell that are read, where that is not all: checkpoints are large, and not looked at here."""
DISTANCE_FIGURES = {"openwebtext": 2, "dolma": 5, "redpajama": 6}
"""The paper's figure of each source corpus; of any other, ours takes the place of the first."""


def run(settings: Settings, layout: Layout) -> None:
    """Write layout.report: report.html, tables/*.csv, figures/*.png and *.svg, metrics.json.

    The same results give the same bytes. Raises OdysseyError naming the stage to run where
    a result is missing.
    """
    inputs = _check(settings, layout)
    sampled, embedded, corpora = _corpora(settings, layout)
    packages = versions("jinja2", "matplotlib", "numpy", "pandas", "scipy")
    made_from = {
        "inputs": {name: found for name, (_, found) in inputs.items()},
        "corpora": corpora,
        "settings": digest(settings.model_dump(mode="json")),
        "code": code_digest(__name__),
        "template": sha256(page.TEMPLATE),
        "packages": packages,
    }
    cells = [(model, domain) for model in settings.models for domain in tables.by_portion(settings.adapted)]
    scores = {cell: read_json(layout.evaluated(*cell) / "scores.json") for cell in cells}
    results = _tables(settings, layout, scores)
    of_corpora = ((layout.corpus(name), layout.embedded(name)) for name in (SOURCE, *settings.domains))
    folders = [*(folder for folder, _ in inputs.values()), *chain.from_iterable(of_corpora)]
    with new_folder(layout.report, made_from) as folder:
        (folder / "tables").mkdir()
        for name, table in results.items():
            table.to_csv(folder / "tables" / f"{name}.csv", index=False, lineterminator="\n")
        write_json(folder / "metrics.json", tables.metrics(results["portions"], results["correlations"]))
        shown = _figures(settings, layout, results, folder / "figures")
        text = page.render(
            settings=settings,
            tables=results,
            figures=shown,
            method=method(settings, sampled, embedded, list(scores.values())),
            made_from=made_from | {"packages": _packages(folders) | packages},
        )
        write_text(folder / "report.html", text)
    print(f"report: {len(shown)} figures, {len(results)} tables and the page in {layout.report / 'report.html'}")


def headline(settings: Settings, layout: Layout) -> str:
    """The headline table of a finished report for a terminal, and where the report is."""
    check_folder(layout.report, "report")
    found = _read(layout.report / "tables" / "headline.csv")
    return f"{tables.plain(found, tables.portions(found))}\nreport: {layout.report / 'report.html'}"


def _check(settings: Settings, layout: Layout) -> dict[str, tuple[Path, str]]:
    """{name: (folder, its content's digest)} of the results that the tables and figures are made of."""
    folders = {"similarity": (layout.similarity, "similarity")}
    for model in settings.models:
        for domain in settings.adapted:
            for stage, place in (("adapt", layout.adapted), ("evaluate", layout.evaluated), ("tokens", layout.tokens)):
                folders[f"{stage}/{model}/{domain}"] = (place(model, domain), stage)
    return {name: (folder, check_folder(folder, stage, READ.get(stage))) for name, (folder, stage) in folders.items()}


def _corpora(settings: Settings, layout: Layout) -> tuple[dict[str, Any], dict[str, Any], str]:
    """What sample and embed counted, by corpus, for the method's text; and a digest of all their contents."""
    names = (SOURCE, *settings.domains)
    sampled = {name: _summary(layout.corpus(name), "sample") for name in names}
    embedded = {name: _summary(layout.embedded(name), "embed") for name in names}
    manifests = [{name: found for name, (_, found) in cells.items()} for cells in (sampled, embedded)]
    counts = [{name: summary for name, (summary, _) in cells.items()} for cells in (sampled, embedded)]
    return counts[0], counts[1], digest(manifests)


def _summary(folder: Path, stage: str) -> tuple[Any, str]:
    """A cell's summary and its content's digest. Texts and vectors are not read here, so they are not hashed."""
    found = check_folder(folder, stage, only=[SUMMARY])
    return read_json(folder / SUMMARY), found


def _packages(folders: Iterable[Path]) -> dict[str, str]:
    """Package versions that the results' manifests name; several where results differ."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for package, version in read_json(folder / MANIFEST)["made_from"].get("packages", {}).items():
            found.setdefault(package, set()).add(version)
    return {package: ", ".join(sorted(known)) for package, known in found.items()}


def _tables(settings: Settings, layout: Layout, scores: Mapping[tables.Cell, Any]) -> dict[str, pd.DataFrame]:
    """The report's tables by name, made from the stages' files."""
    path = layout.similarity / "similarity.csv"
    measured = _read(path)
    if absent := [domain for domain in settings.domains if domain not in set(measured["domain"])]:
        raise OdysseyError(f"{path}: no domain '{absent[0]}'; run `dvc repro similarity`")
    chosen = measured.set_index("domain", drop=False).loc[list(tables.by_portion(settings.adapted))]
    headline = tables.headline(scores, chosen.reset_index(drop=True))
    tokens = {(*cell, split): _read(layout.tokens(*cell) / f"{split}.csv") for cell in scores for split in SPLITS}
    return {
        "headline": headline,
        "similarity": tables.number_domains(settings.domains).merge(measured, on="domain", validate="one_to_one"),
        "portions": tables.portions(headline),
        "correlations": tables.correlations(headline),
        "top_tokens": tables.top_tokens(tokens, settings.report.top_tokens),
    }


class Drawn(NamedTuple):
    """A figure of the paper, of one model or (an empty name) of all, with its words."""

    number: int
    model: str
    title: str
    caption: str
    figure: Figure
    table: dict[str, Any] | None = None


def _figures(
    settings: Settings, layout: Layout, results: Mapping[str, pd.DataFrame], folder: Path
) -> list[dict[str, Any]]:
    """Draw every figure into `folder`; for the page, the title and caption of each, and its SVG as a data URI."""
    folder.mkdir()
    drawn = [_distances(settings, results["similarity"])]
    for model in settings.models:
        drawn += _of_model(settings, layout, results, model)
    shown = []
    for one in bar(sorted(drawn, key=lambda one: one.number), "report", unit="figure"):
        name = f"figure{one.number}_{one.model}" if one.model else f"figure{one.number}"
        figures.save(one.figure, folder, name)
        svg = base64.b64encode((folder / f"{name}.svg").read_bytes()).decode()
        title = f"Figure {one.number}{', ' if one.model else ''}{one.model}: {one.title}"
        shown.append({"name": name, "title": title, "caption": one.caption, "svg": svg, "table": one.table})
    return shown


def _distances(settings: Settings, similarity: pd.DataFrame) -> Drawn:
    """The figure of the source corpus."""
    source, (axis, ids) = source_name(settings), id_names(settings)
    return Drawn(
        DISTANCE_FIGURES.get(settings.source.corpus, 2),
        "",
        f"distance of every domain to {source}",
        captions.distance_caption(similarity, ids),
        figures.similarity(similarity, source, tables.portion_order(settings), axis),
        page.distance_rows(similarity),
    )


def _of_model(settings: Settings, layout: Layout, results: Mapping[str, pd.DataFrame], model: str) -> list[Drawn]:
    """Figures 1, 3 and 4 of a model."""
    portion_of = tables.by_portion(settings.adapted)
    headline, top = results["headline"], results["top_tokens"]
    ids = {domain: place for place, domain in enumerate(settings.adapted, 1)}
    order = list(portion_of if len(ids) <= NAMED else ids)
    own = headline[headline["model"] == model].set_index("domain", drop=False).loc[order]
    change = figures.perplexity_change(own.assign(id=own["domain"].map(ids)), model, tables.portion_order(settings))
    chosen = tables.draw_domains(portion_of, generator(settings.seed, "report", "curves"))
    curves = {domain: _read(layout.adapted(model, domain) / "curves.csv") for domain in chosen}
    worst = tables.most_degraded(headline, model)
    changed = top[(top["model"] == model) & (top["domain"] == worst)]
    about_change = captions.change_caption(own, results["correlations"])
    about_tokens = captions.token_caption(own, read_json(layout.tokens(model, worst) / SUMMARY))
    return [
        Drawn(1, model, "perplexity change, with MMD and FD", about_change, change),
        Drawn(3, model, "perplexity during adaptation", captions.CURVES, figures.curves(curves, portion_of, model)),
        Drawn(4, model, f"tokens that changed most on {worst}", about_tokens, figures.tokens(changed, model, worst)),
    ]


def _read(path: Path) -> pd.DataFrame:
    """A CSV as it was written: a token or domain called "NA", "null" or "1" is text."""
    return pd.read_csv(path, keep_default_na=False, dtype={"domain": str, "portion": str, "token": str})
