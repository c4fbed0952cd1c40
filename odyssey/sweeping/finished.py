"""Which cells of a study are finished, by their manifests."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from types import ModuleType

from odyssey.layout import Layout
from odyssey.progress import bar
from odyssey.settings import Settings
from odyssey.stages import adapt, evaluate, joins, tokens
from odyssey.store import check_folder, is_current


def stages(settings: Settings) -> list[ModuleType]:
    """The stages that are done cell by cell, in their order; `joins` only where the study asks for it."""
    return [adapt, evaluate, tokens, *([joins] if settings.joins else [])]


def missing(
    settings: Settings, layout: Layout, busy: Collection[tuple[str, str]] = frozenset()
) -> Iterator[tuple[str, str]]:
    """Yield (model, domain) of the cells of which a stage's result is not there, or no longer holds.

    Those that are `busy`, as somebody does them now, are left out. The others are looked at as the stages
    do it: every file is hashed. Raises OdysseyError naming the stage to run if what the cells are made from,
    the samples and the base models, is not there or damaged.
    """
    places = {adapt: layout.adapted, evaluate: layout.evaluated, tokens: layout.tokens, joins: layout.joined}
    for model in bar(settings.models, "sweep, what is there", unit="models", brief=True):
        check_folder(layout.pretrained(model), "pretrain")
        asked = [domain for domain in settings.adapt_to if (model, domain) not in busy]
        whole = asked
        for stage in stages(settings):
            made_from, place = stage.origins(settings, layout, model), places[stage]
            whole = [domain for domain in whole if is_current(place(model, domain), made_from(domain))]
        finished = set(whole)
        yield from ((model, domain) for domain in asked if domain not in finished)
