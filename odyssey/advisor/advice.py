"""Should a model be adapted to some texts? What is measured for an answer, in order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odyssey import models
from odyssey.advisor import forecast as forecasts
from odyssey.advisor import probe as probes
from odyssey.advisor import similarity as similarities
from odyssey.advisor import texts as reading
from odyssey.advisor.forecast import Cell, Forecast
from odyssey.advisor.probe import Deal, Probe, ZeroShot
from odyssey.advisor.similarity import Similarity
from odyssey.advisor.texts import Texts
from odyssey.corpora import hub
from odyssey.encoder import PINNED, PINNED_SHA256, count_truncated, encode, load_encoder
from odyssey.errors import OdysseyError
from odyssey.layout import PUBLISHED
from odyssey.progress import bar
from odyssey.published import check_checkpoint_license, find_checkpoint
from odyssey.reporting.parameters import ADAPT_LEARNING_RATES
from odyssey.sections import Precision
from odyssey.stages.tokens import display
from odyssey.store import read_json
from odyssey.tokenization import token_texts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

BATCH_ROWS = 8
"""Rows embedded at once; changes speed and memory only."""


@dataclass(frozen=True)
class Request:
    """What is asked."""

    model: str
    """Folder or hub id."""
    source: str
    """What the model was pretrained on: a file, a folder or a corpus of the hub."""
    domain: Path
    text: str | None = None
    """Column or key of the domain's text."""
    learning_rate: float | None = None
    """Of the adaptation in question; None for the paper's, where it states one for the model."""
    encoder: str | None = None
    """Folder, hub id or None for the pinned all-MiniLM-L6-v2."""
    probe: bool = True
    seed: int = 0
    accept_licenses: bool = False
    root: Path = Path()
    """Where studies/ is, which pins the revisions of the hub's corpora."""


