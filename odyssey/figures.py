"""The paper's Figures 1 to 6: frames in, matplotlib figures out.

Colours are Okabe and Ito's, told apart with any colour vision, and shapes repeat what they
say. Equal input gives equal bytes: no dates, no random ids, no user's matplotlibrc.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib import font_manager, ft2font
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from odyssey.domain_axis import NAMED, bar_width, cut, domain_axes, middle

P = ParamSpec("P")
R = TypeVar("R")

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#555555"
SYMLOG_FROM = 10.0
"""Figure 1's axis is linear up to a change of this size, and symlog if any domain's is larger."""

FONT = "DejaVu Sans"  # comes with matplotlib
STYLE = {
    "font.family": FONT,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "svg.hashsalt": "odyssey",
    # Token texts and names hold dollars and underscores; none of them is mathematics.
    "text.parse_math": False,
}


def _styled(function: Callable[P, R]) -> Callable[P, R]:
    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.style.context(STYLE, after_reset=True):
            return function(*args, **kwargs)

    return run


@_styled
def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `name`.png and `name`.svg without anything that differs from run to run."""
    figure.savefig(folder / f"{name}.png", metadata={"Software": None})
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})


@_styled
def perplexity_change(table: pd.DataFrame, model: str, portions: Sequence[str]) -> Figure:
    """Figure 1: zero-shot minus adapted perplexity of a model's domains, with MMD and FD rescaled.

    `table` has id, domain, portion, change (adapted minus zero-shot), mmd and fd, in the order of the
    axis. MMD and FD each run from 0 (their smallest value) to 1 (their largest) on the right axis.
    `portions` are all of the study's: each keeps its shade in every figure.
    """
    gain = -table["change"].to_numpy(dtype=float)
    figure, (axes,) = domain_axes(table, portions, rows=1, panel=2.9)
    x = range(1, len(table) + 1)
    named, width = len(table) <= NAMED, bar_width(len(table))
    bars = axes.bar(x, gain, width=width, color=BLUE, label="perplexity change (left axis)")
    scale = "linear scale"
    if abs(gain).max() > SYMLOG_FROM:
        axes.set_yscale("symlog", linthresh=1, linscale=0.7)
        scale = "symlog scale: linear from −1 to 1"
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}".replace("-", "−") if value else "0"))
    axes.margins(y=0.12)
    axes.grid(axis="y", color="#CCCCCC", linewidth=0.6)
    axes.axhline(0, color="black", linestyle="--", linewidth=1.2)
    axes.set_ylabel(f"zero-shot − adapted perplexity\n({scale})")
    right = axes.twinx()
    right.spines["right"].set_visible(True)
    right.set_ylim(-0.1, 1.1)
    right.set_yticks([0, 0.5, 1], ["nearest", "", "farthest"])
    right.set_ylabel("MMD and FD, each rescaled")
    # Beside each other, so that neither hides the other.
    points = [
        right.plot(
            [place + shift * width for place in x],
            _unit(table[column]),
            marker,
            color=colour,
            markeredgecolor="white",
            markeredgewidth=1.0 if named else 0.3,
            markersize=7 if named else 3,
            label=f"{column.upper()} (right axis)",
        )[0]
        for column, marker, colour, shift in (("mmd", "D", ORANGE, -0.33), ("fd", "o", GREEN, 0.33))
    ]
    _title(figure, f"Perplexity change after adaptation: {model}", "Above the dashed line: improved. Below: got worse.")
    figure.legend(handles=[bars, *points], loc="outside lower center", ncols=3)
    return figure


@_styled
def similarity(table: pd.DataFrame, source: str, portions: Sequence[str], ids: str = "id of the domain") -> Figure:
    """Figures 2, 5 and 6: MMD and FD of every domain to the source corpus, each on its own axis from zero.

    `table` has id, domain, portion, mmd and fd, in the order of the axis; `source` names the corpus,
    and `ids` says what the ids are.
    """
    figure, panels = domain_axes(table, portions, rows=2, panel=1.75, ids=ids)
    edge = 0.5 if len(table) <= NAMED else 0
    for axes, column, colour in zip(panels, ("mmd", "fd"), (ORANGE, GREEN), strict=True):
        axes.bar(
            range(1, len(table) + 1), table[column], bar_width(len(table)), color=colour, edgecolor=GREY, linewidth=edge
        )
        axes.set_ylim(0, 1.2 * table[column].max() or 1)
        axes.set_ylabel(f"{column.upper()} to the source\n(squared distance)")
    _title(figure, f"Distance of every domain to {source}", "Lower: more like what the models have read.")
    return figure


@_styled
def curves(curves: Mapping[str, pd.DataFrame], portion_of: Mapping[str, str], model: str) -> Figure:
    """Figure 3: perplexity over the epoch on the start of train, on valid and on test.

    `curves[domain]` has fraction (of the training) and train_start, valid and test in nats per token.
    """
    columns = 2
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(7.6, 0.9 + 2.35 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    styles = {
        "train_start": ("first rows of train", BLUE, "o", "-"),
        "valid": ("valid", GREEN, "s", "--"),
        "test": ("test", RED, "D", "-."),
    }
    for axes, (domain, curve) in zip(panels, curves.items(), strict=False):
        for column, (label, colour, marker, line) in styles.items():
            axes.plot(
                curve["fraction"],
                np.exp(curve[column]),
                color=colour,
                marker=marker,
                markersize=4,
                linestyle=line,
                label=label,
            )
        axes.set_title(f"{middle(domain, 40)} ({portion_of[domain]})", fontsize=9)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    for place, axes in enumerate(panels[: len(curves)]):
        if place % columns == 0:
            axes.set_ylabel("perplexity")
        if place + columns >= len(curves):
            axes.set_xlabel("share of the adaptation done")
    _title(figure, f"Perplexity during adaptation: {model}", "Each panel has its own scale, not starting at zero.")
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


@_styled
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
    _title(figure, f"Tokens that changed most: {model} on {middle(domain, 44)}", "Token (how often it was predicted).")
    return figure


def visible(token: str, longest: int = 22) -> str:
    """A token's text as a figure can show it: spaces as ␣, glyphs that the font lacks as \\u escapes."""
    shown = "".join("␣" if char == " " else char if ord(char) in _glyphs() else _escape(char) for char in token)
    return cut(shown, longest) or "(empty)"


def _title(figure: Figure, title: str, reading: str) -> None:
    figure.suptitle(f"{title}\n{reading}", fontsize=10)


def _unit(values: pd.Series) -> pd.Series:
    """Rescaled to run from 0 to 1; all 0.5 if there is nothing to tell apart."""
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread else values * 0 + 0.5


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(ft2font.FT2Font(font_manager.findfont(FONT)).get_charmap())


def _escape(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
