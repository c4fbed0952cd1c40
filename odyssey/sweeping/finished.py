"""Which cells of a study are finished, by their manifests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from odyssey.layout import Layout
from odyssey.progress import bar
from odyssey.settings import Settings
from odyssey.stages import adapt, evaluate, joins, tokens
from odyssey.store import Cell, check_folder, is_current


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
    for model in bar(settings.models, "sweep, what is there", unit="models", brief=True):
        check_folder(layout.pretrained(model), "pretrain")
        asked = [domain for domain in settings.adapt_to if (model, domain) not in busy]
        whole = asked
        for stage in stages(settings):
            lacking = set(_unfinished(stage, settings, layout, model, whole))
            whole = [domain for domain in whole if domain not in lacking]
        finished = set(whole)
        yield from ((model, domain) for domain in asked if domain not in finished)


def _unfinished(stage: ModuleType, settings: Settings, layout: Layout, model: str, domains: Sequence[str]) -> list[str]:
    """Which of these domains a stage would do of a model.

    What a result is made from only its stage knows, and hands on to `missing_cells`: that is heard here, and
    nothing is done.
    """
    found: list[str] = []

    def look(
        settings: Settings,
        model: str,
        domain: str | None,
        place: Callable[[str, str], Path],
        made_from: Callable[[str], dict[str, Any]],
        label: str,
    ) -> Iterator[Cell]:
        found.extend(name for name in domains if not is_current(place(model, name), made_from(name)))
        return iter(())

    usual = stage.missing_cells
    stage.missing_cells = look  # type: ignore[attr-defined]
    try:
        stage.run(settings, layout, model=model)
    finally:
        stage.missing_cells = usual  # type: ignore[attr-defined]
    return found
