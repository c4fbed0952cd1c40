"""The report's HTML page: frames, words and settings in, text out. No results are read here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import pandas as pd

from odyssey.claims import HANDFUL
from odyssey.provenance import PACKAGE
from odyssey.reporting import findings, page_claims, page_tables
from odyssey.reporting.captions import QUESTION, answer, noise, sizes, tested
from odyssey.reporting.parameters import parameters
from odyssey.reporting.tables import most_degraded
from odyssey.reporting.words import percent
from odyssey.science.token_classes import CLASSES
from odyssey.settings import Settings

TEMPLATE = PACKAGE / "reporting" / "templates" / "report.html.j2"


def render(
    settings: Settings,
    tables: Mapping[str, pd.DataFrame],
    claims: Mapping[str, pd.DataFrame],
    figures: Sequence[Mapping[str, Any]],
    method: Sequence[tuple[str, str]],
    made_from: Mapping[str, Any],
) -> str:
    """The page; all that is put into the template is escaped.

    `tables` are the report's, `claims` those of the stage of that name. A figure has number, name,
    title, caption, svg (base64) and the table below it, or None.
    """
    headline, portions, correlations = tables["headline"], tables["portions"], tables["correlations"]
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
        answer=" ".join(answer(headline, portions, correlations)),
        noise=noise(headline, settings.claims.confidence),
        confidence=percent(settings.claims.confidence),
        tested=tested(headline),
        figures=figures,
        headline=page_tables.headline_rows(headline, {name: i for i, name in enumerate(settings.adapted, 1)}),
        portions=page_tables.portion_rows(portions),
        correlations=page_tables.correlation_rows(correlations),
        tokens=page_tables.token_rows(tables["top_tokens"], headline),
        sizes=sizes(headline),
        **_found(headline, claims),
        method=method,
        parameters=parameters(settings),
        about=made_from,
        stages=stages,
        cells=cells,
    )


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