@dataclass(frozen=True)
class Advice:
    """The answer, and all that it rests on."""

    request: Request
    learning_rate: float
    learning_rate_from: str
    """Whose choice it is: the user's or the paper's."""
    commit: str | None
    """Of a model of the hub."""
    parameters: int
    context: int
    domain: Texts
    source: Texts
    similarity: Similarity
    dealt: Deal
    zero_shot: ZeroShot
    source_bytes_per_token: float
    probe: Probe | None
    tokens: list[dict[str, Any]]
    """The probe's effect by predicted token, what got worse first; empty without a probe."""

    @property
    def cell(self) -> Cell:
        """What the forecast is made from, by the names of the calibration's columns."""
        found = self.similarity
        cell: dict[str, Any] = {
            "parameters": self.parameters,
            "learning_rate": self.learning_rate,
            "tokens": self.dealt.total,
            "zero_shot": self.zero_shot.log,
            "encoder": self.request.encoder or PINNED,
            "rows": found.n,
            "fd": found.fd,
            "fd_ratio": found.fd_ratio,
            "mmd": found.mmd,
            "mmd_ratio": found.mmd_ratio,
            "ngrams": found.ngrams,
        }
        if (probe := self.probe) is not None:
            low, high = probe.change.log_interval
            half = probe.points[len(probe.points) // 2 - 1][1]
            cell |= {"share": probe.tokens / self.dealt.total, "half": half, "change": probe.change.log}
            cell |= {"change_low": low, "change_high": high}
        return cell

    @cached_property
    def forecast(self) -> Forecast:
        """What the full adaptation will do."""
        return forecasts.forecast(self.cell, forecasts.calibration(), probes.CONFIDENCE)


def advise(asked: Request, similarity: Similarity | None = None) -> Advice:
    """Measure and answer. Nothing is written but what is fetched from the hub, into its cache.

    `similarity` is what these texts gave before with the same seed and encoder, for callers that
    ask of several models. Raises OdysseyError for what cannot be read, texts that are too few or the
    same on both sides, a learning rate that is not known, or a licence that is not accepted.
    """
    learning_rate, whose = find_learning_rate(asked)
    _look_at_paths(asked)
    local = Path(asked.model).exists()
    if not local:
        check_checkpoint_license(asked.model, asked.accept_licenses)
    domain = reading.read(asked.domain, asked.text, asked.seed, "domain")
    source = reading.read_source(asked.source, asked.text, asked.seed, asked.root)
    commit = None if local else hub.resolve(asked.model, "main", "model")
    how_exact = _precision()
    network, tokenizer = models.load(asked.model, how_exact, revision=commit)
    context, size = min(models.context_of(network), probes.LONGEST_CONTEXT), models.parameters(network)
    # Cheap complaints first: these need the tokenizer only.
    dealt = probes.deal(domain, tokenizer, context, asked.seed)
    similarity = similarity or compare(domain, source, asked.encoder, asked.seed)
    zero_shot = probes.score(network, dealt.held_out, context, asked.seed)
    probe = None
    if asked.probe:
        recipe = probes.recipe(network, context, how_exact)
        probe = probes.run(network, dealt, zero_shot, recipe, learning_rate, context, asked.seed)
    return Advice(
        request=asked,
        learning_rate=learning_rate,
        learning_rate_from=whose,
        commit=commit,
        parameters=size,
        context=context,
        domain=domain,
        source=source,
        similarity=similarity,
        dealt=dealt,
        zero_shot=zero_shot,
        source_bytes_per_token=probes.bytes_per_token(tokenizer, source),
        probe=probe,
        tokens=_token_rows(tokenizer, probe) if probe else [],
    )


def _look_at_paths(asked: Request) -> None:
    source = Path(asked.source)
    if source.exists() and asked.domain.exists() and source.samefile(asked.domain):
        raise OdysseyError(f"--source and --domain are the same, {asked.domain}; give what the model was pretrained on")


def compare(domain: Texts, source: Texts, encoder: str | None, seed: int) -> Similarity:
    """Similarity of two sides by a sentence encoder; see `similarity.measure`."""
    name = encoder or PINNED
    loaded = load_encoder(name, PINNED_SHA256 if name == PINNED else None)

    def embed(rows: Any) -> NDArray[np.float32]:
        with bar(label="embed", total=len(rows), unit="row") as progress:
            return encode(loaded, rows, BATCH_ROWS, progress.update)

    return similarities.measure(domain, source, embed, lambda rows: count_truncated(loaded, rows), seed)


def find_learning_rate(asked: Request) -> tuple[float, str]:
    """The rate of the adaptation in question, and whose choice it is.

    There is no default for a model of which the paper states none: whether a model gets worse depends
    on the rate more than on most else, so that an answer for a rate of ours would be one to another question.
    """
    if asked.learning_rate is not None:
        return asked.learning_rate, "yours"
    name = asked.model
    if (published := Path(name) / PUBLISHED).is_file():
        name = str(read_json(published)["checkpoint"])
    known = find_checkpoint(name)
    if known is None or known.repo not in ADAPT_LEARNING_RATES:
        stated = ", ".join(f"{rate:g} for {repo.rpartition('/')[2]}" for repo, rate in ADAPT_LEARNING_RATES.items())
        raise OdysseyError(
            f"model '{asked.model}': say at which rate you would adapt it, with --learning-rate, as the answer depends "
            f"on it (the paper: {stated})"
        )
    return ADAPT_LEARNING_RATES[known.repo], "the paper's"


def _precision() -> Precision:
    """As in the studies here: bfloat16 on a GPU, float32 elsewhere."""
    import torch

    return "bfloat16" if torch.cuda.is_available() else "float32"


def _token_rows(tokenizer: PreTrainedTokenizerBase, probe: Probe) -> list[dict[str, Any]]:
    table = probe.table
    names = map(display, token_texts(tokenizer, table.token_id.tolist()))
    keys = ("token_id", "token", "count", "nll_before", "nll_after", "change", "contribution")
    columns = (table.token_id.tolist(), names, *(column.tolist() for column in table[1:]))
    return [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]
