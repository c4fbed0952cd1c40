"""The report's HTML page: frames, words and settings in, text out. No results are read here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import pandas as pd

from odyssey.claims import HANDFUL
from odyssey.provenance import PACKAGE
from odyssey.reporting import findings, page_claims, page_tables
from odyssey.reporting.answer import QUESTION, answer, worst_domains
from odyssey.reporting.captions import noise, sizes, tested
from odyssey.reporting.method_claims import fixed
from odyssey.reporting.parameters import parameters
from odyssey.reporting.tables import most_degraded
from odyssey.reporting.words import percent
from odyssey.science.token_classes import CLASSES
from odyssey.settings import Settings

TEMPLATE = PACKAGE / "reporting" / "templates" / "report.html.j2"
FILES = tuple(TEMPLATE.with_name(f"report.{kind}") for kind in ("html.j2", "css", "js"))
"""What the page is made of: the template, and what it includes."""

CONTENTS = {
    "claims": "The paper’s claims",
    "domains": "Perplexity by domain",
    "similarity": "Similarity",
    "curves": "On the way",
    "carriers": "Which tokens",
    "tokens": "Token table",
    "joins": "Joined rows",
    "method": "Method and parameters",
    "provenance": "Provenance",
}
"""Sections by their anchors; that on joined rows is there where a study asks for it."""
SIMILARITY = "similarity"
SECTIONS = {1: "domains", 8: SIMILARITY, 2: SIMILARITY, 5: SIMILARITY, 6: SIMILARITY}
SECTIONS |= {3: "curves", 7: "carriers", 4: "carriers"}
"""Where a figure of each number stands, in their order."""


def render(
    settings: Settings,
    tables: Mapping[str, pd.DataFrame],
    claims: Mapping[str, pd.DataFrame],
    figures: Sequence[Mapping[str, Any]],
    method: Sequence[tuple[str, str]],
    made_from: Mapping[str, Any],
) -> str:
    """The page; all that is put into the template is escaped.

    `tables` are the report's, `claims` those of the stage of that name. A figure has number, model, name,
    title, caption, svg (base64) and the table below it, or None.
    """
    headline, portions = tables["headline"], tables["portions"]
    shown = [{**figure, "section": SECTIONS[figure["number"]]} for figure in figures]
    stages, cells = page_tables.input_rows(made_from["inputs"])
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE.name).render(
        settings=settings,
        question=QUESTION,
        answer=answer(portions, claims),
        worst=worst_domains(headline, tables["top_tokens"]),
        contents=[(name, title) for name, title in CONTENTS.items() if name != "joins" or "joins" in claims],
        noise=noise(headline, settings.claims.confidence),
        confidence=percent(settings.claims.confidence),
        tested=tested(headline),
        figures=sorted(shown, key=lambda figure: [*SECTIONS].index(figure["number"])),
        headline=page_tables.headline_rows(headline, {name: i for i, name in enumerate(settings.adapted, 1)}),
        portions=page_tables.portion_rows(portions),
        correlations=page_tables.correlation_rows(tables["correlations"]),
        **_tokens(tables["top_tokens"], headline),
        sizes=sizes(headline),
        **_found(headline, claims),
        method=method,
        **_parameters(settings),
        about=made_from,
        stages=stages,
        cells_of=cells,
    )


def _tokens(top_tokens: pd.DataFrame, headline: pd.DataFrame) -> dict[str, Any]:
    """The token table, which of the tokens it has, and the domains that it can be searched for."""
    limit, most = page_tables.shown_of(top_tokens), int(top_tokens["rank"].max())
    all_of = f"up to {most} of either kind on test and on train"
    fewer = f"the {limit} strongest of either kind on test and on train, and up to {most} of each model’s worst domain"
    return {
        "tokens": page_tables.token_rows(top_tokens, headline),
        "tokens_shown": all_of if limit >= most else fewer,
        "domains": sorted(set(headline["domain"])),
    }


def _parameters(settings: Settings) -> dict[str, Any]:
    """Every parameter, whose it is, and how many are whose; those that the paper states are set off."""
    rows = parameters(settings)
    stated = sum(origin == "paper" for _, _, origin in rows)
    caption = (
        f"Every parameter: {stated} of {len(rows)} are as the paper states them (“paper”); for the others it gives "
        "none, or ours differs (“ours”). Below them what no study’s file sets, which is ours too."
    )
    shown = [list(row) for row in [*rows, *fixed()]]
    marks = [row[2] == "paper" for row in shown]
    return {
        "parameters": page_tables.table(["parameter", "value", "whose"], shown, words=3, marks=marks),
        "parameters_caption": caption,
    }


def _found(headline: pd.DataFrame, claims: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """What the sections on claims, tokens, stopping and joined rows show."""
    evidence, stopping, joins = claims["evidence"], claims["stopping"], claims.get("joins")
    return {
        "claims": page_claims.claim_groups(claims["claims"]),
        "handful": HANDFUL,
        "verdicts": findings.verdicts(claims["claims"]),
        "classes": [_classes(headline, claims["classes"], model) for model in dict.fromkeys(headline["model"])],
        "rules": CLASSES,
        "no_concentration": findings.no_concentration(headline),
        "apart": (findings.apart(evidence), page_claims.apart_rows(evidence)),
        "stopping": page_claims.stopping_rows(stopping) if len(stopping) else None,
        "stop": f"{findings.best_rule(stopping)} {findings.going_on(evidence)}",
        "joined": None if joins is None else findings.joined(joins),
        "grids": [] if joins is None else page_claims.join_grids(joins, list(dict.fromkeys(joins["scored"]))),
        "joins": None if joins is None else page_claims.join_rows(joins),
    }


def _classes(headline: pd.DataFrame, classes: pd.DataFrame, model: str) -> tuple[str, page_tables.Table]:
    """Of the domain that came off worst with a model, what its classes of tokens did, in a sentence and a table."""
    domain = most_degraded(headline, model)
    own = classes[(classes["model"] == model) & (classes["domain"] == domain)]
    row = headline[(headline["model"] == model) & (headline["domain"] == domain)].iloc[0]
    return findings.adds_up(own, domain, model), page_claims.class_rows(own, float(row["change"]))
