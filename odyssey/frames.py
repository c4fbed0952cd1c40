"""Result tables on disk as pandas frames."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

TEXT = (
    *("model", "domain", "portion", "token", "class", "outcome", "unit", "trained", "scored", "document"),
    *("claim", "statement", "source", "statistic", "verdict", "reason"),
)
"""Columns that are text whatever stands in them."""


def read_frame(path: Path) -> pd.DataFrame:
    """A CSV as it was written: a token or domain called "NA", "null" or "1" is text; an empty number is NaN."""
    numbers = {column: [""] for column in pd.read_csv(path, nrows=0).columns if column not in TEXT}
    return pd.read_csv(path, keep_default_na=False, na_values=numbers, dtype=dict.fromkeys(TEXT, str))


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame for `read_frame`; floats keep every digit."""
    frame.to_csv(path, index=False, lineterminator="\n")
