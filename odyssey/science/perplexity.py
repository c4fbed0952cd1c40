"""Perplexity from sums and counts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Score:
    """What a model's score on a text comes down to; ratios are derived late.

    `nll_sum` is the sum of the tokens' negative log-likelihoods in nats (natural log),
    `tokens` how many tokens it sums over (all but the text's first), `bytes` the UTF-8
    length of the whole text.
    """

    nll_sum: float
    tokens: int
    bytes: int

    @classmethod
    def of(cls, nll: np.ndarray, n_bytes: int) -> Score:
        """From per-token NLL (n,), summed in float64."""
        return cls(float(nll.sum(dtype=np.float64)), len(nll), n_bytes)

    @property
    def mean_nll(self) -> float:
        """Nats per token."""
        return self.nll_sum / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(nll_sum / tokens): per token, so comparable for one tokenizer only."""
        return math.exp(self.mean_nll)

    @property
    def bits_per_byte(self) -> float:
        """nll_sum / (ln 2 * bytes): comparable between tokenizers."""
        return self.nll_sum / (math.log(2) * self.bytes)

    def as_dict(self) -> dict[str, Any]:
        """Sums and counts, for a result file."""
        return asdict(self)
