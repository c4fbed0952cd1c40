"""All figures of a report, with their words: the stages' files in, drawn figures out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from odyssey.claims import WORSE
from odyssey.frames import read_frame
from odyssey.layout import SUMMARY, Layout
from odyssey.portions import by_portion, draw_domains, portion_order
from odyssey.reporting import captions, figures, findings, page_tables, token_figures
from odyssey.reporting.domain_axis import NAMED
from odyssey.reporting.method import id_names, source_name
from odyssey.reporting.tables import most_degraded
from odyssey.science.attribution import SHARES
from odyssey.science.splits import generator
from odyssey.settings import Settings
from odyssey.store import read_json
from odyssey.written import as_written

DISTANCE_FIGURES = {"openwebtext": 2, "dolma": 5, "redpajama": 6}
"""The paper's figure of each source corpus; of any other, ours takes the place of the first."""
CONCENTRATION, BY_DISTANCE = 7, 8
"""Ours: the paper has six."""

Frames = Mapping[str, pd.DataFrame]


class Drawn(NamedTuple):
    """A figure of one model or (an empty name) of all, with its words and the table below it."""

    number: int
    model: str
    title: str
    caption: str
    figure: Figure
    table: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"figure{self.number}_{self.model}" if self.model else f"figure{self.number}"

    @property
    def heading(self) -> str:
        """What it is called on the page."""
        return f"Figure {self.number}{', ' if self.model else ''}{self.model}: {self.title}"


def draw(settings: Settings, layout: Layout, tables: Frames, claims: Frames) -> list[Drawn]:
    """Every figure, by number; `tables` are the report's, and `claims` those of the stage of that name."""
    drawn = [_distances(settings, tables["similarity"])]
    for model in settings.models:
        drawn += _of_model(settings, layout, tables, model)
        drawn += _concentration(tables["headline"], claims, model)
        drawn.append(_by_distance(settings, claims, model))
    return sorted(drawn, key=lambda one: one.number)


def _distances(settings: Settings, similarity: pd.DataFrame) -> Drawn:
    """The figure of the source corpus."""
    source, (axis, ids) = source_name(settings), id_names(settings)
    return Drawn(
        DISTANCE_FIGURES.get(settings.source.corpus, 2),
        "",
        f"distance of every domain to {source}",
        captions.distance_caption(similarity, ids),
        figures.similarity(similarity, source, portion_order(settings), axis),
        page_tables.distance_rows(similarity),
    )


def _of_model(settings: Settings, layout: Layout, tables: Frames, model: str) -> list[Drawn]:
    """Figures 1, 3 and 4 of a model."""
    portion_of, confidence = by_portion(settings.adapted), settings.claims.confidence
    headline, top = tables["headline"], tables["top_tokens"]
    ids = {domain: place for place, domain in enumerate(settings.adapted, 1)}
    order = list(portion_of if len(ids) <= NAMED else ids)
    own = headline[headline["model"] == model].set_index("domain", drop=False).loc[order]
    own = own.assign(id=own["domain"].map(ids))
    chosen = draw_domains(portion_of, generator(settings.seed, "report", "curves"))
    curves = {domain: read_frame(layout.adapted(model, domain) / "curves.csv") for domain in chosen}
    worst = most_degraded(headline, model)
    changed = top[(top["model"] == model) & (top["domain"] == worst)]
    about_change = captions.change_caption(own, confidence)
    with as_written(layout.tokens(model, worst), "tokens"):
        about_tokens = captions.token_caption(own, read_json(layout.tokens(model, worst) / SUMMARY))
    named = token_figures.tokens(changed, model, worst)
    change = figures.perplexity_change(own, model, portion_order(settings), confidence)
    on_the_way = figures.curves(curves, portion_of, model)
    return [
        Drawn(1, model, "perplexity change, with MMD and FD", about_change, change),
        Drawn(
            3,
            model,
            "perplexity during adaptation",
            captions.curves_caption(curves),
            on_the_way,
        ),
        Drawn(4, model, f"tokens that changed most on {worst}", about_tokens, named),
    ]


def _concentration(headline: pd.DataFrame, claims: Frames, model: str) -> list[Drawn]:
    """Figure 7 of a model; none if no domain got worse beyond noise."""
    own = headline[headline["model"] == model]
    worse = set(own.loc[own["outcome"] == WORSE, "domain"])
    if not worse:
        return []
    curves, counts = (
        claims[name][(claims[name]["model"] == model) & claims[name]["domain"].isin(worse)]
        for name in ("concentration_curve", "concentration")
    )
    caption = findings.concentration_caption(counts, model)
    figure = token_figures.concentration(*findings.degraded_curves(curves, counts), SHARES, model)
    return [Drawn(CONCENTRATION, model, "how many tokens carry the rise", caption, figure)]


def _by_distance(settings: Settings, claims: Frames, model: str) -> Drawn:
    """Figure 8 of a model."""
    own, correlations = (claims[name][claims[name]["model"] == model] for name in ("evidence", "correlations"))
    confidence = settings.claims.confidence
    caption = captions.similarity_caption(own, correlations, confidence)
    figure = figures.change_by_distance(own, model, portion_order(settings), confidence)
    return Drawn(BY_DISTANCE, model, "perplexity change by distance", caption, figure)
