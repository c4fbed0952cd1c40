"""Stage `report`: the paper's figures, tables and an HTML page from the stages' results (paper, section 3)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from odyssey import figures, page, tables
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.progress import bar
from odyssey.provenance import code_digest, versions
from odyssey.science.splits import generator
from odyssey.settings import Settings
from odyssey.store import MANIFEST, check_folder, digest, new_folder, read_json, sha256, write_json, write_text

SPLITS = ("train", "test")
"""Splits whose tokens are analysed."""


def run(settings: Settings, layout: Layout) -> None:
    """Write layout.report: report.html, tables/*.csv, figures/*.png and *.svg, metrics.json.

    The same results give the same bytes. Raises OdysseyError naming the stage to run where
    a result is missing.
    """
    inputs = _check(settings, layout)
    packages = versions("jinja2", "matplotlib", "numpy", "pandas", "scipy")
    made_from = {
        "inputs": {name: found for name, (_, found) in inputs.items()},
        "settings": digest(settings.model_dump(mode="json")),
        "code": code_digest(__name__),
        "template": sha256(page.TEMPLATE),
        "packages": packages,
    }
    cells = [(model, domain) for model in settings.models for domain in tables.by_portion(settings.domains)]
    scores = {cell: read_json(layout.evaluated(*cell) / "scores.json") for cell in cells}
    results = _tables(settings, layout, scores)
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
            method=page.method(settings, read_json(layout.embed / "summary.json"), list(scores.values())),
            made_from=made_from | {"packages": _packages(inputs) | packages},
        )
        write_text(folder / "report.html", text)
    print(f"report: {len(shown)} figures, {len(results)} tables and the page in {layout.report / 'report.html'}")


def headline(settings: Settings, layout: Layout) -> str:
    """The headline table of a finished report for a terminal, and where the report is."""
    check_folder(layout.report, "report")
    found = _read(layout.report / "tables" / "headline.csv")
    return f"{tables.plain(found, tables.portions(found))}\nreport: {layout.report / 'report.html'}"


def _check(settings: Settings, layout: Layout) -> dict[str, tuple[Path, str]]:
    """{name: (folder, its manifest's digest)} of everything that the report reads."""
    folders = {"embed": (layout.embed, "embed"), "similarity": (layout.similarity, "similarity")}
    for model in settings.models:
        for domain in settings.domains:
            for stage, place in (("adapt", layout.adapted), ("evaluate", layout.evaluated), ("tokens", layout.tokens)):
                folders[f"{stage}/{model}/{domain}"] = (place(model, domain), f"{stage}@{model}")
    return {name: (folder, check_folder(folder, stage)) for name, (folder, stage) in folders.items()}


def _packages(inputs: dict[str, tuple[Path, str]]) -> dict[str, str]:
    """Package versions that the results' manifests name; several where results differ."""
    found: dict[str, set[str]] = {}
    for folder, _ in inputs.values():
        for package, version in read_json(folder / MANIFEST)["made_from"].get("packages", {}).items():
            found.setdefault(package, set()).add(version)
    return {package: ", ".join(sorted(known)) for package, known in found.items()}


def _tables(settings: Settings, layout: Layout, scores: Mapping[tables.Cell, Any]) -> dict[str, pd.DataFrame]:
    """The report's tables by name, made from the stages' files."""
    path = layout.similarity / "similarity.csv"
    similarity = _read(path).set_index("domain", drop=False)
    domains = list(tables.by_portion(settings.domains))
    if absent := [domain for domain in domains if domain not in similarity.index]:
        raise OdysseyError(f"{path}: no domain '{absent[0]}'; run `dvc repro similarity`")
    similarity = similarity.loc[domains].reset_index(drop=True)
    headline = tables.headline(scores, similarity)
    tokens = {(*cell, split): _read(layout.tokens(*cell) / f"{split}.csv") for cell in scores for split in SPLITS}
    return {
        "headline": headline,
        "similarity": similarity,
        "portions": tables.portions(headline),
        "correlations": tables.correlations(headline),
        "top_tokens": tables.top_tokens(tokens, settings.report.top_tokens),
    }


def _figures(
    settings: Settings, layout: Layout, results: Mapping[str, pd.DataFrame], folder: Path
) -> list[dict[str, str]]:
    """Draw every figure into `folder`; for the page, the title and caption of each, and its SVG as a data URI."""
    folder.mkdir()
    portion_of = tables.by_portion(settings.domains)
    drawn = tables.draw_domains(portion_of, generator(settings.seed, "report", "curves"))
    headline, top = results["headline"], results["top_tokens"]
    # Figure of the paper, model or none, title, caption; and, in the same order, the drawings.
    plan = [("2", "", "distance of every domain to the source corpus", page.distance_caption(results["similarity"]))]
    images = [figures.similarity(results["similarity"])]
    for model in settings.models:
        worst = tables.most_degraded(headline, model)
        own = headline[headline["model"] == model].set_index("domain", drop=False).loc[list(portion_of)]
        curves = {domain: _read(layout.adapted(model, domain) / "curves.csv") for domain in drawn}
        summary = read_json(layout.tokens(model, worst) / "summary.json")
        plan += [
            ("1", model, "perplexity change, with MMD and FD", page.change_caption(own, results["correlations"])),
            ("3", model, "perplexity during adaptation", page.CURVES),
            ("4", model, f"tokens that changed most on {worst}", page.token_caption(own, summary)),
        ]
        images += [
            figures.perplexity_change(own, model),
            figures.curves(curves, portion_of, model),
            figures.tokens(top[(top["model"] == model) & (top["domain"] == worst)], model, worst),
        ]
    shown = []
    ordered = sorted(zip(plan, images, strict=True), key=lambda pair: pair[0][0])
    for (figure, model, title, caption), image in bar(ordered, "report", unit="figure"):
        name = f"figure{figure}_{model}" if model else f"figure{figure}"
        figures.save(image, folder, name)
        svg = base64.b64encode((folder / f"{name}.svg").read_bytes()).decode()
        label = f"Figure {figure}, {model}" if model else f"Figure {figure}"
        shown.append({"name": name, "title": f"{label}: {title}", "caption": caption, "svg": svg})
    return shown


def _read(path: Path) -> pd.DataFrame:
    """A CSV as it was written: a token or domain called "NA" or "null" is text, not a missing value."""
    return pd.read_csv(path, keep_default_na=False)
