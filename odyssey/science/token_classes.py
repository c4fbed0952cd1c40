"""What kind of token a token is, and which tokens are a domain's own."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

SPECIFIC_Z: Final = 3.0
"""A token is only a domain's own with a z-score above this. Ours: three standard deviations, the usual bar."""
SPECIFIC_RATIO: Final = 2.0
"""And with at least this many times the share that it has in the source corpus. Ours: among millions
of tokens hardly a difference is too small for a high z-score."""

NEWLINE: Final = "newline"
WHITE_SPACE: Final = "white space"
PUNCTUATION: Final = "punctuation"
DIGITS: Final = "digits"
FUNCTION_WORD: Final = "function word"
SPECIFIC: Final = "domain-specific"
REST: Final = "rest"

CLASSES: Final[Mapping[str, str]] = {
    NEWLINE: "newlines, alone or with other white space",
    WHITE_SPACE: "any other white space and nothing else",
    PUNCTUATION: "punctuation and symbols: no letter or digit",
    DIGITS: "digits, and the signs within numbers",
    FUNCTION_WORD: "an English article, pronoun, preposition, conjunction, determiner, particle, auxiliary or "
    "modal verb, where a word begins: after a space, with a capital, or 's and its like",
    SPECIFIC: f"at least {SPECIFIC_RATIO:g} times as frequent in the domain's training text as in the source corpus, "
    f"with a z-score above {SPECIFIC_Z:g}",
    REST: "everything else: other words, parts of words, parts of characters",
}
"""Each class and its rule in words; a token is of the first class whose rule fits."""

NUMBER_SIGNS: Final = frozenset(".,:/-_'")
"""What stands between digits, as in 1,000.5 or 10:30 or 2024-05."""

_WORDS_BY_KIND: Final = {
    "articles, determiners, quantifiers": """
        a an the this that these those such same all any another both each either enough every few fewer less least
        many more most much neither no other own several some""",
    "pronouns and possessives": """
        i me my mine myself you your yours yourself yourselves he him his himself she her hers herself it its itself
        we us our ours ourselves they them their theirs themselves one ones oneself none others there
        who whom whose which what whoever whomever whichever whatever
        someone somebody something anyone anybody anything everyone everybody everything nobody nothing""",
    "prepositions": """
        about above across after against along alongside among amongst around as at before behind below beneath beside
        besides between beyond by despite down during except for from in inside into like near of off on onto out
        outside over past per since through throughout till to toward towards under underneath until unto up upon
        versus via with within without""",
    "conjunctions, and the words that join clauses": """
        and or but nor yet so if unless because although though while whilst whereas whether than lest
        when where why how whenever wherever""",
    "auxiliary and modal verbs": """
        am is are was were be been being have has had having do does did doing done
        can cannot could may might must shall should will would ought""",
    "particles": "not",
    "what tokenizers cut off a word, as in it's, isn't, they're, we've, I'm, he'll, she'd": "'s 't 're 've 'm 'll 'd",
}
FUNCTION_WORDS: Final = frozenset(" ".join(_WORDS_BY_KIND.values()).split())
"""Closed-class words of English, in lower case. The list is ours."""


