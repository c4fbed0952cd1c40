"""How the figures look, and how they are saved.

Colours are Okabe and Ito's, told apart with any colour vision, and shapes repeat what they
say. Equal input gives equal bytes: no dates, no random ids, no user's matplotlibrc.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import matplotlib.style
from matplotlib.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#555555"
PALE = "#D6E8F4"
"""BLUE where something is only shown, and not claimed."""

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


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Makes a function draw in STYLE, whatever the user's matplotlibrc says."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.style.context(STYLE, after_reset=True):
            return function(*args, **kwargs)

    return run


@styled
def save(figure: Figure, path: Path) -> None:
    """Write a .png or .svg without anything that differs from run to run."""
    nothing = {"Software": None} if path.suffix == ".png" else {"Date": None, "Creator": None}
    figure.savefig(path, metadata=nothing)


def title(figure: Figure, what: str, reading: str) -> None:
    """What a figure shows, and below it how to read it."""
    figure.suptitle(f"{what}\n{reading}", fontsize=10)
