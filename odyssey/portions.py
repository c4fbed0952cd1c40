"""A study's domains in their order: by portion, as the paper numbers them, and some drawn of each portion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from odyssey.corpora import m2d2
from odyssey.settings import Settings


def by_portion(settings_domains: Mapping[str, Any]) -> dict[str, str]:
    """{domain: portion}, portions in the order of their first domain, domains in the study's order."""
    portions = list(dict.fromkeys(about.portion for about in settings_domains.values()))
    ranked = sorted(settings_domains.items(), key=lambda item: portions.index(item[1].portion))
    return {domain: about.portion for domain, about in ranked}


def portion_order(settings: Settings) -> list[str]:
    """All of a study's portions, those that models are adapted to first."""
    domains = [*settings.adapted.values(), *settings.domains.values()]
    return list(dict.fromkeys(about.portion for about in domains))


def number_domains(domains: Mapping[str, Any]) -> pd.DataFrame:
    """One row a domain, by id: domain, id, and its name as it is displayed.

    M2D2's have the ids and names of the paper's appendix A.2. All others follow, portion by
    portion; they are called as in the settings.
    """
    own = [name for name in by_portion(domains) if domains[name].corpus != "m2d2"]
    known = {name: (m2d2.domains()[name].id, m2d2.domains()[name].display) for name in domains if name not in set(own)}
    first = len(m2d2.domains()) + 1 if known else 1
    known |= {name: (i, name) for i, name in enumerate(own, first)}
    rows = [(name, *about) for name, about in sorted(known.items(), key=lambda item: item[1][0])]
    return pd.DataFrame(rows, columns=["domain", "id", "display"])


def draw_domains(portion_of: Mapping[str, str], rng: np.random.Generator, each: int = 2) -> list[str]:
    """`each` domains of every portion, at random, in the given order (the paper: four, at random)."""
    drawn: set[str] = set()
    for portion in dict.fromkeys(portion_of.values()):
        own = [domain for domain in portion_of if portion_of[domain] == portion]
        drawn.update(own[i] for i in rng.choice(len(own), min(each, len(own)), replace=False))
    return [domain for domain in portion_of if domain in drawn]
