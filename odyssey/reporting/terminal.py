"""The headline table for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from odyssey.reporting.words import number, percent


def plain(headline: pd.DataFrame, portions: pd.DataFrame, confidence: float, width: int = 100) -> str:
    """Each model's domains, portion by portion, and what each portion comes to.

    In at most `width` columns: long names are cut.
    """
    columns = ["zero-shot", "adapted", "change", f"{percent(confidence)} interval", "ratio", "MMD", "FD"]
    values = {index: _values(row) for index, row in zip(headline.index, headline.itertuples(), strict=True)}
    widths = [max(len(name), *(len(line[i]) for line in values.values())) for i, name in enumerate(columns)]
    first = min(max(map(len, [*headline["domain"], *headline["portion"]])), width - sum(widths) - 2 * len(widths) - 2)

    def line(name: str, figures: Sequence[str]) -> str:
        shown = "".join(f"  {value:>{size}}" for value, size in zip(figures, widths, strict=True))
        return f"  {_middle(name, first):<{first}}{shown}"

    lines: list[str] = []
    for model, of_model in portions.groupby("model", sort=False):
        lines.append(_cut(f"model {model}: test perplexity; a change above 0: got worse", width))
        for row in of_model.itertuples():
            own = headline[(headline["model"] == model) & (headline["portion"] == row.portion)]
            lines.append(line(row.portion, columns))
            lines += [line(own["domain"][index], values[index]) for index in own.index]
        lines += [_cut(f"  {_summary(row)}", width) for row in of_model.itertuples()] + [""]
    return "\n".join(lines)


def _summary(row: Any) -> str:
    counts = f"{row.worse} of {row.domains} got worse, {row.better} better, {row.within_noise} within noise"
    return f"{row.portion}: {counts}, median ratio x{row.median_ratio:.3f}"


def _values(row: Any) -> list[str]:
    """A row's figures to read."""
    ends = [number(row.change_low, "+"), number(row.change_high, "+")]
    interval = "-" if math.isnan(row.change_low) else f"[{', '.join(ends)}]"
    perplexities = [number(row.zero_shot), number(row.adapted), number(row.change, "+"), interval]
    return [*perplexities, f"x{row.ratio:.3f}", f"{row.mmd:.4f}", f"{row.fd:.4f}"]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def _middle(name: str, width: int) -> str:
    """A name cut in its middle: M2D2's begin with their field and end with what tells them apart."""
    tail = 3 * (width - 3) // 5
    return name if len(name) <= width else f"{name[: width - 3 - tail]}...{name[-tail:]}"
