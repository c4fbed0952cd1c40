"""The paper's Figures 1, 2, 3, 5 and 6, and our Figure 8: frames in, matplotlib figures out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, PercentFormatter

from odyssey.claims import SAME
from odyssey.reporting.domain_axis import NAMED, bar_width, cut, domain_axes, middle
from odyssey.reporting.figure_style import BLUE, GREEN, GREY, ORANGE, PALE, PURPLE, RED, styled, title
from odyssey.reporting.words import percent

MARKS = {"o": BLUE, "s": ORANGE, "^": GREEN, "D": PURPLE, "v": GREY}
"""Shape and colour of a study's portions, in their order."""
NAMED_WORST = 3
"""Domains that Figure 8 names, at most."""
RATIOS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100]
"""Round ratios of perplexities to read off an axis."""
SYMLOG_FROM = 10.0
"""Figure 1's axis is linear up to a change of this size, and symlog if any domain's is larger."""


@styled
def perplexity_change(table: pd.DataFrame, model: str, portions: Sequence[str], confidence: float) -> Figure:
    """Figure 1: zero-shot minus adapted perplexity of a model's domains, with MMD and FD rescaled.

    `table` has id, domain, portion, change (adapted minus zero-shot) with its interval, outcome, mmd and
    fd, in the order of the axis. MMD and FD each run from 0 (their smallest value) to 1 (their largest) on
    the right axis. `portions` are all of the study's: each keeps its shade in every figure.
    """
    figure, (axes,) = domain_axes(table, portions, rows=1, panel=2.9)
    scale = "linear scale"
    if table["change"].abs().max() > SYMLOG_FROM:
        axes.set_yscale("symlog", linthresh=1, linscale=0.7)
        scale = "symlog scale: linear from −1 to 1"
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}".replace("-", "−") if value else "0"))
    axes.margins(y=0.12)
    axes.grid(axis="y", color="#CCCCCC", linewidth=0.6)
    axes.axhline(0, color="black", linestyle="--", linewidth=1.2)
    axes.set_ylabel(f"zero-shot − adapted perplexity\n({scale})")
    handles = [*_gains(axes, table, confidence), *_distances(axes.twinx(), table)]
    title(figure, f"Perplexity change after adaptation: {model}", "Above the dashed line: improved. Below: got worse.")
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _gains(axes: Axes, table: pd.DataFrame, confidence: float) -> list[Any]:
    """A bar and its interval for each domain; those within noise are pale and hatched. Returns what a legend shows."""
    n, x = len(table), range(1, len(table) + 1)
    # A gain is a fall of perplexity, and its upper end that of the largest fall.
    gain, low, high = (-table[column].to_numpy(dtype=float) for column in ("change", "change_high", "change_low"))
    axes.bar(x, gain, width=bar_width(n), color=BLUE)
    pale: dict[str, Any] = {
        "facecolor": PALE,
        "edgecolor": BLUE,
        "hatch": "////",
        "linewidth": 0.8 if n <= NAMED else 0.3,
    }
    within = table["outcome"].eq(SAME).tolist()
    for bar, noise in zip(axes.patches[-n:], within, strict=True):
        if noise:
            bar.set(**pale)
    middles, halves = (low + high) / 2, (high - low) / 2
    line, cap = (1.3, 3) if n <= NAMED else (0.5, 0)
    interval = axes.errorbar(x, middles, yerr=halves, fmt="none", ecolor="black", elinewidth=line, capsize=cap)
    interval.set_label(f"{percent(confidence)} interval")
    bars = [Patch(color=BLUE, label="perplexity change (left axis)")]
    bars += [Patch(**pale, label="change within noise")] * any(within)
    return [*bars, interval] if table["change_low"].notna().any() else [*bars]


