"""Figures of tokens, the paper's Figure 4 and our Figure 7: frames in, matplotlib figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd
from matplotlib import font_manager, ft2font
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from odyssey.reporting.domain_axis import cut, middle
from odyssey.reporting.figure_style import BLUE, FONT, GREY, RED, styled, title


@styled
def tokens(table: pd.DataFrame, model: str, domain: str) -> Figure:
    """Figure 4: the tokens that change a domain's mean NLL most, upwards and downwards, train and test.

    `table` has split, direction, rank, token, count and contribution (nats per token of the split).
    """
    splits = ["train", "test"]
    longest = max(table.groupby("split").size(), default=1)
    figure = Figure(figsize=(7.6, 1.5 + 0.2 * longest), layout="constrained")
    panels = figure.subplots(1, 2, squeeze=False, sharex=True).ravel()
    for axes, split in zip(panels, splits, strict=True):
        own = table[table["split"] == split].sort_values("contribution", ascending=False)
        y = range(len(own))
        for direction, colour, hatch in (("up", RED, "//"), ("down", BLUE, "")):
            width = own["contribution"].where(own["direction"] == direction, 0)
            axes.barh(y, width, color=colour, hatch=hatch, edgecolor="white", linewidth=0)
        labels = [
            f"{visible(row.token)}  ({row.count_}×)" for row in own.rename(columns={"count": "count_"}).itertuples()
        ]
        axes.set_yticks(y, labels, fontsize=8)
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.axvline(0, color="black", linestyle="--", linewidth=1)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_title(split)
    figure.supxlabel("contribution to the change in mean NLL, in nats per token (right: got worse)", fontsize=9)
    title(figure, f"Tokens that changed most: {model} on {middle(domain, 44)}", "Token (how often it was predicted).")
    return figure


@styled
def concentration(
    curves: Mapping[str, pd.DataFrame], median: pd.DataFrame, shares: Sequence[float], model: str
) -> Figure:
    """Figure 7: the share of the gross rise that so many token ids have, largest contribution first.

    `curves[domain]` and `median`, over the domains, have tokens and share; `shares` are the lines to read off.
    """
    figure = Figure(figsize=(7.6, 3.9), layout="constrained")
    axes = figure.subplots()
    several = len(curves) > 1
    for place, (domain, curve) in enumerate(curves.items()):
        label = None if place else "one domain" if several else middle(domain, 44)
        style: dict[str, Any] = (
            {"color": GREY, "linewidth": 0.8, "alpha": 0.5} if several else {"color": RED, "linewidth": 2}
        )
        axes.plot(curve["tokens"], curve["share"], marker=".", markersize=3, label=label, **style)
    if several:
        label = f"median of the {len(curves)} domains"
        axes.plot(median["tokens"], median["share"], color=RED, linewidth=2.4, label=label)
    for share in shares:
        axes.axhline(share, color="black", linestyle="--", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlim(0.9, 1.1 * max(curve["tokens"].max() for curve in curves.values()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(0, 1.03)
    axes.set_yticks([0, *shares, 1])
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_xlabel("token ids, those first that raise the mean NLL most (logarithmic)")
    axes.set_ylabel("share of the gross rise")
    title(figure, f"How many tokens carry the rise: {model}", "The farther left a curve climbs, the fewer they are.")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def visible(token: str, longest: int = 22) -> str:
    """A token's text as a figure can show it: spaces as ␣, glyphs that the font lacks as \\u escapes."""
    shown = "".join("␣" if char == " " else char if ord(char) in _glyphs() else _escape(char) for char in token)
    return cut(shown, longest) or "(empty)"


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(ft2font.FT2Font(font_manager.findfont(FONT)).get_charmap())


def _escape(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
