"""What is published: the paper's corpora and models on the hub, their licences and sizes.

From the repositories' own pages, as known in 2025; a figure that was worked out instead says so.
Shapes of models are in `plan`: nothing that a stage imports should change with an estimate.
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
    files: int
    """Files that are fetched."""
    bytes: int | None
    """Of those files; None where it depends on the domains."""
    row_bytes: int | None
    """UTF-8 bytes of a text on average."""
    origin: str
    """Where the sizes come from."""


@dataclass(frozen=True)
class Checkpoint:
    """A language model of the hub."""

    repo: str
    license: License
    gated: bool
    bytes: int
    """Of its safetensors files: parameters x bytes of a number, if `inferred`."""
    dtype: str
    """Of the weights as they are stored."""
    inferred: bool
    """Whether `bytes` was worked out rather than read on its page."""


M2D2 = "m2d2"
"""Key of M2D2 in CORPORA; the others' keys are the names that `source.corpus` takes."""

CORPORA: Mapping[str, Corpus] = MappingProxyType(
    {
        M2D2: Corpus(
            "machelreid/m2d2",
            License("CC BY-NC 4.0", f"{HUB}/datasets/machelreid/m2d2", non_commercial=True),
            gated=False,
            rows=None,
            files=199,
            bytes=None,
            row_bytes=None,
            origin="one archive a domain; sizes are known of some",
        ),
        "openwebtext": Corpus(
            "Skylion007/openwebtext",
            License("CC0 1.0", f"{HUB}/datasets/Skylion007/openwebtext", non_commercial=False),
            gated=False,
            rows=8_013_769,
            files=80,
            bytes=80 * 301_000_000,
            row_bytes=4_950,  # 39.7 GB of text in all
            origin="80 Parquet files of about 301 MB",
        ),
        "dolma": Corpus(
            "allenai/dolma",
            License("ODC-BY 1.0", f"{HUB}/datasets/allenai/dolma", non_commercial=False),
            gated=False,
            rows=13_095_416,
            files=103,
            bytes=16_400_000_000,
            row_bytes=3_400,  # about 10e9 tokens in 13.1e6 texts, 4.5 bytes a token
            origin="v1_6-sample: 16.4 GB on its page, in 103 gzip files",
        ),
        "redpajama": Corpus(
            "togethercomputer/RedPajama-Data-1T-Sample",
            License("none stated", f"{HUB}/datasets/togethercomputer/RedPajama-Data-1T-Sample", non_commercial=None),
            gated=False,
            rows=930_514,
            files=11,
            bytes=5_400_000_000,
            row_bytes=5_500,  # the files, which are plain JSON, less their metadata
            origin="11 JSON-lines files of about 5.4 GB",
        ),
    }
)
"""By the name that a study's `source.corpus` or a domain's `corpus` has."""

_MIT = License("MIT", "https://github.com/openai/gpt-2/blob/master/LICENSE", non_commercial=False)

CHECKPOINTS: Mapping[str, Checkpoint] = MappingProxyType(
    {
        checkpoint.repo: checkpoint
        for checkpoint in (
            Checkpoint("openai-community/gpt2", _MIT, False, 548_105_171, "float32", inferred=False),
            Checkpoint("openai-community/gpt2-large", _MIT, False, 3_250_000_000, "float32", inferred=False),
            Checkpoint("openai-community/gpt2-xl", _MIT, False, 6_430_000_000, "float32", inferred=False),
            Checkpoint(
                "allenai/OLMo-1B-hf",
                License("Apache 2.0", f"{HUB}/allenai/OLMo-1B-hf", non_commercial=False),
                False,
                4_707_057_664,
                "float32",
                inferred=True,
            ),
            Checkpoint(
                "huggyllama/llama-7b",
                License("LLaMA, non-commercial", f"{HUB}/huggyllama/llama-7b", non_commercial=True),
                False,
                13_476_831_232,
                "float16",
                inferred=True,
            ),
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


def licenses_of(settings: Settings) -> list[tuple[str, License]]:
    """What a study fetches from the hub, each once, with its licence."""
    found: dict[str, License] = {}
    if isinstance(settings.source, HubSource):
        corpus = CORPORA[settings.source.corpus]
        found[corpus.repo] = corpus.license
    if any(isinstance(domain, M2D2Domain) for domain in settings.domains.values()):
        found[CORPORA[M2D2].repo] = CORPORA[M2D2].license
    for model in settings.models.values():
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


def check_licenses(settings: Settings, accepted: bool) -> None:
    """Raise OdysseyError naming the study's non-commercial sources, unless the user accepts their licences."""
    blocked = [(what, terms) for what, terms in licenses_of(settings) if terms.non_commercial]
    if blocked and not accepted:
        raise OdysseyError(
            f"study '{settings.study}' fetches what is {_terms(blocked)}. "
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
