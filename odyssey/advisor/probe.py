"""What the model makes of the texts: zero-shot, and after a short adaptation on a small share of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from odyssey import models, scoring, tokenization
from odyssey.advisor.texts import Texts
from odyssey.errors import OdysseyError
from odyssey.science.splits import generator
from odyssey.science.stats import Change, Interval, paired_change
from odyssey.science.tokens import TokenTable, token_table
from odyssey.science.windows import blocks
from odyssey.sections import Engine, Precision, Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SHARE = 0.25
"""Share of the texts that the probe is trained on. Ours."""
MOST_TOKENS = 250_000
"""Of the probe, and of the part that is held out. Ours."""
FEWEST_STEPS = 4
"""Optimiser steps of a probe: with fewer, it shows how training begins and nothing else. Ours."""
FEWEST_DOCUMENTS = 20
"""Held out; intervals by document are not to be trusted with fewer. Ours."""
POINTS = 4
"""Times that the probe is scored after it has begun, evenly spaced. Ours."""
BATCH_SIZE = 8
"""Sequences of a step, as in the mini-study."""
MICRO_TOKENS = 4096
"""Tokens of one forward pass; changes speed and memory only."""
LONGEST_CONTEXT = 2048
"""Tokens of a window at most, the paper's longest: a probe of four steps in windows of 8192 would take more texts than
are kept. Ours."""
SEPARATOR = "\n"
"""Joins rows, as in all studies here."""
CONFIDENCE = 0.8
"""Of all intervals that advice gives: outside of it on one side lies a tenth. Ours."""
RESAMPLES = 2000
SOURCE_WORDS = 20_000
"""Words of the source texts that are tokenised to compare how many bytes a token has."""


@dataclass(frozen=True)
class Part:
    """Rows joined and tokenised as the pipeline does."""

    ids: np.ndarray
    """(n,) int32."""
    bytes: int
    document: np.ndarray
    """(n,) the document of each token, counted from 0."""


@dataclass(frozen=True)
class Deal:
    """A domain's documents dealt out, in tokens of the model."""

    train: np.ndarray
    """(n,) int32, the probe's ids."""
    held_out: Part
    total: int
    """Tokens of all the texts: counted, or where only a sample is kept, by its tokens a word."""
    bytes_per_token: float


@dataclass(frozen=True)
class ZeroShot:
    """The model as it is, on the held-out part."""

    nll: np.ndarray
    """(n - 1,) nats, of each held-out token but the first."""
    log: float
    """Mean: nats per token."""
    log_interval: Interval
    documents: int
    rate: float
    """Tokens scored a second."""


@dataclass(frozen=True)
class Probe:
    """What a short adaptation did to the held-out part."""

    tokens: int
    """Trained on."""
    steps: int
    seconds: float
    """Of training alone."""
    points: list[tuple[int, float]]
    """Tokens trained on, and the change of the held-out mean NLL since zero-shot, nats per token."""
    change: Change
    """At the end, with its interval by document."""
    table: TokenTable
    """The same by predicted token."""

    @property
    def rate(self) -> float:
        """Tokens trained on a second."""
        return self.tokens / max(self.seconds, 1e-9)


def deal(domain: Texts, tokenizer: PreTrainedTokenizerBase, context: int, seed: int) -> Deal:
    """Deal whole documents, in random order, to the probe and to the part that is held out: all others.

    The probe gets `SHARE` of the tokens, at most `MOST_TOKENS`, and more than its share where that
    is less than `FEWEST_STEPS` steps. Raises OdysseyError if the texts are too few, saying how many are needed.
    """
    order = generator(seed, "advise", "probe").permutation(len(domain.documents)).tolist()
    documents = [domain.documents[place] for place in order]
    whole = encode(tokenizer, documents)
    sizes = np.bincount(whole.document, minlength=len(documents))
    fewest = FEWEST_STEPS * BATCH_SIZE * context
    goal = max(round(min(SHARE * len(whole.ids), MOST_TOKENS)), fewest)
    ends = np.cumsum(sizes)
    first = int(np.searchsorted(ends, goal)) + 1  # documents of the probe
    last = int(np.searchsorted(ends, ends[min(first, len(ends)) - 1] + MOST_TOKENS)) + 1
    held = documents[first:last]
    if len(held) < FEWEST_DOCUMENTS or sizes[first:last].sum() < fewest:
        raise OdysseyError(
            f"{domain.name}: too few texts for an estimate: {len(documents)} documents, {len(whole.ids):,} tokens; "
            f"needed are {fewest:,} tokens to train a probe on, and as many in at least {FEWEST_DOCUMENTS} others "
            "(in a .txt file by itself, blank lines separate documents)"
        )
    scale = domain.words / domain.kept_words
    return Deal(
        # Of a long document that reaches beyond the probe's share, the rest is left out.
        encode(tokenizer, documents[:first]).ids[:goal],
        encode(tokenizer, held),
        round(len(whole.ids) * scale),
        whole.bytes / len(whole.ids),
    )


