"""A model's cells: one folder a domain, made one after another in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from odyssey.layout import Layout
from odyssey.progress import bar
from odyssey.settings import SPLITS, Settings
from odyssey.store import is_current, prune, sha256


def missing_cells(
    settings: Settings,
    model: str,
    domain: str | None,
    place: Callable[[str, str], Path],
    made_from: Callable[[str], dict[str, Any]],
    label: str,
) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Yield (domain, folder, made_from) of the cells that are not there or no longer hold.

    With a domain only its cell is looked at; without, all of the study's, and folders of
    domains that the study no longer has are deleted, so that the output is the study's.
    """
    settings.model(model)
    if domain is not None:
        settings.domain(domain)
    else:
        prune(place(model, "any").parent, keep=set(settings.domains))
    names = [domain] if domain is not None else list(settings.domains)
    wanted = {name: made_from(name) for name in names}
    waiting = [name for name in names if not is_current(place(model, name), wanted[name])]
    print(f"{label} {model}: {len(waiting)} of {len(names)} domains to do, {len(names) - len(waiting)} kept")
    for name in bar(waiting, f"{label} {model}", unit="domains") if len(waiting) > 1 else waiting:
        yield name, place(model, name), wanted[name]


def split_digests(layout: Layout, domain: str) -> dict[str, str]:
    """sha256 of a domain's splits."""
    return {split: sha256(layout.split(domain, split)) for split in SPLITS}