def keyness(
    domain_counts: NDArray[np.integer], source_counts: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much more a domain uses each token than the source corpus: log odds ratio and its z-score, both (V,).

    The counts are (V,), of the same tokens. Log odds ratio with an informative Dirichlet prior (Monroe,
    Colaresi and Quinn, 2008, "Fightin' Words", Political Analysis 16: eqs. 16, 20 and 22), natural log: with
    y a token's counts, n a corpus's tokens, a a token's prior count and a0 their sum,

        log odds ratio = ln[(y_d + a) / (n_d + a0 - y_d - a)] - ln[(y_s + a) / (n_s + a0 - y_s - a)]
        z = log odds ratio / sqrt(1 / (y_d + a) + 1 / (y_s + a))

    The prior is the two corpora's pooled counts, scaled to the size of the smaller one: a0 = min(n_d, n_s).
    That is ours. It draws the smaller corpus half way to the common shares and the larger one less; a token
    that one corpus lacks has a finite ratio, and a z-score that grows with its count in the other
    (with corpora of one size it is above 3 from a count of 20 on, if the token is rare). With exchanged
    corpora both only change their signs.

    Tokens that neither corpus has are at 0, 0, and so is the only token of two corpora that have but one.
    Raises ValueError if the arrays' shapes differ, a count is negative or a corpus has no token.
    """
    y_domain, y_source = np.asarray(domain_counts, np.float64), np.asarray(source_counts, np.float64)
    if y_domain.shape != y_source.shape or y_domain.ndim != 1:
        raise ValueError(f"counts of the same tokens are needed, not {y_domain.shape} and {y_source.shape}")
    n_domain, n_source = y_domain.sum(), y_source.sum()
    if min(y_domain.min(initial=0), y_source.min(initial=0)) < 0 or not n_domain or not n_source:
        raise ValueError("counts must not be negative, and each corpus needs at least one token")
    log_odds, z = np.zeros_like(y_domain), np.zeros_like(y_domain)
    pooled, n = y_domain + y_source, n_domain + n_source
    seen = (pooled > 0) & (pooled < n)
    weight = min(n_domain, n_source) / n
    prior, other_prior = weight * pooled[seen], weight * (n - pooled[seen])
    for sign, y, total in ((1, y_domain[seen], n_domain), (-1, y_source[seen], n_source)):
        # The other tokens' counts, from whole numbers: n + a0 - y - a would lose the last ones of a large n.
        log_odds[seen] += sign * np.log((y + prior) / (total - y + other_prior))
    variance = 1 / (y_domain[seen] + prior) + 1 / (y_source[seen] + prior)
    z[seen] = log_odds[seen] / np.sqrt(variance)
    return log_odds, z


def specific(domain_counts: NDArray[np.integer], source_counts: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which tokens (V,) are a domain's own: over-represented against the source corpus.

    Those with a z-score above SPECIFIC_Z and SPECIFIC_RATIO times the share, as counted and not as
    the prior shrinks it. Counts of the domain's training split, so that tokens are not chosen by
    the text that they are then measured on. Raises ValueError as `keyness` does.
    """
    _, z = keyness(domain_counts, source_counts)
    shares = domain_counts / domain_counts.sum(), source_counts / source_counts.sum()
    chosen: NDArray[np.bool_] = (z > SPECIFIC_Z) & (shares[0] >= SPECIFIC_RATIO * shares[1])
    return chosen


def classify(texts: Sequence[str], own: NDArray[np.bool_]) -> NDArray[np.str_]:
    """The class (n,) of each token, by its text and by whether it is the domain's own (n,).

    A token is judged by its text alone: " a" may also begin a word that the tokenizer cuts. Pieces of
    a character of several bytes, which decode to U+FFFD, are domain-specific or of the rest.
    Raises ValueError if the lengths differ.
    """
    names = [
        _class_of_text(text) or (SPECIFIC if domains_own else REST)
        for text, domains_own in zip(texts, own.tolist(), strict=True)
    ]
    return np.array(names, dtype=f"<U{max(map(len, CLASSES))}")


def _class_of_text(text: str) -> str | None:
    """The class that a text alone decides."""
    if not text.strip():
        return NEWLINE if "\n" in text else WHITE_SPACE
    # Not isalnum: the accents and vowel signs of some scripts are part of a word, but no letters.
    kinds = {"" if c.isspace() else "?" if c == "\ufffd" else unicodedata.category(c)[0] for c in text} - {""}
    if kinds <= {"P", "S"}:
        return PUNCTUATION
    if "N" in kinds and all(c.isspace() or c in NUMBER_SIGNS or unicodedata.category(c)[0] == "N" for c in text):
        return DIGITS
    begins_word = text[0].isspace() or text[0].isupper() or text[0] in "'’"
    return FUNCTION_WORD if begins_word and text.strip().lower().replace("’", "'") in FUNCTION_WORDS else None
