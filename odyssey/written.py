"""Result files whose checksums are right and whose content is not what this version writes: who reads them says so.

Such files come of another version, or of someone who sealed what was altered.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from odyssey.errors import OdysseyError
from odyssey.frames import TEXT

WRONG = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, EOFError)
"""What reading ends in where a key or column is missing, a value is of another kind, or an array of another shape."""


@contextmanager
def as_written(folder: Path, stage: str) -> Iterator[None]:
    """Around reading a result of `stage`, and the least that is made of it; nothing else belongs inside.

    Raises OdysseyError naming the folder for what is not as it should be.
    """
    with read_of(str(folder), f"delete it and run `dvc repro {stage}`"):
        yield


@contextmanager
def read_of(place: str, remedy: str) -> Iterator[None]:
    """The same of what no stage makes again."""
    try:
        yield
    except WRONG as error:
        told = " ".join(str(error).split())[:200]
        what = f"{type(error).__name__}: {told}" if told else type(error).__name__
        # Its cause goes with it: should it be a bug of ours, that says where.
        raise OdysseyError(f"{place}: not as this version writes it ({what}); {remedy}") from error


def check_columns(table: pd.DataFrame, columns: Collection[str], text: Collection[str] = ()) -> None:
    """Raise ValueError unless the table has these columns, with finite numbers, or none, in all that are not text.

    `text` are such columns beside those that are text in every table.
    """
    for column in columns:
        if column not in table:
            raise ValueError(f"no column '{column}'")
        is_number = pd.api.types.is_numeric_dtype(table[column])
        if len(table) and not is_number and column not in TEXT and column not in text:
            raise ValueError(f"text in column '{column}'")
        if is_number and np.isinf(table[column]).any():
            raise ValueError(f"an infinite number in column '{column}'")


def by(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The table by columns that tell its rows apart; raises ValueError if they do not."""
    found = table.set_index(list(columns))
    if not found.index.is_unique:
        raise ValueError(f"several rows of the same {' and '.join(columns)}")
    return found


def check_numbers(held: Mapping[str, Any], *keys: str, above_zero: bool = False) -> None:
    """Raise KeyError, TypeError or ValueError unless there are numbers under these keys."""
    for key in keys:
        if isinstance(held[key], bool) or not isinstance(held[key], int | float):
            raise TypeError(f"'{key}' is no number")
        if above_zero and not held[key] > 0:
            raise ValueError(f"'{key}' is {held[key]}")


def check_rows(table: pd.DataFrame, columns: Collection[str]) -> None:
    """The same, and ValueError for a table without rows."""
    check_columns(table, columns)
    if table.empty:
        raise ValueError("a table without rows")
