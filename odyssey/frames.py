"""Result tables on disk as pandas frames."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from odyssey.errors import OdysseyError

TEXT = (
    *("model", "domain", "portion", "token", "class", "outcome", "unit", "trained", "scored", "document"),
    *("claim", "statement", "source", "statistic", "verdict", "reason"),
)
"""Columns that are text whatever stands in them."""


def read_frame(path: Path) -> pd.DataFrame:
    """A CSV as it was written: a token or domain called "NA", "null" or "1" is text; an empty number is NaN.

    Raises OdysseyError naming the file if it is missing or not CSV.
    """
    try:
        # A row ends at \n only: the writer leaves a lone \r without quotes.
        columns = pd.read_csv(path, nrows=0, lineterminator="\n").columns
        numbers = {column: [""] for column in columns if column not in TEXT}
        text = dict.fromkeys(TEXT, str)
        return pd.read_csv(path, lineterminator="\n", keep_default_na=False, na_values=numbers, dtype=text)
    except FileNotFoundError:
        raise OdysseyError(f"{path}: not there; run its stage again") from None
    except (OSError, ValueError) as error:  # pandas' own are among the second
        reason = str(error).strip().partition("\n")[0]
        raise OdysseyError(f"{path}: damaged ({reason}); delete its folder and run its stage again") from None


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame for `read_frame`; floats keep every digit."""
    frame.to_csv(path, index=False, lineterminator="\n")
