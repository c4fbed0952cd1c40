"""Advice on one terminal screen."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from odyssey.advisor import forecast as forecasts
from odyssey.advisor.advice import Advice
from odyssey.advisor.probe import CONFIDENCE
from odyssey.advisor.record import cost, short
from odyssey.advisor.remarks import warnings
from odyssey.advisor.similarity import NGRAM_WORDS
from odyssey.planning.amounts import duration

WIDTH = 80
"""Columns."""
INDENT = 16
"""Columns before the text of a line."""
TOKENS = 5
"""Tokens shown of either kind."""
REASONS = {
    "adapt": "the model should get better at these texts",
    "do not adapt": "the model should get worse at these texts",
    "unclear": "the model may get better at these texts, or worse",
}
UNBROKEN = "\0"
"""Stands for a space at which no line is broken; no token that is shown has it."""
OUTSIDE = 3
"""Reasons shown why a case is not calibrated."""
FEWEST = 3
"""Times that a token that is shown stands in the held-out part."""


def render(advice: Advice) -> str:
    """At most 80 columns; 24 lines, and two for each thing that is odd."""
    asked = advice.request
    lines = [
        f"Should {short(asked.model)} be adapted to {short(str(asked.domain))}?",
        "",
        *_answer(advice),
        "",
        *_evidence(advice),
        *_tokens(advice.tokens),
        *_cost(advice),
    ]
    for remark in warnings(advice):
        lines += _wrap("Mind", remark)
    return "\n".join(lines)


def _answer(advice: Advice) -> Iterator[str]:
    found = advice.forecast
    yield f"{found.verdict.upper()}: {REASONS[found.verdict]}"
    if found.p_worse is not None:
        low, high = found.interval
        yield from _wrap(
            "Expected",
            f"{_signed(found.change)} nats per token (perplexity x{math.exp(found.change):.2f}) after one epoch over "
            f"all the texts at {advice.learning_rate:g}; {CONFIDENCE:.0%} interval {_signed(low)} to {_signed(high)}, "
            f"probability of worse {found.p_worse:.2f}",
        )
        yield from _wrap("From", f"{found.basis}, calibrated on {_calibrated_on()}")
        return
    some, more = found.outside[:OUTSIDE], len(found.outside) - OUTSIDE
    in_what = "; ".join([*some, *([f"{more} more"] if more > 0 else [])])
    yield from _wrap("Not calibrated", f"this is unlike the {_calibrated_on()}: {in_what}")
    if advice.probe:
        low, high = found.interval
        yield from _wrap(
            "Expected",
            f"unknown for all the texts. After the probe's {advice.probe.tokens / advice.dealt.total:.0%} of them: "
            f"{_signed(found.change)} nats per token (perplexity x{math.exp(found.change):.2f}), {CONFIDENCE:.0%} "
            f"interval {_signed(low)} to {_signed(high)}, by document",
        )


def _evidence(advice: Advice) -> Iterator[str]:
    found, zero_shot, probe = advice.similarity, advice.zero_shot, advice.probe
    yield from _wrap(
        "Similarity",
        f"FD {found.fd:.3f}, {found.fd_ratio:.2f} times the source's to itself ({found.fd_within:.3f} +- "
        f"{found.fd_within_sd:.3f}); MMD {found.mmd:.3f}; {found.n} rows each",
    )
    bound = " (at least: source is a sample)" if found.lower_bound else ""
    yield from _wrap(
        "In the source",
        f"{found.ngrams:.1%} of {NGRAM_WORDS}-grams, {found.contained} of {len(advice.domain.documents)} documents by "
        f"half or more{bound}",
    )
    low, high = (math.exp(end) for end in zero_shot.log_interval)
    yield from _wrap(
        "Zero-shot",
        f"perplexity {math.exp(zero_shot.log):.1f} ({low:.1f} to {high:.1f}), {zero_shot.documents} held-out documents",
    )
    if probe is not None:
        curve = " ".join(_signed(change) for _, change in probe.points)
        yield from _wrap(
            "Probe",
            f"{probe.tokens:,} of {advice.dealt.total:,} tokens, {probe.steps} steps; held-out change on the way: "
            f"{curve}; at the end {_signed(probe.change.log_interval.low)} to "
            f"{_signed(probe.change.log_interval.high)} ({CONFIDENCE:.0%})",
        )
    if (like := advice.forecast.precedents) is not None:
        yield from _wrap("", f"({like.so_far}: so were {like.total} of the mini-study's; {like.worse} ended worse)")
    yield from _wrap(
        "Texts",
        f"{advice.domain.found:,} documents, {advice.domain.words:,} words, {advice.dealt.bytes_per_token:.2f} bytes a "
        f"token (source {advice.source_bytes_per_token:.2f})",
    )


def _tokens(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What would gain and lose most, by contribution to the mean change."""
    if not rows:
        return
    known = [row for row in rows if row["count"] >= FEWEST]
    better = [row for row in reversed(known) if row["contribution"] < 0][:TOKENS]
    worse = [row for row in known if row["contribution"] > 0][:TOKENS]
    for label, some in (("Would gain", better), ("Would lose", worse)):
        # A token may begin with a space: lines are broken between tokens only.
        shown = [f"'{row['token']}' {row['contribution']:+.4f}".replace(" ", UNBROKEN) for row in some] or ["none"]
        yield from (line.replace(UNBROKEN, " ") for line in _wrap(label, "  ".join(shown)))


def _cost(advice: Advice) -> Iterator[str]:
    takes = cost(advice)
    how = "at the probe's speed" if takes["measured"] else "from the speed of scoring"
    yield from _wrap(
        "To be sure",
        f"adapt and score: {takes['tokens']:,} tokens, {takes['steps']:,} steps, "
        f"{duration(takes['seconds'] / 3600)} here ({how}); `studies/mine.yaml` is an example",
    )


def _calibrated_on() -> str:
    cells = forecasts.calibration()
    sizes = sorted({cell["parameters"] for cell in cells})
    tokens = [cell["tokens"] for cell in cells]
    return (
        f"{len(cells)} adaptations of the mini-study ({sizes[0] / 1e6:.1f} and {sizes[-1] / 1e6:.1f} M parameters, "
        f"{min(tokens) / 1e3:.0f} to {max(tokens) / 1e3:.0f} thousand tokens)"
    )


def _wrap(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        f"{label:<{INDENT}}{text}", WIDTH, subsequent_indent=" " * INDENT, break_on_hyphens=False, drop_whitespace=True
    )


def _signed(nats: float) -> str:
    return f"{nats:+.3f}"