def _distances(right: Axes, table: pd.DataFrame) -> list[Any]:
    """MMD and FD of each domain, each rescaled, on the right axis; beside each other, so that none is hidden."""
    right.spines["right"].set_visible(True)
    right.set_ylim(-0.1, 1.1)
    right.set_yticks([0, 0.5, 1], ["nearest", "", "farthest"])
    right.set_ylabel("MMD and FD, each rescaled")
    named, width = len(table) <= NAMED, bar_width(len(table))
    return [
        right.plot(
            [place + shift * width for place in range(1, len(table) + 1)],
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


@styled
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
    title(figure, f"Distance of every domain to {source}", "Lower: more like what the models have read.")
    return figure


@styled
def change_by_distance(table: pd.DataFrame, model: str, portions: Sequence[str], confidence: float) -> Figure:
    """Figure 8: what adaptation did to each domain's perplexity, by its MMD and by its FD to the source corpus.

    `table` has domain, portion, outcome, mmd, fd, log_change (nats per token) and its interval,
    log_change_low and log_change_high. `portions` are all of the study's.
    """
    figure = Figure(figsize=(7.6, 4.1), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True, squeeze=False).ravel()
    for axes, column in zip(panels, ("mmd", "fd"), strict=True):
        axes.axhline(0, color="black", linestyle="--", linewidth=1.2)
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        ends = table[["log_change_low", "log_change_high"]].to_numpy(dtype=float)
        axes.vlines(table[column], ends[:, 0], ends[:, 1], color=GREY, linewidth=0.8, alpha=0.7)
        for portion in dict.fromkeys(table["portion"]):
            _points(axes, table[table["portion"] == portion], column, portion, portions.index(portion))
        _name_worst(axes, table, column)
        axes.set_xlabel(f"{column.upper()} to the source corpus")
    _ratio_axis(panels[0])
    panels[0].set_ylabel("adapted / zero-shot perplexity\n(logarithmic scale)")
    intervals = f" Lines: {percent(confidence)} intervals." if table["log_change_low"].notna().any() else ""
    title(figure, f"Perplexity change by distance: {model}", f"Above the dashed line: got worse.{intervals}")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(handles), 5))
    return figure


def _points(axes: Axes, own: pd.DataFrame, column: str, portion: str, place: int) -> None:
    """A portion's domains; hollow ones are within noise."""
    marker, colour = [*MARKS.items()][place % len(MARKS)]
    faces = ["white" if outcome == SAME else colour for outcome in own["outcome"]]
    size = 38 if len(own) <= NAMED else 14
    axes.scatter(own[column], own["log_change"], s=size, marker=marker, facecolor=faces, edgecolor=colour, zorder=3)
    # For the legend: a shape that is filled, whatever the first domain is.
    axes.scatter([], [], s=38, marker=marker, color=colour, label=cut(portion, 30))


def _name_worst(axes: Axes, table: pd.DataFrame, column: str) -> None:
    """Names beside the domains that came off worst, on the side that has more room, unless two would collide."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    named: list[tuple[float, float]] = []
    for row in table.nlargest(NAMED_WORST if len(table) <= NAMED else 1, "log_change").to_dict("records"):
        x, y = row[column], row["log_change"]
        if any(abs(y - v) < 0.04 * (top - bottom) and abs(x - u) < 0.5 * (right - left) for u, v in named):
            continue
        named.append((x, y))
        near = x < (left + right) / 2
        axes.annotate(
            middle(row["domain"], 26),
            (x, y),
            (6 if near else -6, 0),
            textcoords="offset points",
            ha="left" if near else "right",
            va="center",
            fontsize=8,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            zorder=4,
        )


def _ratio_axis(axes: Axes) -> None:
    """Round ratios on a vertical axis of their logarithms, or, in a range that has few of them, evenly spaced ones."""
    bottom, top = axes.get_ylim()
    inside = [math.log(ratio) for ratio in RATIOS if bottom <= math.log(ratio) <= top]
    axes.yaxis.set_major_locator(FixedLocator(inside) if len(inside) > 3 else MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"×{float(f'{math.exp(value):.3g}'):g}"))


@styled
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
    title(figure, f"Perplexity during adaptation: {model}", "Each panel has its own scale, not starting at zero.")
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _unit(values: pd.Series) -> pd.Series:
    """Rescaled to run from 0 to 1; all 0.5 if there is nothing to tell apart."""
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread else values * 0 + 0.5
