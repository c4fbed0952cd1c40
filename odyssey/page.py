"""The report's HTML page: frames, words and settings in, text out. No results are read here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import pandas as pd

from odyssey.captions import QUESTION, answer, p_value, signed, sizes
from odyssey.parameters import parameters
from odyssey.provenance import PACKAGE
from odyssey.settings import Settings
from odyssey.tables import most_degraded, number

TEMPLATE = PACKAGE / "templates" / "report.html.j2"


def headline_rows(headline: pd.DataFrame, ids: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """A model's rows of the headline table to read, by model; those that got worse are marked. `ids` are Figure 1's."""
    # n of the source and d are the same in every row: they stand above the table.
    header = ["domain", "portion", "id", "zero-shot", "adapted", "change", "ratio", "MMD", "FD", "n\ndomain"]
    header += ["bits/byte\nzero-shot", "bits/byte\nadapted"]
    found = {}
    for model, own in headline.groupby("model", sort=False):
        rows = [
            [
                *(row.domain, row.portion, str(ids[row.domain]), number(row.zero_shot), number(row.adapted)),
                *(signed(row.change, None), f"×{row.ratio:.3f}", f"{row.mmd:.4f}", f"{row.fd:.4f}"),
                *(f"{row.n_target:,}", f"{row.bits_per_byte_zero_shot:.3f}", f"{row.bits_per_byte_adapted:.3f}"),
            ]
            for row in own.itertuples()
        ]
        found[str(model)] = _table(header, rows, words=2, marks=[bool(change > 0) for change in own["change"]])
    return found


def distance_rows(similarity: pd.DataFrame) -> dict[str, Any]:
    """Every measured domain by its id in the distance figure."""
    rows = [
        [str(row.id), row.display, row.portion, f"{row.mmd:.4f}", f"{row.fd:.4f}", f"{row.n_target:,}"]
        for row in similarity.itertuples()
    ]
    return _table(["id", "domain", "portion", "MMD", "FD", "n"], rows, words=3)


def portion_rows(portions: pd.DataFrame) -> dict[str, Any]:
    """Worse and better domains per model and portion."""
    rows = [
        [row.model, row.portion, str(row.domains), str(row.worse), str(row.better), f"×{row.median_ratio:.3f}"]
        for row in portions.itertuples()
    ]
    return _table(["model", "portion", "domains", "worse", "better", "median ratio"], rows, words=2)


def correlation_rows(correlations: pd.DataFrame) -> dict[str, Any]:
    """Correlations to read; a dash where there is none."""
    header = ["model", "portion", "of", "with", "n", "Spearman", "p", "Pearson", "p"]
    names = {"change": "change", "log_change": "log change"}
    rows = [
        [
            *(row.model, row.portion, names[row.change], row.distance.upper(), str(row.n)),
            *(signed(row.spearman), p_value(row.spearman_p), signed(row.pearson), p_value(row.pearson_p)),
        ]
        for row in correlations.itertuples()
    ]
    return _table(header, rows, words=4)


def token_rows(tokens: pd.DataFrame, headline: pd.DataFrame) -> dict[str, Any]:
    """Of the domain that came off worst with each model, the tokens of the test split that changed most."""
    header = ["model", "domain", "", "token", "count", "NLL before", "after", "change", "contribution"]
    rows = [
        [
            *(row.model, row.domain, "worse" if row.direction == "up" else "better", row.token.replace(" ", "␣")),
            *(f"{row.uses:,}", f"{row.nll_before:.3f}", f"{row.nll_after:.3f}"),
            *(signed(row.change, 3), signed(row.contribution, 4)),
        ]
        for row in tokens.rename(columns={"count": "uses"}).itertuples()
        if row.split == "test" and row.domain == most_degraded(headline, row.model)
    ]
    return _table(header, rows, words=4)


def input_rows(inputs: Mapping[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Digests of the contents of whole stages, and a table of those of cells, named "stage/model/domain"."""
    whole = {name: found[:12] for name, found in inputs.items() if "/" not in name}
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for name, found in inputs.items():
        if name not in whole:
            stage, model, domain = name.split("/")
            cells.setdefault((model, domain), {})[stage] = found[:12]
    stages = list(next(iter(cells.values())))
    return whole, _table(["model", "domain", *stages], [[*cell, *cells[cell].values()] for cell in cells], words=5)


def render(
    settings: Settings,
    tables: Mapping[str, pd.DataFrame],
    figures: Sequence[Mapping[str, Any]],
    method: Sequence[tuple[str, str]],
    made_from: Mapping[str, Any],
) -> str:
    """The page; all that is put into the template is escaped.

    A figure has name, title, caption, svg (base64) and the table below it, or None.
    """
    headline, portions, correlations = tables["headline"], tables["portions"], tables["correlations"]
    stages, cells = input_rows(made_from["inputs"])
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
        figures=figures,
        headline=headline_rows(headline, {name: i for i, name in enumerate(settings.adapted, 1)}),
        portions=portion_rows(portions),
        correlations=correlation_rows(correlations),
        tokens=token_rows(tables["top_tokens"], headline),
        sizes=sizes(headline),
        method=method,
        parameters=parameters(settings),
        about=made_from,
        stages=stages,
        cells=cells,
    )


def _table(header: list[str], rows: list[list[str]], words: int, marks: Sequence[bool] = ()) -> dict[str, Any]:
    """`words` columns of text, then numbers; `marks` says which rows to set off."""
    return {"header": header, "rows": rows, "words": words, "marks": list(marks) or [False] * len(rows)}
