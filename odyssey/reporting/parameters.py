"""Every parameter of a study, with whose choice it is: the paper's or ours."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from odyssey.corpora import m2d2
from odyssey.published import find_checkpoint
from odyssey.reporting.words import listed
from odyssey.sections import DocstringsDomain, LocalDomain, M2D2Domain, PublishedModel
from odyssey.settings import Settings

PAPER: dict[str, Any] = {
    "embed.fraction": 0.05,
    "embed.max_texts": 50_000,
    "adapt.epochs": 1,
    "adapt.train_start": 0.03,
    "tokens.chunks": 128,
    "tokens.chunk_tokens": 4096,
}
"""What the paper states of every study's parameters; see `stated` for those of single corpora and models."""

SOURCE_ROWS = {"openwebtext": 400_000, "dolma": 650_000, "redpajama": None}
"""Texts that the paper draws of a source corpus. Its 930k of RedPajama are all of that sample: none are left out."""

ADAPT_LEARNING_RATES = {
    "openai-community/gpt2": 5e-5,
    "openai-community/gpt2-large": 5e-5,
    "openai-community/gpt2-xl": 5e-5,
    "allenai/OLMo-1B-hf": 8.5e-6,
    "huggyllama/llama-7b": 5e-6,
}

OWN = {"docstrings": "documentation strings", "local": "own texts"}
"""Kinds of corpora that come as whole documents, and are split here."""


def parameters(settings: Settings) -> list[tuple[str, str, str]]:
    """Every parameter as (key, value, whose choice it is)."""
    flat = _flat(settings.model_dump(mode="json", exclude={"domains", "adapt_to"}))
    known = stated(settings)
    return [(key, plain(value, key), _origin(known, key, value)) for key, value in flat] + _domain_rows(settings)


def stated(settings: Settings) -> dict[str, Any]:
    """What the paper states of this study's parameters; all others are choices of ours."""
    found = dict(PAPER)
    if settings.source.corpus in SOURCE_ROWS:
        found["source.rows"] = SOURCE_ROWS[settings.source.corpus]
    for name, model in settings.models.items():
        known = find_checkpoint(model.checkpoint) if isinstance(model, PublishedModel) else None
        if known is not None and known.repo in ADAPT_LEARNING_RATES:
            found[f"models.{name}.adapt_learning_rate"] = ADAPT_LEARNING_RATES[known.repo]
    return found


def _domain_rows(settings: Settings) -> list[tuple[str, str, str]]:
    """A row for each domain, but one for all of M2D2, and one for the domains that models are adapted to."""
    rows = []
    for revision, names in m2d2_by_revision(settings).items():
        portions = [settings.domains[name].portion for name in names]
        counts = listed(f"{portions.count(portion)} {portion}" for portion in dict.fromkeys(portions))
        whole = set(names) == set(m2d2.domains())
        which = "all of the paper's appendix A.2" if whole else ", ".join(names)
        rows.append(("domains", f"m2d2 at revision {revision}, {counts}: {which}", "paper" if whole else "ours"))
    for name, domain in settings.domains.items():
        if not isinstance(domain, M2D2Domain):
            rows.append((f"domains.{name}", f"{domain.portion}; {domain.corpus}: {_where(domain)}", "ours"))
    chosen = "all" if settings.adapt_to == list(settings.domains) else ", ".join(settings.adapt_to)
    rows.append(("adapt_to", chosen, "paper" if settings.adapt_to == list(m2d2.PAPER_20) else "ours"))
    return rows


def _where(domain: DocstringsDomain | LocalDomain) -> str:
    if isinstance(domain, DocstringsDomain):
        return ", ".join(domain.modules)
    return domain.path + (f", column {domain.text}" if domain.text else "")


def _flat(value: Any, key: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else name)
    else:
        yield key, value


def plain(value: Any, key: str = "") -> str:
    """A value to read: as in a study's file, but for null, which is told by what it means."""
    if value is None:
        return "all" if key.startswith(("source.rows", "sample.rows")) else "none"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    # A newline or a space is a value too: quoted, so that it can be seen; what does not print is written out.
    quoted = isinstance(value, bool) or (isinstance(value, str) and (value != value.strip() or not value.isprintable()))
    return json.dumps(value) if quoted else str(value)


def _origin(known: Mapping[str, Any], key: str, value: Any) -> str:
    if key not in known:
        return "ours"
    return "paper" if value == known[key] else f"ours (paper: {plain(known[key], key)})"


def m2d2_by_revision(settings: Settings) -> dict[str, list[str]]:
    """The study's domains of M2D2 by the revision that they are read at: one, as a rule."""
    found: dict[str, list[str]] = {}
    for name, domain in settings.domains.items():
        if isinstance(domain, M2D2Domain):
            found.setdefault(domain.revision, []).append(name)
    return found
