"""What was done to tokens, claims and joined rows, in words made from the settings."""

from __future__ import annotations

from odyssey.claims import CHANCE, HANDFUL
from odyssey.estimates import FEW
from odyssey.reporting.words import listed, percent
from odyssey.science.attribution import SHARES
from odyssey.science.token_classes import SPECIFIC_RATIO, SPECIFIC_Z
from odyssey.sections import Join
from odyssey.settings import Settings


def tokens(settings: Settings) -> str:
    """Stage `tokens`."""
    rule = settings.tokens
    return (
        f"At most {rule.chunks} chunks of {rule.chunk_tokens} tokens from train and from test, fewer where a domain "
        "is smaller, in windows of the model's context; NLL before and after, by the predicted token. A token is of "
        "a class by its text; of those that no text decides, domain-specific are the ones at least "
        f"{SPECIFIC_RATIO:g} times as frequent in the domain's train split as in up to {rule.source_texts:,} texts of "
        f"the source corpus, with a z-score above {SPECIFIC_Z:g} (log odds ratio with a Dirichlet prior, Monroe et "
        "al. 2008)."
    )


def claims(settings: Settings, units: str) -> str:
    """Stage `claims`; `units` are what is drawn again of a test text."""
    rule = settings.claims
    sentences = [
        f"A change's {percent(rule.confidence)} interval: the domain's {units}, each with both of its scores, are "
        f"drawn again with replacement, {rule.resamples:,} times, and percentiles of the changes taken, moved outward "
        "where there are few (Hesterberg 2015).",
        f"Means and correlations over domains: the domains are drawn again, but a mean of fewer than {FEW} has "
        f"Student's interval and p; else p is two-sided, from {rule.resamples:,} random signs (means) or permutations "
        "(correlations). Rank correlations' percentiles are not moved.",
        "A claim holds if the interval of its statistic lies on the claimed side, does not hold if it lies on the "
        "other, and is not testable here if it reaches over both or there is nothing to test it on. A correlation "
        f"needs p below {1 - rule.confidence:.2g} besides.",
        "Near and far are the portions of lowest and highest median FD. Claim 1 says always: it does not hold either "
        f"if a far domain clearly got worse (p < {CHANCE:g} after Bonferroni's correction for the number of domains). "
        "Claims 1 and 2 do not hold if the mean goes neither way and domains clearly go both.",
        "Claims 5, 6a and 6c are of the domains that got worse beyond noise. The test curve ends at the scores that "
        "these were chosen by, so 5c cannot fail, and has no verdict. 6a counts the fewest token ids whose "
        f"contributions make half of the change; that up to {HANDFUL} are a handful is ours.",
        "The best point of a curve is that of the lowest loss on valid. The stopping rule is asked at single points "
        "of the curves; worse and better are there, unlike elsewhere, those of point values.",
    ]
    return "\n".join(sentences)


def joins(ways: list[Join]) -> str:
    """Stage `joins`."""
    return (
        f"Rows joined by {listed(name.replace('_', ' ') for name in ways)}, each way in training with each in the "
        "test, with the recipe of adapt. A joint is a token that joins two rows and does nothing else; the change of "
        "all tokens is the joints' part and, by their share, the change of the rest. Bits per byte are of the rows' "
        "own tokens and bytes."
    )


def fixed() -> list[tuple[str, str, str]]:
    """What no study's file sets because it is part of how results are read, like `parameters`: all of it is ours."""
    values = {
        "a handful of tokens (claim 6a): at most": f"{HANDFUL}",
        "a mean over domains has Student’s interval: of fewer than": f"{FEW}",
        "domains that go the other way (claims 1 and 2) are no chance: p below": f"{CHANCE:g}",
        "a domain-specific token, against the source corpus: times as frequent": f"{SPECIFIC_RATIO:g}",
        "a domain-specific token: z-score above": f"{SPECIFIC_Z:g}",
        "shares of the gross rise that are counted": listed(map(percent, SHARES)),
    }
    return [(name, value, "ours") for name, value in values.items()]
