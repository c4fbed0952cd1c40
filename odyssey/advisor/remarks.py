"""What is odd about the texts, and what it does to the answer."""

from __future__ import annotations

from collections.abc import Iterator

from odyssey.advisor.advice import Advice
from odyssey.advisor.similarity import NGRAM_WORDS

MUCH_OVERLAP = 0.2
"""Share of n-grams in the source texts: from there on, the report on Llama 2 (appendix A.6) calls a text not clean."""
MUCH_COPIED = 0.05
"""Share of documents in the source texts. Ours, as all that follow."""
LENGTHS = 1.5
"""Factor between the words of both sides' rows."""
MUCH_TRUNCATED = 0.1
"""Share of rows longer than the encoder reads."""
SHATTERED = 0.5
"""Share of the source texts' bytes a token."""
FEW_DOCUMENTS = 30
"""Held out: above, intervals by document hold what they promise (see `science.stats`)."""


def warnings(advice: Advice) -> list[str]:
    """Sentences for the user, most serious first."""
    return [
        *_contamination(advice),
        *_shattered(advice),
        *_lengths(advice),
        *_few(advice),
    ]


def _contamination(advice: Advice) -> Iterator[str]:
    found = advice.similarity
    if found.ngrams > MUCH_OVERLAP or found.contained_share > MUCH_COPIED:
        bound = "at least " if found.lower_bound else ""
        yield (
            f"contamination: {bound}{found.ngrams:.0%} of the domain's {NGRAM_WORDS}-grams and {found.contained} of "
            "its documents are in the source texts: the model has read them, and looks better than it is"
        )


def _shattered(advice: Advice) -> Iterator[str]:
    own, other = advice.dealt.bytes_per_token, advice.source_bytes_per_token
    if own < SHATTERED * other:
        yield (
            f"the tokenizer shatters these texts: {own:.2f} bytes a token, the source's have {other:.2f}. "
            "Perplexity per token means little then, and adapting costs more; consider another model"
        )


def _lengths(advice: Advice) -> Iterator[str]:
    found = advice.similarity
    longer, shorter = max(found.words_domain, found.words_source), min(found.words_domain, found.words_source)
    if longer > LENGTHS * shorter:
        yield (
            f"rows differ in length: {found.words_domain:.0f} words in the domain, {found.words_source:.0f} in the "
            "source: part of the distance is length"
        )
    if max(found.truncated_domain, found.truncated_source) > MUCH_TRUNCATED:
        yield (
            f"the encoder reads the beginning only of {found.truncated_domain:.0%} of the domain's rows and "
            f"{found.truncated_source:.0%} of the source's: similarity is that of beginnings"
        )


def _few(advice: Advice) -> Iterator[str]:
    if advice.zero_shot.documents < FEW_DOCUMENTS:
        yield f"only {advice.zero_shot.documents} documents are held out: intervals are rough"