def encode(tokenizer: PreTrainedTokenizerBase, documents: Sequence[Sequence[str]]) -> Part:
    """Tokenise rows of documents, joined."""
    rows = [row for document in documents for row in document]
    ids, n_bytes, row_of = tokenization.encode_by_row(tokenizer, rows, SEPARATOR)
    owner = np.repeat(np.arange(len(documents)), [len(document) for document in documents])
    return Part(ids, n_bytes, owner[row_of])


def bytes_per_token(tokenizer: PreTrainedTokenizerBase, texts: Texts) -> float:
    """UTF-8 bytes of a token, in some of the rows."""
    some, words = [], 0
    for row in texts.rows:
        some.append(row)
        words += len(row.split())
        if words > SOURCE_WORDS:
            break
    ids, n_bytes = tokenization.encode(tokenizer, some, SEPARATOR)
    return n_bytes / len(ids)


def score(network: PreTrainedModel, held_out: Part, context: int, seed: int) -> ZeroShot:
    """Score the held-out part with the model as it is; the interval is by document."""
    start = time.perf_counter()
    nll = scoring.token_nll(network, held_out.ids, context, MICRO_TOKENS, label="zero-shot")
    seconds = time.perf_counter() - start
    # The log of perplexity is its change from a model that is never in doubt.
    change = _change(held_out, np.zeros_like(nll), nll, seed)
    return ZeroShot(nll, change.log, change.log_interval, change.n, len(nll) / max(seconds, 1e-9))


def recipe(network: PreTrainedModel, context: int, precision: Precision) -> Recipe:
    """The mini-study's adaptation, in a form that fits into memory."""
    micro = next(size for size in (8, 4, 2, 1) if size * context <= MICRO_TOKENS or size == 1)
    crowded = _is_crowded(network)
    engine = Engine(
        micro_batch_size=micro,
        zero_stage=2 if crowded else 0,
        offload_optimizer=crowded,
        offload_parameters=False,
        activation_checkpointing=crowded,
        checkpoint_minutes=60,  # a probe takes minutes, and is not kept
    )
    return Recipe(
        epochs=1,
        batch_size=BATCH_SIZE,
        schedule="constant",
        warmup=0.0,
        weight_decay=0.0,
        gradient_clipping=1.0,
        precision=precision,
        engine=engine,
    )


def _is_crowded(network: PreTrainedModel) -> bool:
    """Whether weights, gradients and AdamW's state, 16 bytes a parameter, leave a GPU too little for the rest."""
    import torch

    if not torch.cuda.is_available():
        return False
    return 16 * models.parameters(network) > 0.6 * torch.cuda.get_device_properties(0).total_memory


def run(
    network: PreTrainedModel,
    dealt: Deal,
    zero_shot: ZeroShot,
    how: Recipe,
    learning_rate: float,
    context: int,
    seed: int,
) -> Probe:
    """Adapt the model, in place, to the probe's part, and score the held-out part as that goes on."""
    from odyssey.training import n_steps, train

    data = blocks(dealt.train, context)
    steps = n_steps(len(data), how)
    clock = _Clock()
    points: list[tuple[int, float]] = []
    nll = zero_shot.nll

    def look(step: int) -> tuple[float, ...]:
        nonlocal nll
        clock.stop()
        nll = scoring.token_nll(network, dealt.held_out.ids, context, MICRO_TOKENS, label="probe, held-out")
        seen = min(step * how.batch_size * context, data.size)
        change = float((nll - zero_shot.nll).mean(dtype=np.float64))
        points.append((seen, change))
        clock.start()
        return (change,)

    at = np.linspace(0, steps, POINTS + 1).round().astype(int)[1:].tolist()
    clock.start()
    train(network, data, how, learning_rate, seed, label="probe", probe=look, probe_steps=at)
    if np.array_equal(nll, zero_shot.nll):
        raise OdysseyError(f"the probe changed nothing; is the learning rate of {learning_rate:g} too low?")
    change = _change(dealt.held_out, zero_shot.nll, nll, seed)
    table = token_table(dealt.held_out.ids[1:], zero_shot.nll, nll)
    return Probe(data.size, steps, clock.seconds, points, change, table)


class _Clock:
    """Seconds of training, without those of scoring in between."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def start(self) -> None:
        self._since = time.perf_counter()

    def stop(self) -> None:
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
        self._since = None


def _change(part: Part, before: np.ndarray, after: np.ndarray, seed: int) -> Change:
    owner = part.document[1:]
    tokens, start, end = (np.bincount(owner, weights) for weights in (None, before, after))
    rng = generator(seed, "advise", "interval")
    return paired_change(tokens, start, end, confidence=CONFIDENCE, resamples=RESAMPLES, rng=rng)
