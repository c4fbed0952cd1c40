"""Ways of joining rows to a text, and what the joints have of a change of its likelihood."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

SEPARATORS: Mapping[str, str] = MappingProxyType({"newline": "\n", "space": " "})
"""Of the ways of joining that are the same with every tokenizer."""


@dataclass(frozen=True)
class Joined:
    """NLL of a text's tokens before and after adaptation, and of those among them that are joints: sums in nats.

    A joint is a token that joins two rows and does nothing else; the rest are the rows' own.
    """

    tokens: int
    nll_before: float
    nll_after: float
    joint_tokens: int
    joint_nll_before: float
    joint_nll_after: float

    @property
    def change(self) -> float:
        """Of the mean NLL over all tokens, nats a token: `joint_contribution` and the rest's, by its share, added."""
        return (self.nll_after - self.nll_before) / self.tokens

    @property
    def joint_contribution(self) -> float:
        """The joints' part of `change`: the change of their sum, over all tokens."""
        return (self.joint_nll_after - self.joint_nll_before) / self.tokens

    @property
    def change_rest(self) -> float:
        """Change of the mean NLL over the tokens that are no joints, nats a token."""
        before, after = self.rest
        return (after - before) / (self.tokens - self.joint_tokens)

    @property
    def rest(self) -> tuple[float, float]:
        """NLL of the tokens that are no joints, before and after."""
        return self.nll_before - self.joint_nll_before, self.nll_after - self.joint_nll_after

    @property
    def perplexity(self) -> tuple[float, float]:
        """exp(nll / tokens), before and after: of one way of joining, as another one has other tokens."""
        return math.exp(self.nll_before / self.tokens), math.exp(self.nll_after / self.tokens)

    def bits_per_byte(self, row_bytes: int) -> tuple[float, float]:
        """NLL of the rows' own tokens / (ln 2 * UTF-8 bytes of the rows without separators), before and after.

        Comparable between ways of joining, but for this: where a separator is no token of its own, as
        a space is none, that a row ends is predicted by the next one's first token, and counts here.
        """
        before, after = (nll / (math.log(2) * row_bytes) for nll in self.rest)
        return before, after


def joint_tokens(ids: np.ndarray, row_of: np.ndarray, joint: int | None) -> np.ndarray:
    """Which tokens are joints, bool (n,): those with id `joint` that are a row's first, but for the text's first row.

    `ids` and `row_of` are (n,), a separator being of the row that it precedes. With None none are.
    """
    begins = np.diff(row_of, prepend=row_of[:1]) > 0
    return begins & (ids == joint) if joint is not None else np.zeros(len(ids), dtype=bool)


def by_group(
    group: np.ndarray, n_groups: int, before: np.ndarray, after: np.ndarray, joint: np.ndarray
) -> list[Joined]:
    """Sums, in float64, of each of the groups 0 to n_groups - 1 that tokens are in; all arrays are (n,)."""

    def sums(weights: np.ndarray) -> list[float]:
        found: list[float] = np.bincount(group, weights=weights.astype(np.float64), minlength=n_groups).tolist()
        return found

    columns = [sums(np.ones(len(group))), sums(before), sums(after), sums(joint), sums(before * joint)]
    return [
        Joined(int(tokens), nll_before, nll_after, int(joints), joint_before, joint_after)
        for tokens, nll_before, nll_after, joints, joint_before, joint_after in zip(
            *columns, sums(after * joint), strict=True
        )
    ]


def total(parts: list[Joined]) -> Joined:
    """The sums of several parts' sums."""
    return Joined(
        sum(part.tokens for part in parts),
        math.fsum(part.nll_before for part in parts),
        math.fsum(part.nll_after for part in parts),
        sum(part.joint_tokens for part in parts),
        math.fsum(part.joint_nll_before for part in parts),
        math.fsum(part.joint_nll_after for part in parts),
    )
