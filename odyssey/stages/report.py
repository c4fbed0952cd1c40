"""Stage `report`: the paper's figures, tables and an HTML page from the stages' results (paper, section 3)."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Mapping
from itertools import chain, product
from pathlib import Path
from typing import Any

import pandas as pd

from odyssey import sections
from odyssey.claims import UNKNOWN
from odyssey.claims_tables import check_claims_table
from odyssey.errors import OdysseyError
from odyssey.frames import read_frame, write_frame
from odyssey.layout import SOURCE, SUMMARY, Layout
from odyssey.portions import by_portion, number_domains
from odyssey.progress import bar
from odyssey.provenance import code_digest, versions
from odyssey.reporting import figure_style, page, tables
from odyssey.reporting.claims_text import verdicts
from odyssey.reporting.drawn import draw
from odyssey.reporting.method import method
from odyssey.reporting.terminal import plain
from odyssey.science.perplexity import Score
from odyssey.settings import Settings
from odyssey.store import check_folder, digest, new_folder, read_json, read_manifest, sha256, write_json, write_text
from odyssey.written import as_written, by, check_columns, check_numbers, check_rows

SPLITS = ("train", "test")
"""Splits whose tokens are analysed."""

READ = {"adapt": ("curves.csv",)}
"""Files of a cell that are read, where that is not all: checkpoints are large, and not looked at here."""
CLAIMS = ("claims", "evidence", "correlations", "classes", "concentration", "concentration_curve", "stopping")
"""Tables of stage `claims`; where rows are joined in several ways there is `joins`, too."""
OF_CELLS = ("evidence", "classes", "concentration")
"""Those with something of each cell."""


def run(settings: Settings, layout: Layout) -> None:
    """Write layout.report: report.html, tables/*.csv, figures/*.svg, png/*.png, metrics.json.

    The same results give the same bytes. Raises OdysseyError naming the stage to run where
    a result is missing.
    """
    inputs = _check(settings, layout)
    sampled, embedded, corpora = _corpora(settings, layout)
    packages = versions("jinja2", "matplotlib", "numpy", "pandas")
    made_from: dict[str, Any] = {
        "inputs": {name: found for name, (_, found) in inputs.items()},
        "corpora": corpora,
        "settings": digest(settings.model_dump(mode="json")),
        "code": code_digest(__name__),
        "template": digest([sha256(path) for path in page.FILES]),
        "packages": packages,
    }
    cells = [(model, domain) for model in settings.models for domain in by_portion(settings.adapted)]
    scores = {cell: _scores(layout.evaluated(*cell)) for cell in cells}
    measured = _measured(settings, layout)
    found = _claims(settings, layout, made_from["inputs"])
    results = _tables(settings, layout, scores, measured, found)
    of_corpora = ((layout.corpus(name), layout.embedded(name)) for name in (SOURCE, *settings.domains))
    folders = [*(folder for folder, _ in inputs.values()), *chain.from_iterable(of_corpora)]
    with new_folder(layout.report, made_from) as folder:
        (folder / "tables").mkdir()
        for name, table in results.items():
            write_frame(folder / "tables" / f"{name}.csv", table)
        metrics = tables.metrics(results["portions"], results["correlations"], found["claims"])
        write_json(folder / "metrics.json", metrics)
        shown = _figures(settings, layout, results, found, folder)
        text = page.render(
            settings=settings,
            tables=results,
            claims=found,
            figures=shown,
            method=method(settings, sampled, embedded, list(scores.values())),
            made_from=made_from | {"packages": _packages(folders) | packages},
        )
        write_text(folder / "report.html", text)
    print(f"report: {len(shown)} figures, {len(results)} tables and the page in {layout.report / 'report.html'}")


def headline(settings: Settings, layout: Layout) -> str:
    """The headline table of a finished report for a terminal, the claims' verdicts, and where the report is."""
    check_folder(layout.report, "report")
    check_folder(layout.claims, "claims")
    with as_written(layout.report, "report"):
        found = read_frame(layout.report / "tables" / "headline.csv")
        text = plain(found, tables.portions(found), settings.claims.confidence)
    with as_written(layout.claims, "claims"):
        told = verdicts(read_frame(layout.claims / "claims.csv"))
    opening = "the paper's claims here (`odyssey claims` says why)"
    return f"{text}\n{opening}\n{told}\n\nreport: {layout.report / 'report.html'}"


def _check(settings: Settings, layout: Layout) -> dict[str, tuple[Path, str]]:
    """{name: (folder, its content's digest)} of the results that the tables and figures are made of."""
    folders = {"similarity": (layout.similarity, "similarity"), "claims": (layout.claims, "claims")}
    places = {"adapt": layout.adapted, "evaluate": layout.evaluated, "tokens": layout.tokens}
    places |= {"joins": layout.joined} if settings.joins else {}
    for model in settings.models:
        for domain in settings.adapted:
            for stage, place in places.items():
                folders[f"{stage}/{model}/{domain}"] = (place(model, domain), stage)
    return {name: (folder, check_folder(folder, stage, READ.get(stage))) for name, (folder, stage) in folders.items()}


def _corpora(settings: Settings, layout: Layout) -> tuple[dict[str, Any], dict[str, Any], str]:
    """What sample and embed counted, by corpus, for the method's text; and a digest of all their contents."""
    names = (SOURCE, *settings.domains)
    sampled, embedded = {}, {}
    for name in names:
        splits = () if name == SOURCE else sections.SPLITS  # all three, and not those of tokens
        with as_written(layout.corpus(name), "sample"):
            sampled[name] = _summary(layout.corpus(name), "sample")
            _check_sampled(sampled[name][0], splits)
        with as_written(layout.embedded(name), "embed"):
            embedded[name] = _summary(layout.embedded(name), "embed")
            _check_embedded(embedded[name][0])
    manifests = [{name: found for name, (_, found) in cells.items()} for cells in (sampled, embedded)]
    counts = [{name: summary for name, (summary, _) in cells.items()} for cells in (sampled, embedded)]
    return counts[0], counts[1], digest(manifests)


def _summary(folder: Path, stage: str) -> tuple[Any, str]:
    """A cell's summary and its content's digest. Texts and vectors are not read here, so they are not hashed."""
    found = check_folder(folder, stage, only=[SUMMARY])
    return read_json(folder / SUMMARY), found


def _check_sampled(summary: Mapping[str, Any], splits: Collection[str]) -> None:
    """Raise one of `written.WRONG` unless the counts are there that the method's text is made of."""
    if not splits:
        check_numbers(summary, "population_rows", *({"words"} & set(summary)))
    for about in [summary[split] for split in splits] or [summary]:
        check_numbers(about, "rows", above_zero=True)
    if splits:
        check_numbers(summary["train"], "words")


def _check_embedded(summary: Mapping[str, Any]) -> None:
    """The same of the vectors' counts."""
    check_numbers(summary, "n", above_zero=True)
    check_numbers(summary, "truncated", "d", *(["max_seq_length"] if summary["max_seq_length"] is not None else []))
    if not isinstance(summary["encoder"], str):
        raise TypeError("'encoder' is no name")


def _scores(folder: Path) -> dict[str, Any]:
    """A cell's scores; raises OdysseyError if they are none."""
    with as_written(folder, "evaluate"):
        scores: dict[str, Any] = read_json(folder / "scores.json")
        check_numbers(scores, "context")
        for name in ("zero_shot", "adapted"):
            check_numbers(scores[name], "tokens", "bytes", above_zero=True)
            score = Score(**scores[name])
            check_numbers({"perplexity": score.perplexity, "bits": score.bits_per_byte}, "perplexity", "bits")
        if not isinstance(scores["unit"], str):
            raise TypeError("'unit' is no name")
    return scores


def _packages(folders: Iterable[Path]) -> dict[str, str]:
    """Package versions that the results' manifests name; several where results differ."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for package, version in read_manifest(folder)["made_from"].get("packages", {}).items():
            found.setdefault(package, set()).add(version)
    return {package: ", ".join(sorted(known)) for package, known in found.items()}


def _measured(settings: Settings, layout: Layout) -> pd.DataFrame:
    """Distances; raises OdysseyError if a domain has none."""
    path = layout.similarity / "similarity.csv"
    with as_written(layout.similarity, "similarity"):
        found = read_frame(path)
        check_columns(found, ("domain", "portion", "mmd", "fd", "n_source", "n_target", "d"))
        by(found, "domain")
    if absent := [domain for domain in settings.domains if domain not in set(found["domain"])]:
        raise OdysseyError(f"{path}: no domain '{absent[0]}'; run `dvc repro similarity`")
    return found


def _claims(settings: Settings, layout: Layout, inputs: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """The tables of stage `claims`; raises OdysseyError if made from other results or rules than the report."""
    names = CLAIMS + (("joins",) if (layout.claims / "joins.csv").is_file() else ())
    cells = {(model, domain) for model in settings.models for domain in settings.adapted}
    with as_written(layout.claims, "claims"):
        found = {name: read_frame(layout.claims / f"{name}.csv") for name in names}
        for name, table in found.items():
            check_claims_table(name, table)
        made = read_manifest(layout.claims)["made_from"]
        same_rules = _rules(made["settings"]) == _rules(settings.model_dump(mode="json"))
    if any(_cells(found[name]) != cells for name in OF_CELLS) or not same_rules:
        raise OdysseyError(f"{layout.claims}: of other cells than the study's, or other rules; run `dvc repro claims`")
    with as_written(layout.claims, "claims"):
        _check_told(found, settings.models)
    if changed := [name for name, held in made["inputs"].items() if inputs.get(name, held) != held]:
        raise OdysseyError(f"{layout.claims}: made from another result of {changed[0]}; run `dvc repro claims`")
    return found


def _cells(table: pd.DataFrame) -> set[tuple[str, str]]:
    return set(table[["model", "domain"]].itertuples(index=False, name=None))


def _check_told(found: Mapping[str, pd.DataFrame], models: Iterable[str]) -> None:
    """Raise ValueError for a word that the report has no other words for, IndexError for a correlation that is not."""
    for name, column, words in (
        ("claims", "verdict", tables.VERDICTS.values()),
        ("evidence", "outcome", (*tables.COUNTS.values(), UNKNOWN)),
    ):
        if unknown := set(found[name][column]) - set(words):
            raise ValueError(f"{column} '{unknown.pop()}'")
    for model, distance in product(models, tables.DISTANCES):
        tables.spearman(found["correlations"][found["correlations"]["model"] == model], distance)


def _rules(held: Mapping[str, Any]) -> list[Any]:
    return [held[key] for key in ("seed", "claims", "joins")]


def _tables(
    settings: Settings,
    layout: Layout,
    scores: Mapping[tables.Cell, Any],
    measured: pd.DataFrame,
    claims: Mapping[str, pd.DataFrame],
) -> dict[str, pd.DataFrame]:
    """The report's tables by name, made from the stages' files."""
    chosen = measured.set_index("domain", drop=False).loc[list(by_portion(settings.adapted))]
    headline = tables.headline(scores, chosen.reset_index(drop=True), claims["evidence"])
    tokens: dict[tuple[str, str, str], pd.DataFrame] = {}
    curves: dict[tables.Cell, pd.DataFrame] = {}
    for cell in scores:
        with as_written(layout.tokens(*cell), "tokens"):
            tokens |= {(*cell, split): _tokens(layout.tokens(*cell) / f"{split}.csv") for split in SPLITS}
        with as_written(layout.adapted(*cell), "adapt"):
            curves[cell] = read_frame(layout.adapted(*cell) / "curves.csv")
            check_rows(curves[cell], ("fraction", "train_start", "valid", "test"))
    return {
        "headline": headline,
        "similarity": number_domains(settings.domains).merge(measured, on="domain", validate="one_to_one"),
        "portions": tables.portions(headline),
        "correlations": claims["correlations"],
        "curves": tables.curves(curves, by_portion(settings.adapted)),
        "top_tokens": tables.top_tokens(tokens, settings.report.top_tokens),
    }


def _tokens(path: Path) -> pd.DataFrame:
    table = read_frame(path)
    check_rows(table, ("token_id", "token", "count", "nll_before", "nll_after", "change", "contribution"))
    return table


def _figures(
    settings: Settings,
    layout: Layout,
    results: Mapping[str, pd.DataFrame],
    claims: Mapping[str, pd.DataFrame],
    folder: Path,
) -> list[dict[str, Any]]:
    """Draw every figure into folders of `folder`; for the page, the words of each, and its SVG as base64."""
    # Apart, because `dvc plots show` shows all that a folder has.
    vector, pictures = folder / "figures", folder / "png"
    vector.mkdir()
    pictures.mkdir()
    shown = []
    for one in bar(draw(settings, layout, results, claims), "report", unit="figure"):
        figure_style.save(one.figure, pictures / f"{one.name}.png")
        figure_style.save(one.figure, vector / f"{one.name}.svg")
        svg = base64.b64encode((vector / f"{one.name}.svg").read_bytes()).decode()
        about = {"number": one.number, "model": one.model, "name": one.name, "title": one.heading}
        shown.append({**about, "caption": one.caption, "svg": svg, "table": one.table})
    return shown
