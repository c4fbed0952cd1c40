"""What is published: the paper's corpora and models on the hub, and their licences, as their pages state them.

Sizes and shapes are in `planning`: nothing that a stage imports should change with an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from odyssey.errors import OdysseyError
from odyssey.sections import HubSource, M2D2Domain, PublishedModel
from odyssey.settings import Settings

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class License:
    """Terms that something is published under."""

    name: str
    url: str
    """Where they are stated."""
    non_commercial: bool | None
    """Whether commercial use is excluded; None if nothing is stated."""


@dataclass(frozen=True)
class Corpus:
    """A corpus of the hub."""

    repo: str
    license: License
    gated: bool
    """Whether its terms have to be accepted on its page, logged in, before the hub gives it out."""
    rows: int | None
    """Texts in it; None where that is not one number."""


@dataclass(frozen=True)
class Checkpoint:
    """A language model of the hub."""

    repo: str
    license: License
    gated: bool


M2D2 = "m2d2"
"""Key of M2D2 in CORPORA; the others' keys are the names that `source.corpus` takes."""

_STATED = {
    M2D2: ("machelreid/m2d2", "CC BY-NC 4.0", True, None),
    "openwebtext": ("Skylion007/openwebtext", "CC0 1.0", False, 8_013_769),
    "dolma": ("allenai/dolma", "ODC-BY 1.0", False, 13_095_416),
    "redpajama": ("togethercomputer/RedPajama-Data-1T-Sample", "none stated", None, 930_514),
}

CORPORA: Mapping[str, Corpus] = MappingProxyType(
    {
        name: Corpus(repo, License(terms, f"{HUB}/datasets/{repo}", non_commercial), gated=False, rows=rows)
        for name, (repo, terms, non_commercial, rows) in _STATED.items()
    }
)
"""By the name that a study's `source.corpus` or a domain's `corpus` has."""

_MIT = License("MIT", "https://github.com/openai/gpt-2/blob/master/LICENSE", non_commercial=False)
_APACHE = License("Apache 2.0", f"{HUB}/allenai/OLMo-1B-hf", non_commercial=False)
_LLAMA = License("LLaMA licence", f"{HUB}/huggyllama/llama-7b", non_commercial=True)

CHECKPOINTS: Mapping[str, Checkpoint] = MappingProxyType(
    {
        repo: Checkpoint(repo, terms, gated=False)
        for repo, terms in (
            ("openai-community/gpt2", _MIT),
            ("openai-community/gpt2-large", _MIT),
            ("openai-community/gpt2-xl", _MIT),
            ("allenai/OLMo-1B-hf", _APACHE),
            ("huggyllama/llama-7b", _LLAMA),
        )
    }
)
"""The paper's models, by their id on the hub."""

ALIASES: Mapping[str, str] = MappingProxyType(
    {name: f"openai-community/{name}" for name in ("gpt2", "gpt2-large", "gpt2-xl")}
)
"""Old ids that the hub still understands."""


def find_checkpoint(name: str) -> Checkpoint | None:
    """What is known of a checkpoint, by id; None for one that is not in the table, such as a folder."""
    known = {repo.lower(): checkpoint for repo, checkpoint in CHECKPOINTS.items()}
    return known.get(ALIASES.get(name.lower(), name).lower())  # the hub does not mind the case


def licenses_of(study: Settings) -> list[tuple[str, License]]:
    """What a study fetches from the hub, each once, with its licence."""
    found: dict[str, License] = {}
    if isinstance(study.source, HubSource):
        corpus = CORPORA[study.source.corpus]
        found[corpus.repo] = corpus.license
    if any(isinstance(domain, M2D2Domain) for domain in study.domains.values()):
        found[CORPORA[M2D2].repo] = CORPORA[M2D2].license
    for model in study.models.values():
        if isinstance(model, PublishedModel):
            known = find_checkpoint(model.checkpoint)
            unknown = License("unknown, see its page", f"{HUB}/{model.checkpoint}", non_commercial=None)
            if model.revision is None:  # a folder of the user's own
                continue
            if known is not None:
                found[known.repo] = known.license
            else:
                found[model.checkpoint] = unknown
    return list(found.items())


def check_licenses(study: Settings, accepted: bool) -> None:
    """Raise OdysseyError naming the study's non-commercial sources, unless the user accepts their licences."""
    blocked = [(what, terms) for what, terms in licenses_of(study) if terms.non_commercial]
    if blocked and not accepted:
        raise OdysseyError(
            f"study '{study.study}' fetches what is {_terms(blocked)}. "
            "If you accept that, set `accept_licenses: true` in params.yaml or pass --accept-licenses"
        )


def check_checkpoint_license(name: str, accepted: bool) -> None:
    """Raise OdysseyError for a checkpoint that is known to be non-commercial, unless the user accepts its licence."""
    known = find_checkpoint(name)
    if known is not None and known.license.non_commercial and not accepted:
        raise OdysseyError(f"{_terms([(known.repo, known.license)])}. If you accept that, pass --accept-licenses")


def _terms(blocked: Sequence[tuple[str, License]]) -> str:
    sources = "; ".join(f"{what} ({terms.name}, {terms.url})" for what, terms in blocked)
    return f"licensed for non-commercial use only: {sources}"
