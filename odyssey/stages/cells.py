"""A stage's cells of models and domains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from odyssey.layout import Layout
from odyssey.sections import SPLITS
from odyssey.settings import Settings
from odyssey.store import Cell, check_file, missing, prune


def chosen_models(settings: Settings, model: str | None, parent: Path) -> list[str]:
    """The model asked for, or all of the study's; then what `parent` holds of others is deleted."""
    if model is not None:
        settings.model(model)
        return [model]
    prune(parent, keep=set(settings.models))
    return list(settings.models)


def missing_cells(
    settings: Settings,
    model: str,
    domain: str | None,
    place: Callable[[str, str], Path],
    made_from: Callable[[str], dict[str, Any]],
    label: str,
) -> Iterator[Cell]:
    """Yield a model's cells, one a domain that models are adapted to, that are not there or no longer hold.

    With a domain only its cell is looked at; without, all of the study's, and folders of
    domains that the study no longer has are deleted, so that the output is the study's.
    """
    if domain is not None:
        settings.domain(domain)
    else:
        prune(place(model, "any").parent, keep=set(settings.adapted))
    names = [domain] if domain is not None else list(settings.adapted)
    return missing(names, lambda name: place(model, name), made_from, f"{label} {model}")


def split_digests(layout: Layout, domain: str) -> dict[str, str]:
    """sha256 of a domain's splits, checked."""
    return {split: check_file(layout.split(domain, split), "sample") for split in SPLITS}
